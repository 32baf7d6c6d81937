"""Messages far larger than any window, and streams of very many small ones."""

from __future__ import annotations

import asyncio
import json

import grpc
import pytest
from calls import KINDS, Caller
from mesh import Mesh

MIB = 1 << 20
LARGE = 64 * MIB
MANY = 100_000
SMALL = 10


@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_of_64_mib(caller: Caller, kind: str) -> None:
    """In both directions: what the server counted, and what came back."""
    if kind.startswith("Stream"):
        conversation = caller.start(kind, [["headers"], ["echo"]], timeout=60)
        await conversation.send(pattern())
        await conversation.done()
    else:
        conversation = caller.start(kind, request=pattern(), script=[["headers"], ["echo"]], timeout=60)
    (answer,) = await conversation.rest()
    assert answer == pattern()


def pattern() -> bytes:
    """Every 4 bytes another number: a piece that is lost, doubled or misplaced shows."""
    return b"".join([number.to_bytes(4, "big") for number in range(65536)]) * (LARGE // (4 * 65536))


async def test_100_000_messages_from_the_server(caller: Caller) -> None:
    conversation = caller.start("UnaryStream", [["send", MANY, SMALL]], timeout=100)
    assert sum([len(message) async for message in conversation.call]) == MANY * SMALL


async def test_100_000_messages_from_the_client(caller: Caller) -> None:
    conversation = caller.start("StreamUnary", [["drain"], ["count_all"]], timeout=100)
    for _ in range(MANY):
        await conversation.call.write(b"x" * SMALL)
    await conversation.done()
    assert json.loads((await conversation.rest())[0]) == [MANY, MANY * SMALL]


async def test_100_000_messages_both_ways(caller: Caller) -> None:
    """Each direction at its own pace: what is sent is no answer to what is received."""
    conversation = caller.start("StreamStream", [["send", MANY // 2, SMALL], ["echo"]], timeout=100)

    async def send() -> None:
        for _ in range(MANY // 2):
            await conversation.call.write(b"x" * SMALL)
        await conversation.done()

    sending = asyncio.create_task(send())
    assert sum([len(message) async for message in conversation.call]) == MANY * SMALL
    await sending


@pytest.mark.parametrize("kind", ["UnaryStream", "StreamStream"])
async def test_a_client_that_stops_reading_for_good(mesh: Mesh, caller: Caller, kind: str) -> None:
    """Its call stalls alone, and its end is still possible: by a cancel, and by the deadline."""
    stalled = caller.start(kind, [["send", 64, MIB]])
    doomed = caller.start(kind, [["send", 64, MIB]], timeout=1.5)
    assert len(await stalled.read() or b"") == len(await doomed.read() or b"") == MIB
    for number in range(50):
        assert await caller.exchange("UnaryUnary", b"%d" % number) == [b"%d" % number]
    assert mesh.gateway.counters()["calls"] == 2
    stalled.cancel()
    code = await doomed.call.code()
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
