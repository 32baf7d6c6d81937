"""The gateway's memory while somebody does not take what is sent, measured from outside."""

from __future__ import annotations

import asyncio
import json

import pytest
from calls import Caller, Conversation
from grpc import aio
from mesh import UNLIMITED, EchoServer, Mesh

MIB = 1 << 20
OFFERED = 1024  # messages of 1 MiB
GROWTH = 4 * MIB
NEIGHBOURS = 200
STREAM_WINDOW = 131_072  # what the gateway lets a server send ahead on one stream


async def warm(mesh: Mesh) -> int:
    """Send everything through once that the test will send, read it all, and take the measure then."""
    async with aio.insecure_channel(mesh.gateway.address, options=UNLIMITED) as channel:
        caller = Caller(channel, "interop.Echo")
        for kind in ("UnaryStream", "StreamStream"):
            conversation = caller.start(kind, [["send", 32, MIB]])
            await conversation.done()
            assert len(await conversation.rest()) == 32
        conversation = caller.start("StreamUnary", [["drain"]])
        await conversation.send(*[b"x" * MIB] * 32)
        await conversation.done()
        await conversation.rest()
        await neighbours(caller)
    await asyncio.to_thread(mesh.assert_idle)
    return mesh.gateway.rss()


async def neighbours(caller: Caller) -> None:
    """Unary calls on the same connection: all of them must come back."""
    for number in range(NEIGHBOURS):
        assert await caller.exchange("UnaryUnary", b"%d" % number) == [b"%d" % number]


@pytest.mark.parametrize("kind", ["UnaryStream", "StreamStream"])
async def test_a_stopped_reader_of_a_gibibyte(mesh: Mesh, caller: Caller, kind: str) -> None:
    before = await warm(mesh)
    stalled = caller.start(kind, [["send", OFFERED, MIB]], timeout=None)
    assert len(await stalled.read() or b"") == MIB
    highest = before
    for _ in range(4):
        await neighbours(caller)
        highest = max(highest, mesh.gateway.rss())
    assert highest - before < GROWTH, f"grew by {(highest - before) / MIB:.1f} MiB"
    assert mesh.gateway.counters()["calls"] == 1
    # It is stalled, not stuck.
    for _ in range(64):
        assert len(await stalled.read() or b"") == MIB
    assert mesh.gateway.rss() - before < GROWTH
    stalled.cancel()


async def test_a_server_that_stops_reading_a_gibibyte(mesh: Mesh, echo: EchoServer, caller: Caller) -> None:
    before = await warm(mesh)
    stalled = caller.start("StreamUnary", [["recv", 1], ["mark", "full"], ["hold"], ["drain"], ["count_all"]])
    sending = asyncio.create_task(send(stalled))
    await echo.saw(stalled.name, "full")
    highest = before
    for _ in range(4):
        await neighbours(caller)
        highest = max(highest, mesh.gateway.rss())
    assert highest - before < GROWTH, f"grew by {(highest - before) / MIB:.1f} MiB"
    assert not sending.done()
    sending.cancel()
    stalled.cancel()
    await echo.saw(stalled.name, "cancelled")


async def send(conversation: Conversation) -> None:
    """A gibibyte, as far as it is taken."""
    message = b"x" * MIB
    for _ in range(OFFERED):
        await conversation.call.write(message)


async def test_many_stopped_readers_cost_one_window_each(mesh: Mesh) -> None:
    """100 stalled streams on one connection: at most a stream's receive window is held for each."""
    before = await warm(mesh)
    # Without grpcio's estimate of the path, which would open its own windows ever further.
    options = [*UNLIMITED, ("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535)]
    async with aio.insecure_channel(mesh.gateway.address, options=options) as channel:
        caller = Caller(channel, "interop.Echo")
        stalled = [caller.start("UnaryStream", [["send", OFFERED, MIB]], timeout=None) for _ in range(100)]
        await asyncio.gather(*(one.headers() for one in stalled))
        await neighbours(caller)
        growth = mesh.gateway.rss() - before
        assert growth < 100 * STREAM_WINDOW + GROWTH, f"grew by {growth / MIB:.1f} MiB"
        for one in stalled:
            one.cancel()
        await asyncio.to_thread(mesh.assert_idle)


async def test_a_passing_message_of_64_mib_is_never_held(mesh: Mesh, caller: Caller) -> None:
    before = await warm(mesh)
    conversation = caller.start("StreamStream", [["headers"], ["echo"]], timeout=60)
    reading = asyncio.create_task(conversation.rest())
    await conversation.send(b"x" * (64 * MIB))
    await conversation.done()
    highest = before
    while not reading.done():
        highest = max(highest, mesh.gateway.rss())
        await asyncio.wait([reading], timeout=0.02)
    assert [len(message) for message in await reading] == [64 * MIB]
    assert highest - before < GROWTH, f"grew by {(highest - before) / MIB:.1f} MiB"


async def test_calls_that_come_and_go_leave_nothing(mesh: Mesh, caller: Caller) -> None:
    """Cancelled, failed and finished calls of all sizes: memory comes to rest."""
    before = await warm(mesh)
    for number in range(300):
        await caller.exchange("UnaryUnary", b"x" * 1000)
        failing = caller.start("StreamStream", [["send", 1, 1000], ["abort", "ABORTED", "no", ""]])
        await failing.read()
        await failing.failure()
        if number % 3 == 0:
            doomed = caller.start("UnaryStream", [["headers"], ["send", 4, 100_000]])
            await doomed.headers()
            doomed.cancel()
    await asyncio.to_thread(mesh.assert_idle)
    growth = mesh.gateway.rss() - before
    assert growth < GROWTH, f"grew by {growth / MIB:.1f} MiB: {json.dumps(mesh.gateway.counters())}"
