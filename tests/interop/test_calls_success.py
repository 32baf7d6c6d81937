"""Calls that succeed, of all four kinds, with three client stacks and two server stacks."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from calls import KINDS, Caller
from grpclib_echo import Client
from mesh import EchoServer, Instance, Mesh, unique

MESSAGES = (b"one", b"", b"three" * 1000)
ANSWERS = {
    "UnaryUnary": [b"one"],
    "UnaryStream": [b"one"] * 3,
    "StreamUnary": [b"".join(MESSAGES)],
    "StreamStream": list(MESSAGES),
}
METADATA = (
    ("m-text", "one value"),
    ("m-twice", "a"),
    ("m-between", "b"),
    ("m-twice", "c, d"),
    ("m-raw-bin", bytes(range(256))),
    ("m-raw-bin", b""),
    ("m-raw-bin", b"\x00"),
)


@pytest.mark.parametrize("kind", KINDS)
async def test_messages_pass_both_ways(caller: Caller, kind: str) -> None:
    assert await caller.exchange(kind, *MESSAGES) == ANSWERS[kind]


@pytest.mark.parametrize("kind", KINDS)
async def test_metadata_passes_in_both_directions(caller: Caller, kind: str) -> None:
    conversation = caller.start(kind, [["drain"], ["mirror"], ["send", 1, 5]], metadata=METADATA)
    await conversation.done()
    assert await conversation.rest() == [b"xxxxx"]
    initial = await conversation.call.initial_metadata()
    trailing = await conversation.call.trailing_metadata()
    for received in (initial, trailing):
        for key in {key for key, _ in METADATA}:
            assert received.get_all(key) == [value for name, value in METADATA if name == key]
    assert await conversation.call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("kind", KINDS)
async def test_headers_come_before_any_message(caller: Caller, echo: EchoServer, kind: str) -> None:
    conversation = caller.start(kind, [["headers"], ["hold"], ["send", 1, 1]], early=True)
    assert (await conversation.headers())["x-instance"] == "echo-1"
    await echo.release(conversation.name)
    await conversation.done()
    assert await conversation.rest() == [b"x"]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_deadline_reaches_the_server(caller: Caller, kind: str) -> None:
    conversation = caller.start(kind, [["headers"], ["send", 1, 1]], timeout=20.0)
    remaining = float((await conversation.headers())["x-remaining"])
    assert 19.0 < remaining < 20.5  # grpcio sends its timeouts with three digits, rounded up
    await conversation.done()
    await conversation.rest()


async def test_no_deadline_is_made_up(caller: Caller) -> None:
    conversation = caller.start("UnaryUnary", timeout=None)
    assert (await conversation.headers())["x-remaining"] == ""
    await conversation.rest()


@pytest.mark.parametrize("kind", KINDS)
async def test_compressed_messages_pass_untouched(caller: Caller, kind: str) -> None:
    message = b"compressible " * 50_000
    conversation = caller.start(
        kind,
        [["gzip"], ["headers"], ["echo"]]
        if kind == "StreamStream"
        else [["gzip"], ["headers"], ["drain"], ["send", 1, 500_000]],
        request=message,
        compression=grpc.Compression.Gzip,
    )
    if conversation.sends:
        await conversation.send(message)
        await conversation.done()
    assert await conversation.rest() == [message if kind == "StreamStream" else b"x" * 500_000]


async def test_a_bidi_stream_is_a_dialogue(caller: Caller) -> None:
    conversation = caller.start("StreamStream")
    for number in range(50):
        await conversation.send(b"%d" % number)
        assert await conversation.read() == b"%d" % number
    await conversation.done()
    assert await conversation.rest() == []


@pytest.mark.parametrize("kind", ["StreamUnary", "StreamStream"])
async def test_a_server_may_end_before_the_client_does(caller: Caller, kind: str) -> None:
    conversation = caller.start(kind, [["recv", 1], ["send", 1, 4]])
    await conversation.send(b"first")
    assert await conversation.rest() == [b"xxxx"]
    assert await conversation.call.code() is grpc.StatusCode.OK


async def test_many_calls_at_once_on_one_connection(caller: Caller) -> None:
    kinds = KINDS * 50
    answers = await asyncio.gather(*(caller.exchange(kind, *MESSAGES) for kind in kinds))
    assert answers == [ANSWERS[kind] for kind in kinds]


@pytest.mark.parametrize("kind", KINDS)
def test_a_blocking_client(sync_channel: grpc.Channel, kind: str) -> None:
    path = f"/interop.Echo/{kind}"
    if kind == "UnaryUnary":
        answers = [sync_channel.unary_unary(path)(MESSAGES[0], timeout=20)]
    elif kind == "UnaryStream":
        answers = list(sync_channel.unary_stream(path)(MESSAGES[0], timeout=20))
    elif kind == "StreamUnary":
        answers = [sync_channel.stream_unary(path)(iter(MESSAGES), timeout=20)]
    else:
        answers = list(sync_channel.stream_stream(path)(iter(MESSAGES), timeout=20))
    assert answers == ANSWERS[kind]


async def test_grpclib_servers_and_clients_of_both_stacks(mesh: Mesh, channel: grpc.aio.Channel) -> None:
    service = unique("interop.L")
    mesh.serve(Instance(unique("grpclib-"), (service,), stack="grpclib"))
    for kind in KINDS:
        assert await Caller(channel, service).exchange(kind, *MESSAGES) == ANSWERS[kind]
    await call_with_grpclib(mesh, service)


async def test_a_grpclib_client_and_a_grpcio_server(mesh: Mesh) -> None:
    await call_with_grpclib(mesh, "interop.Echo")


async def call_with_grpclib(mesh: Mesh, service: str) -> None:
    client = Client(mesh.gateway.address, service)
    try:
        for kind in KINDS:
            assert await client.call(kind, MESSAGES) == ANSWERS[kind]
        await asyncio.to_thread(mesh.assert_idle)
    finally:
        client.close()
