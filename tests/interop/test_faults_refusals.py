"""Servers that refuse, reset, go away or speak something else: what is tried again, and what the client is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import h2.settings
import pytest
from calls import Caller
from grpc import aio
from mesh import Mesh, unique
from rawh2 import RawClient, RawPeer, RawServer, fields_of
from wire import CANCEL, GOAWAY, REFUSED, RST_STREAM, frame, message

from registry.client import Registration

Join = Callable[..., Any]


class Refusing(RawServer):
    """Resets its first requests with a code, each as a whole, and answers the others."""

    def __init__(self, code: int, times: int) -> None:
        super().__init__()
        self._code = code
        self._left = times
        self.seen: list[bytes] = []

    def on_request(self, peer: RawPeer, stream: int) -> None:
        self.seen.append(peer.bodies[stream])
        if self._left:
            self._left -= 1
            peer.h2.reset_stream(stream, self._code)
        else:
            peer.respond(stream)


@pytest.fixture
async def join(mesh: Mesh) -> AsyncIterator[Join]:
    """Registers servers of this process as instances of one service: ``service = await join(server, ...)``."""
    async with AsyncExitStack() as stack:
        names: list[str] = []

        async def register(*servers: RawServer) -> str:
            service, declared = unique("raw-"), unique("interop.R")
            for server in servers:
                await stack.enter_async_context(server)
                lease = Registration(
                    mesh.registry.address,
                    service=service,
                    address=server.address,
                    instance_id=f"{service}-{len(names)}",
                    grpc_services=[declared],
                )
                await stack.enter_async_context(lease)
                names.append(lease.instance_id)
            await asyncio.to_thread(mesh.gateway.await_instances, *names)
            return declared

        yield register
    await asyncio.to_thread(mesh.gateway.await_gone, *names)


async def test_a_refused_stream_is_tried_again_with_its_whole_request(join: Join, channel: aio.Channel) -> None:
    refusing = Refusing(REFUSED, 1)
    caller = Caller(channel, await join(refusing))
    body = b"y" * 40_000
    assert await caller.exchange("UnaryUnary", body) == [b"raw"]
    assert refusing.seen == [message(body)] * 2


async def test_a_refused_stream_is_tried_elsewhere(join: Join, channel: aio.Channel) -> None:
    refusing = Refusing(REFUSED, 1000)
    caller = Caller(channel, await join(refusing, RawServer()))
    for _ in range(20):
        assert await caller.exchange("UnaryUnary", b"x") == [b"raw"]
    assert len(refusing.seen) >= 10


async def test_a_call_that_is_refused_twice_fails(join: Join, channel: aio.Channel) -> None:
    refusing = Refusing(REFUSED, 2)
    failure = await Caller(channel, await join(refusing)).start("UnaryUnary").failure()
    assert failure.code() is grpc.StatusCode.UNAVAILABLE
    assert "REFUSED_STREAM" in (failure.details() or "")
    assert len(refusing.seen) == 2


RESETS = {
    0x0: grpc.StatusCode.INTERNAL,
    0x1: grpc.StatusCode.INTERNAL,
    0x2: grpc.StatusCode.INTERNAL,
    0x8: grpc.StatusCode.CANCELLED,
    0xB: grpc.StatusCode.RESOURCE_EXHAUSTED,
    0xC: grpc.StatusCode.PERMISSION_DENIED,
    0xABCD: grpc.StatusCode.INTERNAL,
}


class Resetting(RawServer):
    """Resets each request with the code that it asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def on_request(self, peer: RawPeer, stream: int) -> None:
        self.count += 1
        peer.h2.reset_stream(stream, int(peer.heads[stream]["x-code"]))


async def test_any_other_reset_is_reported_and_not_tried_again(join: Join, channel: aio.Channel) -> None:
    resetting = Resetting()
    caller = Caller(channel, await join(resetting))
    for code, status in RESETS.items():
        failure = await caller.start("UnaryUnary", metadata=[("x-code", str(code))]).failure()
        assert failure.code() is status
        assert f"{resetting.address} reset the stream" in (failure.details() or "")
    assert resetting.count == len(RESETS)


