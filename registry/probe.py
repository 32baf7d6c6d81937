"""Asks a gRPC server, from beside it, whether it is up, whether it is well, and which services it has."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import grpc.aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from registry.client import split_address

CONNECT_TIMEOUT: Final = 1.0  # seconds; the server is on this machine, or next to it
CALL_TIMEOUT: Final = 3.0  # seconds; more than a busy server needs for a health check

# Both versions have the same messages under different names (grpc.reflection.v1 is v1alpha, promoted).
_REFLECTION: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
_HELPERS: Final = ("grpc.reflection.", "grpc.health.")

_OPTIONS: Final[list[tuple[str, Any]]] = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),
]
_SERVING: Final = health_pb2.HealthCheckResponse.SERVING


@dataclass(frozen=True)
class Probe:
    """The answer to one health check. ``sure`` is false when it did not come from the server itself."""

    serving: bool
    reason: str = ""
    sure: bool = True


class Prober:
    """Probes one server at "host:port". No method raises for a server that is away or sick."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._host, self._port = split_address(address)
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def accepts(self) -> bool:
        """Whether the address takes connections."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                _reader, writer = await asyncio.open_connection(self._host, self._port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    async def check(self) -> Probe:
        """grpc.health.v1 Check(""): a server without that service, or without a word on itself, counts as well."""
        method = self._channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await method(health_pb2.HealthCheckRequest(), timeout=CALL_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND):
                return Probe(True)
            return Probe(False, f"its health check fails: {error.code().name}: {error.details()}", sure=False)
        if answer.status == _SERVING:
            return Probe(True)
        return Probe(False, f"its health check says {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}")

    async def grpc_services(self) -> tuple[str, ...] | None:
        """What it serves, by reflection: full names, without reflection and health themselves. None if it has none."""
        for service in _REFLECTION:
            names = await self._list(service)
            if names is not None:
                return tuple(sorted(name for name in names if not name.startswith(_HELPERS)))
        return None

    async def _list(self, service: str) -> list[str] | None:
        method = self._channel.stream_stream(
            f"/{service}/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        try:
            async for answer in method(iter([request]), timeout=CALL_TIMEOUT):
                if answer.HasField("list_services_response"):
                    return [listed.name for listed in answer.list_services_response.service]
                return None
        except grpc.aio.AioRpcError:
            return None
        return None


class HealthJudge:
    """Says when a series of probes makes a server ready or not: a sure answer at once, silence the second time."""

    SILENCES: Final = 2  # one lost check is a busy moment, two in a row are a fault

    def __init__(self, tell: Callable[[bool, str], None]) -> None:
        self._tell = tell
        self._ready = True
        self._silent = 0

    def hear(self, probe: Probe) -> None:
        """Take one probe in; ``tell(ready, reason)`` is called when it changes the judgement."""
        self._silent = 0 if probe.serving or probe.sure else self._silent + 1
        if not probe.serving and not probe.sure and self._silent < self.SILENCES:
            return
        if probe.serving != self._ready:
            self._ready = probe.serving
            self._tell(probe.serving, probe.reason)
