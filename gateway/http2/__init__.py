"""HTTP/2 (RFC 9113) and HPACK (RFC 7541), sans-IO: knows nothing of gRPC, routes or sockets."""