async def test_streams_beyond_a_goaway_are_tried_again_and_others_finish(join: Join, channel: aio.Channel) -> None:
    leaving = GracefulServer()
    caller = Caller(channel, await join(leaving))
    first = caller.start("UnaryUnary")
    first_answer = asyncio.ensure_future(first.call)
    await leaving.first.wait()
    assert await caller.exchange("UnaryUnary", b"second") == [b"raw"]
    assert len(leaving.peers) == 2
    leaving.finish()
    assert await first_answer == b"raw"


class GracefulServer(RawServer):
    """Holds the first request; at the second one says GOAWAY for all but the first, by hand: h2 ends with its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = asyncio.Event()

    def on_request(self, peer: RawPeer, stream: int) -> None:
        if peer is not self.peers[0]:
            peer.respond(stream)
        elif stream == 1:
            self.first.set()
        else:
            peer.write(goaway(1))

    def finish(self) -> None:
        """Answer the first request, on the connection that goes away."""
        self.peers[0].respond(1)
        self.peers[0].flush()


def goaway(last: int) -> bytes:
    """GOAWAY with NO_ERROR."""
    return frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + bytes(4))


GRPC = [(":status", "200"), ("content-type", "application/grpc")]


class Odd(RawServer):
    """Answers with what is no gRPC answer, or ends before it should: as the metadata asks."""

    def on_request(self, peer: RawPeer, stream: int) -> None:
        getattr(self, peer.heads[stream]["x-odd"])(peer, stream)

    def no_trailers(self, peer: RawPeer, stream: int) -> None:
        peer.h2.send_headers(stream, GRPC)
        peer.h2.send_data(stream, message(b"x"), end_stream=True)

    def bare_headers(self, peer: RawPeer, stream: int) -> None:
        peer.h2.send_headers(stream, GRPC, end_stream=True)

    def status_503(self, peer: RawPeer, stream: int) -> None:
        peer.h2.send_headers(stream, [(":status", "503"), ("content-type", "text/html")])
        peer.h2.send_data(stream, b"<html>", end_stream=True)

    def html(self, peer: RawPeer, stream: int) -> None:
        peer.h2.send_headers(stream, [(":status", "200"), ("content-type", "text/html")])
        peer.h2.send_data(stream, b"<html>", end_stream=True)

    def status_out_of_range(self, peer: RawPeer, stream: int) -> None:
        peer.respond(stream, message(b"x"), ("grpc-status", "12345678901234567890"))


ODDITIES = [
    ("no_trailers", grpc.StatusCode.INTERNAL, "ended the stream without sending trailers"),
    ("bare_headers", grpc.StatusCode.UNKNOWN, "without a grpc-status"),
    ("status_503", grpc.StatusCode.UNAVAILABLE, "answered HTTP status 503"),
    ("html", grpc.StatusCode.UNKNOWN, "content-type text/html, not gRPC"),
    ("status_out_of_range", grpc.StatusCode.UNKNOWN, ""),
]


async def test_what_is_no_grpc_answer_becomes_a_status(join: Join, channel: aio.Channel) -> None:
    odd = Odd()
    caller = Caller(channel, await join(odd))
    for name, status, said in ODDITIES:
        failure = await caller.start("UnaryUnary", metadata=[("x-odd", name)]).failure()
        assert failure.code() is status, name
        if said:
            assert (failure.details() or "").startswith(odd.address)
            assert said in (failure.details() or "")


class Hasty(RawServer):
    """Answers a request's headers, and resets the stream."""

    def on_head(self, peer: RawPeer, stream: int) -> None:
        peer.respond(stream, message(b"raw"), ("grpc-status", "0"), ("last", "word"))
        peer.write(peer.h2.data_to_send() + frame(RST_STREAM, 0, stream, bytes(4)))


async def test_trailers_outrank_the_reset_that_follows(join: Join, channel: aio.Channel) -> None:
    """The server answers while the client is still sending."""
    conversation = Caller(channel, await join(Hasty())).start("StreamUnary")
    assert await conversation.call == b"raw"
    assert dict(await conversation.call.trailing_metadata())["last"] == "word"


