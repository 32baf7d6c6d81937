"""Accepts clients."""

import asyncio
import errno

from gateway.address import format_address, split_address
from gateway.http2.handler import OutputQueue
from gateway.net.protocol import ConnectionWire
from gateway.proxy.downstream import Downstream
from gateway.proxy.proxy import Proxy

# Connections that may wait to be accepted.
BACKLOG = 1024


class ListenError(Exception):
    """An address that cannot be listened on; the text is one sentence that names it."""


class Listener:
    """A listening socket that turns each accepted connection into a Downstream of the proxy."""

    def __init__(self, proxy: Proxy, output: OutputQueue) -> None:
        self._proxy = proxy
        self._output = output
        self._server: asyncio.Server | None = None

    async def start(self, address: str) -> str:
        """Listen on "host:port"; returns the address in force (port 0 means any). Raises ListenError."""
        host, port = split_address(address)
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._accept, host, port, backlog=BACKLOG)
        except OSError as error:
            raise ListenError(explain(address, error)) from error
        bound = self._server.sockets[0].getsockname()
        return format_address(host, bound[1])

    def _accept(self) -> ConnectionWire:
        return DownstreamWire(self._proxy, self._output)

    def close(self) -> None:
        """Accept no more; what is open stays."""
        if self._server is not None:
            self._server.close()


class DownstreamWire(ConnectionWire):
    """A client's transport: its address is known once the transport is."""

    def __init__(self, proxy: Proxy, output: OutputQueue) -> None:
        self._downstream = Downstream(proxy)
        super().__init__(output, True, self._downstream)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple) and len(peer) >= 2:
            self._downstream.peer_host = str(peer[0])
            self._downstream.peer_port = int(peer[1])
        self._downstream.connected(self.connection)


def explain(address: str, error: OSError) -> str:
    """Why an address cannot be listened on, in one sentence."""
    if error.errno == errno.EADDRINUSE:
        return f"{address} is in use by another process; stop it or choose another address"
    if error.errno == errno.EACCES:
        return f"no permission to listen on {address}; ports below 1024 need privileges"
    return f"cannot listen on {address}: {error.strerror or error}"
