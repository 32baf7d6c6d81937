"""One question to a server's health service, as an exit code: what HEALTHCHECK and kubelet exec probes run."""

import grpc
from grpc_health.v1 import health_pb2

SERVING = 0
UNREACHABLE = 2
NOT_SERVING = 4

# A proxy for the way out to the internet has no business between a probe and its server.
_OPTIONS = [("grpc.enable_http_proxy", 0)]


def probe(address: str, service: str, timeout: float) -> tuple[int, str]:
    """The exit code and one line. ``timeout`` in seconds bounds connecting and asking together."""
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = check(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        except grpc.RpcError as error:
            return UNREACHABLE, f"{address}: {error.code().name}: {error.details()}"
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return (SERVING if answer.status == health_pb2.HealthCheckResponse.SERVING else NOT_SERVING), f"{address}: {name}"
