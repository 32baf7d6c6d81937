"""Connects to endpoints."""

import asyncio
import time

from gateway.address import split_address, unix_path
from gateway.http2.handler import OutputQueue
from gateway.net.protocol import ConnectionWire
from gateway.proxy.upstream import Dialer, UpstreamLink


class SocketDialer(Dialer):
    """Dials over TCP, or over a unix socket for "unix:/path"."""

    def __init__(self, output: OutputQueue, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._output = output
        self._loop = loop
        self._dials: dict[UpstreamLink, asyncio.Task[None]] = {}

    def dial(self, link: UpstreamLink) -> None:
        """Start connecting."""
        self._dials[link] = self._loop.create_task(self._connect(link))

    def abandon(self, link: UpstreamLink) -> None:
        """Stop connecting."""
        task = self._dials.pop(link, None)
        if task is not None:
            task.cancel()

    async def _connect(self, link: UpstreamLink) -> None:
        """Make the transport; whatever goes wrong becomes the link's failure, in words."""
        try:
            await self._open(link)
        except (OSError, ValueError) as error:
            self._dials.pop(link, None)
            link.failed(plain_reason(error), time.monotonic())
        else:
            self._dials.pop(link, None)

    async def _open(self, link: UpstreamLink) -> None:
        wire = UpstreamWire(link, self._output)
        path = unix_path(link.endpoint.address)
        if path is not None:
            await self._loop.create_unix_connection(lambda: wire, path)
        else:
            host, port = split_address(link.endpoint.address)
            await self._loop.create_connection(lambda: wire, host, port)


class UpstreamWire(ConnectionWire):
    """A transport to an endpoint."""

    def __init__(self, link: UpstreamLink, output: OutputQueue) -> None:
        super().__init__(output, False, link)
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected: say the preface in this very turn."""
        super().connection_made(transport)
        self._link.connected(self.connection)


def plain_reason(error: Exception) -> str:
    """An operating system's error without its number and address."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)
