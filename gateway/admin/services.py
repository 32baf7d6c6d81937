"""The gateway's own gRPC services on a server of their own, which the gateway forwards to like to any upstream.

The server listens on a unix socket in a directory that only this user can enter.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

from grpc import aio
from grpc_health.v1 import health_pb2_grpc

from gateway.admin import reflection
from gateway.admin.health import HealthServicer, MeshHealth
from gateway.admin.library import FetchDescriptorSet, Library
from gateway.admin.reflection import ReflectionServicer
from gateway.admin.signal import Signal
from gateway.control.view import MeshView
from gateway.proxy.snapshot import Snapshot

# Health and reflection requests are names; nobody needs more.
MAX_REQUEST_BYTES: Final = 64 * 1024
# Watches never end by themselves, so waiting longer at the end gains nothing (seconds).
STOP_GRACE_S: Final = 0.2
# The address of a unix socket holds 107 bytes (unix(7)); "/meshway-XXXXXXXX/own.sock" is 26 of them.
MAX_TEMP_DIRECTORY: Final = 80

_OPTIONS: Final = [
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    # The only client is the gateway, whose keepalive must never look like an attack.
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
]


class OwnServices:
    """Health and reflection for the gateway and the mesh behind it.

    ``view`` and ``snapshot`` give the newest of each; ``fetch_descriptor_set`` gets a FileDescriptorSet by its digest
    from where the instances registered. Belongs to the event loop that starts it; start it after a fork.
    """

    OWN_SERVICES: ClassVar[list[str]] = reflection.OWN_SERVICES

    def __init__(
        self,
        view: Callable[[], MeshView],
        snapshot: Callable[[], Snapshot],
        fetch_descriptor_set: FetchDescriptorSet | None,
    ) -> None:
        self._view = view
        self._fetch = fetch_descriptor_set
        self._health = MeshHealth(view, snapshot, self.OWN_SERVICES)
        self._changed = Signal()
        self._server: aio.Server | None = None
        self._directory: Path | None = None

    async def start(self) -> str:
        """Serve; returns the address, "unix:/path"."""
        loop = asyncio.get_running_loop()
        library = Library(self._view, self.OWN_SERVICES, self._fetch, loop.time)
        server = aio.server(options=_OPTIONS)
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(self._health, self._changed), server)
        server.add_generic_rpc_handlers(ReflectionServicer(library.entries).handlers())
        self._directory = _private_directory()
        address = f"unix:{self._directory / 'own.sock'}"
        server.add_insecure_port(address)
        await server.start()
        self._server = server
        return address

    def notify(self) -> None:
        """A new snapshot is in force: health watchers look at once."""
        self._changed.notify()

    def drain(self) -> None:
        """From now on everything is NOT_SERVING, whatever the mesh does."""
        self._health.draining = True
        self._changed.notify()

    async def stop(self) -> None:
        """End open streams, stop serving and remove the socket. Idempotent."""
        if self._server is not None:
            await self._server.stop(STOP_GRACE_S)
            self._server = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None


def _private_directory() -> Path:
    """A fresh directory of mode 0700, at a place whose path is short enough for a socket address."""
    place = tempfile.gettempdir()
    if len(place.encode()) > MAX_TEMP_DIRECTORY:
        place = "/tmp"
    return Path(tempfile.mkdtemp(prefix="meshway-", dir=place))
