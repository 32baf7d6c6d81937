"""The registry as a server: bind, serve the lease API, health and reflection, turn the lease clock, stop cleanly."""

import asyncio
import contextlib
import logging
import os
import random
import re
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_health.v1.health import aio as health_aio

from registry.engine import Engine, Stats, open_engine
from registry.errors import ListenError
from registry.leases import TICK_SECONDS
from registry.model import ID_BYTES
from registry.reflection import add_reflection
from registry.rules import MAX_TTL_MS, MIN_TTL_MS
from registry.servicer import MAX_MESSAGE_BYTES, SERVICE, WRITE_PROGRESS_SECONDS, RegistryServicer
from registry.store.base import Store
from registry.store.memory import MemoryStore

logger = logging.getLogger(__name__)

_LISTEN = re.compile(r"(\[[^\[\]]+\]|[^\[\]:]+):([0-9]{1,5})")

GRPC_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second registry on the same port must fail, not take every other connection
    # Four times what is taken: up to there the refusal is ours and says why, above it the library's own.
    ("grpc.max_receive_message_length", 4 * MAX_MESSAGE_BYTES),
    # Watches and beats are quiet for seconds: a peer that vanished is found by pings, and clients may ping as well.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)


@dataclass(frozen=True)
class RegistryOptions:
    """How to run a registry. ``listen`` is "host:port" (port 0: any free one); times are in ms or seconds by name.

    ``allow_local_addresses`` lets remote peers register loopback and link-local addresses.
    """

    listen: str = "127.0.0.1:7500"
    min_ttl_ms: int = MIN_TTL_MS
    max_ttl_ms: int = MAX_TTL_MS
    allow_local_addresses: bool = False
    grace_seconds: float = 5.0
    write_progress_seconds: float = WRITE_PROGRESS_SECONDS

    def __post_init__(self) -> None:
        if not 0 < self.min_ttl_ms <= self.max_ttl_ms:
            raise ValueError(f"min_ttl_ms {self.min_ttl_ms} must be above 0 and at most max_ttl_ms {self.max_ttl_ms}")


class RegistryServer:
    """One registry in this process's event loop: ``await start()``, then ``address``; ``await stop()`` once.

    Without a ``store`` it keeps its records in memory only.
    """

    def __init__(self, options: RegistryOptions, store: Store | None = None) -> None:
        self.address = ""
        self._options = options
        self._store = store if store is not None else MemoryStore(_random_id())
        self._engine: Engine | None = None
        self._servicer: RegistryServicer | None = None
        self._server: grpc.aio.Server | None = None
        self._health = health_aio.HealthServicer()
        self._turns: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the store, bind and serve. Raises ListenError when the address cannot be had."""
        options = self._options
        host, port = await _check_listen(options.listen)
        self._engine = await open_engine(
            self._store, time.monotonic, random.Random(), _random_id, options.min_ttl_ms, options.max_ttl_ms
        )
        self._servicer = RegistryServicer(self._engine, options.allow_local_addresses, options.write_progress_seconds)
        server = grpc.aio.server(options=GRPC_OPTIONS)
        server.add_generic_rpc_handlers((self._servicer.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        add_reflection(server, (SERVICE, HEALTH_SERVICE))
        try:
            port = server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:  # somebody else was quicker than our own check
            raise ListenError(f"cannot listen on {options.listen}: the address is taken or not ours") from error
        await server.start()
        await self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        self._server = server
        self._turns = asyncio.create_task(_turn_forever(self._engine))
        self.address = f"{host}:{port}"
        logger.info("the registry listens on %s", self.address)

    async def stop(self) -> None:
        """Say NOT_SERVING, end the streams, let calls finish within the grace, give up the store."""
        if self._server is None or self._servicer is None or self._turns is None:
            return
        await self._health.enter_graceful_shutdown()
        self._servicer.close()
        await self._server.stop(self._options.grace_seconds)
        self._turns.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._turns
        await self._store.close()
        self._server = None

    def stats(self) -> Stats:
        """The registry's own numbers; after ``start``."""
        if self._engine is None:
            raise RuntimeError("the registry has not been started")
        return self._engine.stats()


async def serve_registry(options: RegistryOptions, ready: Callable[[str], None] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. ``ready`` is called with "host:port" once it listens.

    Raises ListenError when the address cannot be had. Only for the main thread: it takes over both signals.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        server = RegistryServer(options)
        await server.start()
        try:
            if ready is not None:
                ready(server.address)
            await stop.wait()
        finally:
            await server.stop()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    return 0


async def _turn_forever(engine: Engine) -> None:
    while True:
        await asyncio.sleep(TICK_SECONDS)
        try:
            await engine.turn()
        except Exception:  # leases must go on ending, whatever one turn ran into
            logger.exception("a turn of the lease clock failed because of a bug")


async def _check_listen(listen: str) -> tuple[str, int]:
    """Host and port of an address that can be bound, or a ListenError that says why not.

    grpc would only say that it failed, takes ports above 65535 for smaller ones, and complains on stderr.
    """
    match = _LISTEN.fullmatch(listen)
    if match is None or int(match.group(2)) > 65535:
        raise ListenError(f'cannot listen on {listen}: it is not "host:port" or "[v6]:port" with a port up to 65535')
    host, port = match.group(1), int(match.group(2))
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ListenError(f"cannot listen on {listen}: {error.strerror}") from error
    except UnicodeError as error:  # from the encoding of host names: an empty or overlong label
        raise ListenError(f"cannot listen on {listen}: {host} is no name of a host") from error
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise ListenError(f"cannot listen on {listen}: {os.strerror(error.errno or 0)}") from error
    return host, port


def _random_id() -> bytes:
    return os.urandom(ID_BYTES)
