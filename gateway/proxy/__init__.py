"""One call through the gateway, sans-IO: the phases, the forwarding, the pools."""
