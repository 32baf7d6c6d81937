"""The operator's endpoint: a few read-only pages over HTTP/1.1, for a browser, curl or a probe on the same machine.

One request a connection, GET only, no body, no state. Knows nothing of what the pages show.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from gateway.address import format_address, split_address

logger = logging.getLogger(__name__)

# Browsers send about 1 KiB; this is what other servers allow.
MAX_HEAD_BYTES: Final = 8 * 1024
# Nobody types a request; a client that takes longer holds one of few places.
HEAD_TIMEOUT_S: Final = 5.0
# A person, a probe and a scraper or two. One more is closed at once: even a refusal would have to read its request.
MAX_CONNECTIONS: Final = 32

Pages = Mapping[str, Callable[[], object]]


class AdminError(Exception):
    """The endpoint cannot be opened: one sentence for the person who asked for it."""


class Reply:
    """What a page returns to choose its status; any other value is answered with 200. ``body`` as for a page."""

    def __init__(self, status: int, body: object) -> None:
        self.status = status
        self.body = body


class AdminServer:
    """Serves ``pages``, a map from paths ("/counters") to callables.

    A page's value becomes JSON, a string plain text. ``listen`` is "host:port" or "[v6]:port".
    """

    def __init__(self, listen: str, pages: Pages) -> None:
        self._listen = listen
        self._pages = dict(pages)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> str:
        """Listen; returns the actual "host:port". Raises AdminError."""
        host, port = _parse(self._listen)
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_HEAD_BYTES)
        except OSError as error:
            reason = error.strerror or str(error)
            raise AdminError(f"The admin endpoint cannot listen on {self._listen}: {reason}.") from error
        name = self._server.sockets[0].getsockname()
        return format_address(name[0], name[1])

    async def stop(self) -> None:
        """Close the listener and what is connected. Idempotent."""
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._open):
            writer.close()
        await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            writer.close()
            return
        self._open.add(writer)
        try:
            writer.write(await self._answer_to(reader))
            async with asyncio.timeout(HEAD_TIMEOUT_S):
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            # The client left, or never finished its request: nobody to answer.
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer_to(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(HEAD_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _answer(Reply(431, f"The request head is larger than {MAX_HEAD_BYTES} bytes."))
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1.") or not words[1].startswith(b"/"):
            return _answer(Reply(400, "This is not an HTTP/1.1 request for a path."))
        if words[0] != b"GET":
            return _answer(Reply(405, "Everything here is read with GET."), "allow: GET\r\n")
        return self._page(words[1].split(b"?", 1)[0].decode("latin-1"))

    def _page(self, path: str) -> bytes:
        page = self._pages.get(path)
        if page is None:
            known = "  ".join(sorted(self._pages))
            return _answer(Reply(200 if path == "/" else 404, f"Pages: {known}"))
        try:
            value = page()
            return _answer(value if isinstance(value, Reply) else Reply(200, value))
        except Exception:
            # One page's mistake is no reason to take the others away.
            logger.exception("The admin page %s failed", path)
            return _answer(Reply(500, f"{path} failed; the gateway's log says why."))


def _answer(reply: Reply, more: str = "") -> bytes:
    if isinstance(reply.body, str):
        kind, body = "text/plain; charset=utf-8", f"{reply.body}\n"
    else:
        kind, body = "application/json", json.dumps(reply.body, indent=2) + "\n"
    content = body.encode()
    head = (
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\n"
        f"content-type: {kind}\r\ncontent-length: {len(content)}\r\n"
        f"cache-control: no-store\r\nx-content-type-options: nosniff\r\n{more}connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + content


def _parse(listen: str) -> tuple[str, int]:
    try:
        return split_address(listen)
    except ValueError as error:
        raise AdminError(f"The admin address {listen!r} is not HOST:PORT, such as 127.0.0.1:9901.") from error
