"""Calls that end with an error of the server: its code, its text, its details, and nothing in between lost."""

from __future__ import annotations

import gzip

import grpc
import h2.events
import pytest
from calls import KINDS, Caller
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from mesh import EchoServer, Mesh
from rawh2 import RawClient, fields_of
from wire import message

TEXT = "no stock: café ☕ 100%\n"


def rich_status(size: int = 0) -> status_pb2.Status:
    """A status with details; ``size`` bytes of them are padding."""
    info = error_details_pb2.ErrorInfo(reason="NO_STOCK", domain="shop.test", metadata={"pad": "p" * size})
    detail = any_pb2.Any()
    detail.Pack(info)
    return status_pb2.Status(code=9, message=TEXT, details=[detail])


def abort(size: int = 0) -> list[str]:
    return ["abort", "FAILED_PRECONDITION", TEXT, rich_status(size).SerializeToString().hex()]


def check(error: grpc.aio.AioRpcError, size: int = 0) -> None:
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error.details() == TEXT
    assert dict(error.trailing_metadata() or ())["grpc-status-details-bin"] == rich_status(size).SerializeToString()


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_before_any_message(caller: Caller, kind: str) -> None:
    conversation = caller.start(kind, [["recv", 1], abort()])
    if conversation.sends:
        await conversation.send(b"request")
    check(await conversation.failure())


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_at_once(caller: Caller, kind: str) -> None:
    """While a client-streaming client is still to send its first message."""
    check(await caller.start(kind, [abort()]).failure())


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_after_headers(caller: Caller, echo: EchoServer, kind: str) -> None:
    # Held apart: grpc.aio shows no initial metadata when a status that is not OK overtakes it in its own queue.
    conversation = caller.start(kind, [["headers"], ["hold"], abort()], early=True)
    assert (await conversation.headers())["x-instance"] == "echo-1"
    await echo.release(conversation.name)
    check(await conversation.failure())


@pytest.mark.parametrize("kind", ["UnaryStream", "StreamStream"])
async def test_an_error_after_messages(caller: Caller, kind: str) -> None:
    conversation = caller.start(kind, [["send", 5, 1000], abort(3000)])
    for _ in range(5):
        assert await conversation.read() == b"x" * 1000
    check(await conversation.failure(), 3000)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_after_the_half_close(caller: Caller, kind: str) -> None:
    conversation = caller.start(kind, [["drain"], abort()])
    if conversation.sends:
        await conversation.send(b"one", b"two")
        await conversation.done()
    check(await conversation.failure())


async def test_a_method_that_the_server_does_not_have(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/interop.Echo/Missing")(b"", timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == "Method not found!"  # the server's words, not the gateway's


async def test_details_reach_a_blocking_client(mesh: Mesh, sync_channel: grpc.Channel) -> None:
    script = ("x-script", f'[["recv", 1], ["abort", "FAILED_PRECONDITION", "{"no"}", "{_plain().hex()}"]]')
    with pytest.raises(grpc.RpcError) as caught:
        sync_channel.unary_unary("/interop.Echo/UnaryUnary")(b"", metadata=[script], timeout=20)
    status = rpc_status.from_call(caught.value)
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == "NO_STOCK"


def _plain() -> bytes:
    status = rich_status()
    status.message = "no"
    return bytes(status.SerializeToString())


async def test_trailers_only_stays_one_frame(mesh: Mesh) -> None:
    """A header block that also ends the stream, as the server sent it."""
    async with RawClient(mesh.gateway.address) as client:
        stream = await client.request("/interop.Echo/UnaryUnary", ("x-script", '[["abort", "NOT_FOUND", "gone", ""]]'))
        events = await client.finish(stream)
        kinds = [type(event) for event in events]
        assert kinds == [h2.events.ResponseReceived, h2.events.StreamEnded]
        fields = fields_of(events)
        assert (fields[":status"], fields["grpc-status"], fields["grpc-message"]) == ("200", "5", "gone")


async def test_a_compressed_message_is_passed_as_it_is(mesh: Mesh) -> None:
    """Flag, encoding and bytes: nothing is unpacked on the way."""
    body = message(gzip.compress(b"squeezed" * 100), compressed=True)
    async with RawClient(mesh.gateway.address) as client:
        fields, answer = await client.call(
            "/interop.Echo/UnaryUnary",
            ("grpc-encoding", "gzip"),
            ("grpc-accept-encoding", "gzip"),
            ("x-script", '[["gzip"], ["headers"], ["echo"]]'),
            body=body,
        )
    assert (fields["grpc-status"], fields["grpc-encoding"]) == ("0", "gzip")
    assert answer[0] == 1
    assert gzip.decompress(answer[5:]) == b"squeezed" * 100