class Impolite(RawServer):
    """Accepts connections, and speaks HTTP/1.1 on them."""

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()


async def test_a_server_that_speaks_http1(join: Join, channel: aio.Channel) -> None:
    impolite = Impolite()
    failure = await Caller(channel, await join(impolite)).start("UnaryUnary").failure()
    assert failure.code() is grpc.StatusCode.UNAVAILABLE
    assert impolite.address in (failure.details() or "")


class OneAtATime(RawServer):
    """Takes one stream a connection, and answers when told."""

    settings = {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1}  # noqa: RUF012 - read only

    def __init__(self) -> None:
        super().__init__()
        self.waiting: asyncio.Queue[tuple[RawPeer, int]] = asyncio.Queue()

    def on_request(self, peer: RawPeer, stream: int) -> None:
        self.waiting.put_nowait((peer, stream))


async def test_more_connections_are_made_for_a_server_that_takes_few_streams(
    join: Join, mesh: Mesh, channel: aio.Channel
) -> None:
    """Ten at the most; what is beyond waits for a stream, and gets it."""
    narrow = OneAtATime()
    caller = Caller(channel, await join(narrow))
    calls = [asyncio.create_task(caller.exchange("UnaryUnary", b"x")) for _ in range(25)]
    held = [await narrow.waiting.get() for _ in range(10)]
    await asyncio.to_thread(mesh.gateway.await_counter, "waiting_for_a_link", 15)
    counters = mesh.gateway.counters()
    assert (counters["calls"], counters["waiting_for_a_link"], counters["upstream_streams"]) == (25, 15, 10)
    assert len(narrow.peers) == 10
    for _ in range(25):
        peer, stream = held.pop() if held else await narrow.waiting.get()
        peer.respond(stream)
        peer.flush()
    assert await asyncio.gather(*calls) == [[b"raw"]] * 25
    assert len(narrow.peers) == 10


async def test_a_cancel_while_waiting_for_a_stream(join: Join, mesh: Mesh, channel: aio.Channel) -> None:
    """The server never hears of such a call."""
    narrow = OneAtATime()
    caller = Caller(channel, await join(narrow))
    calls = [caller.start("UnaryUnary") for _ in range(10)]
    held = [await narrow.waiting.get() for _ in range(10)]
    late = [caller.start("UnaryUnary") for _ in range(5)]
    await asyncio.to_thread(mesh.gateway.await_counter, "waiting_for_a_link", 5)
    for call in late:
        call.cancel()
    await asyncio.to_thread(mesh.gateway.await_counter, "waiting_for_a_link", 0)
    for call in calls:
        call.cancel()
    for peer, _ in held:
        assert await peer.reset.get() == CANCEL
    await asyncio.to_thread(mesh.gateway.assert_idle)
    assert narrow.waiting.empty()


async def test_the_head_that_a_server_gets(join: Join, mesh: Mesh) -> None:
    """Hop-by-hop fields are made anew, all others pass in order, and nothing is added but the trace."""

    class Noting(RawServer):
        pass

    noting = Noting()
    service = await join(noting)
    async with RawClient(mesh.gateway.address) as client:
        stream = await client.request(
            f"/{service}/M",
            ("grpc-timeout", "5S"),
            ("user-agent", "raw/1"),
            ("grpc-encoding", "identity"),
            ("grpc-previous-rpc-attempts", "2"),
            ("x-unknown", "kept"),
            ("grpc-unknown", "kept"),
        )
        assert fields_of(await client.finish(stream))["grpc-status"] == "0"
    head = noting.peers[0].heads[1]
    assert (head[":method"], head[":path"], head[":authority"]) == ("POST", f"/{service}/M", "mesh.test")
    assert (head["te"], head["user-agent"], head["x-unknown"], head["grpc-unknown"]) == (
        "trailers",
        "raw/1",
        "kept",
        "kept",
    )
    assert head["grpc-timeout"].endswith("u")
    assert 4_000_000 < int(head["grpc-timeout"][:-1]) < 5_000_000
