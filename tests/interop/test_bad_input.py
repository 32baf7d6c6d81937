"""What is no call, no gRPC, no HTTP/2 or no HTTP: the right answer, on this connection alone, and a quiet log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from calls import Caller
from grpc import aio
from mesh import EchoServer, Instance, Mesh, unique
from rawh2 import RawClient
from wire import (
    CALM,
    COMPRESSION,
    CONTINUATION,
    DATA,
    EMPTY_SETTINGS,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL,
    FRAME_SIZE,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL,
    PUSH_PROMISE,
    REFUSED,
    REQUEST,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    exchange_bytes,
    frame,
    frames_of,
    literal,
    message,
)

OPEN = frame(HEADERS, END_HEADERS, 1, REQUEST)
# A stream that both sides have ended: the gateway answers at once that there is no such service.
OVER = frame(HEADERS, END_HEADERS | END_STREAM, 1, REQUEST.replace(b"interop.Echo", b"interop.None"))


@pytest.fixture
async def bystander(mesh: Mesh) -> AsyncIterator[None]:
    """A call on another connection, open all the while and unharmed; and hardly a word in the log."""
    mesh.gateway.unread_err()
    async with aio.insecure_channel(mesh.gateway.address) as channel:
        conversation = Caller(channel, "interop.Echo").start("StreamStream")
        await conversation.send(b"before")
        assert await conversation.read() == b"before"
        yield
        await conversation.send(b"after")
        assert await conversation.read() == b"after"
        await conversation.done()
        assert await conversation.rest() == []
    said = mesh.gateway.unread_err()
    assert len(said.splitlines()) <= 1, said


async def fails_with(channel: aio.Channel, path: str) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await channel.unary_unary(path)(b"", timeout=20)
    return caught.value


# --- calls for what is not there ---


@pytest.mark.parametrize(
    "path", ["/no.Such/Method", "/nothing", "/a/b/c", "//", "/interop.Echo", "/interop.echo/UnaryUnary"]
)
async def test_an_unknown_service(channel: aio.Channel, path: str) -> None:
    error = await fails_with(channel, path)
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert path in (error.details() or "")


async def test_a_known_service_without_an_instance(mesh: Mesh, channel: aio.Channel) -> None:
    service, declared = unique("empty-"), unique("interop.E")
    instance = Instance(service, (declared,))
    server = mesh.serve(instance)
    assert await Caller(channel, declared).exchange("UnaryUnary", b"x") == [b"x"]
    mesh.dismiss(server)
    error = await fails_with(channel, f"/{declared}/UnaryUnary")
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert service in (error.details() or "")


# --- HTTP that is no gRPC ---


@pytest.mark.parametrize(
    ("method", "content_type", "status", "words"),
    [
        ("POST", "application/json", "415", b"application/grpc"),
        ("POST", "application/grpc-web", "415", b"application/grpc"),
        ("POST", "application/grpcx", "415", b"application/grpc"),
        ("POST", None, "415", b"application/grpc"),
        ("GET", "application/grpc", "405", b"POST"),
        ("GET", None, "405", b"POST"),
        ("DELETE", None, "405", b"POST"),
    ],
)
@pytest.mark.usefixtures("bystander")
async def test_http_requests_get_http_answers(
    mesh: Mesh, method: str, content_type: str | None, status: str, words: bytes
) -> None:
    async with RawClient(mesh.gateway.address) as client:
        fields, body = await client.call(
            "/interop.Echo/UnaryUnary", method=method, content_type=content_type, body=b"{}"
        )
        assert fields[":status"] == status
        assert fields["content-type"].startswith("text/plain")
        assert int(fields["content-length"]) == len(body)
        assert body.count(b"\n") == 1
        assert words in body
        assert "grpc-status" not in fields
        assert (fields.get("allow") == "POST") == (status == "405")
        # The connection is as good as before.
        fields, body = await client.call("/interop.Echo/UnaryUnary")
        assert (fields["grpc-status"], body) == ("0", message(b"request"))
        await asyncio.to_thread(mesh.gateway.await_counter, "calls", 1)


@pytest.mark.parametrize("content_type", ["application/grpc+proto", "application/grpc;charset=utf-8"])
async def test_kinds_of_grpc(mesh: Mesh, content_type: str) -> None:
    async with RawClient(mesh.gateway.address) as client:
        fields, _ = await client.call("/interop.Echo/UnaryUnary", content_type=content_type)
        assert fields["grpc-status"] == "0"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: mesh\r\n\r\n",
        b"POST /interop.Echo/UnaryUnary HTTP/1.1\r\nHost: mesh\r\nContent-Length: 3\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: mesh\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
    ],
)
@pytest.mark.usefixtures("bystander")
async def test_http1_is_answered_in_http1_and_closed(mesh: Mesh, request_bytes: bytes) -> None:
    answer = await exchange_bytes(mesh.gateway.address, request_bytes)
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 400 Bad Request"
    assert b"Content-Length: %d" % len(body) in lines
    assert b"Connection: close" in lines
    assert body.count(b"\n") == 1
    assert b"HTTP/2" in body


# --- bytes that are no HTTP/2 ---


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"SSH-2.0-OpenSSH_9.0\r\n", b"\0" * 64, PREFACE[:20] + b"XX\r\n"],
)
@pytest.mark.usefixtures("bystander")
async def test_what_is_not_the_preface(mesh: Mesh, data: bytes) -> None:
    frames = frames_of(await exchange_bytes(mesh.gateway.address, data))
    assert [(kind, code) for kind, _, code in frames] == [(GOAWAY, PROTOCOL)]


CONNECTION_ERRORS = {
    "no settings first": (frame(PING, 0, 0, bytes(8)), PROTOCOL),
    "settings of 5 bytes": (frame(SETTINGS, 0, 0, bytes(5)), FRAME_SIZE),
    "settings on a stream": (frame(SETTINGS, 0, 1), PROTOCOL),
    "enable push 2": (frame(SETTINGS, 0, 0, b"\0\2\0\0\0\2"), PROTOCOL),
    "window above the limit": (frame(SETTINGS, 0, 0, b"\0\4\x80\0\0\0"), FLOW_CONTROL),
    "a frame size of 1": (frame(SETTINGS, 0, 0, b"\0\5\0\0\0\1"), PROTOCOL),
    "a frame of 16 MiB": (EMPTY_SETTINGS + frame(DATA, 0, 1, length=0xFFFFFF), FRAME_SIZE),
    "data on stream 0": (EMPTY_SETTINGS + frame(DATA, 0, 0, b"x"), PROTOCOL),
    "data on an idle stream": (EMPTY_SETTINGS + frame(DATA, 0, 1, b"x"), PROTOCOL),
    "data on a closed stream": (EMPTY_SETTINGS + OVER + frame(DATA, 0, 1, b"x"), STREAM_CLOSED),
    "headers on a closed stream": (EMPTY_SETTINGS + OVER + OPEN, STREAM_CLOSED),
    "more padding than data": (EMPTY_SETTINGS + OPEN + frame(DATA, PADDED, 1, b"\x05abc"), PROTOCOL),
    "headers on stream 0": (EMPTY_SETTINGS + frame(HEADERS, END_HEADERS, 0, REQUEST), PROTOCOL),
    "headers on an even stream": (EMPTY_SETTINGS + frame(HEADERS, END_HEADERS, 2, REQUEST), PROTOCOL),
    "a smaller stream id": (
        EMPTY_SETTINGS + frame(HEADERS, END_HEADERS, 5, REQUEST) + frame(HEADERS, END_HEADERS, 3, REQUEST),
        STREAM_CLOSED,
    ),
    "headers of padding alone": (EMPTY_SETTINGS + frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff"), PROTOCOL),
    "a frame between fragments": (
        EMPTY_SETTINGS + frame(HEADERS, 0, 1, REQUEST[:20]) + frame(PING, 0, 0, bytes(8)),
        PROTOCOL,
    ),
    "a continuation of nothing": (EMPTY_SETTINGS + frame(CONTINUATION, END_HEADERS, 1, REQUEST), PROTOCOL),
    "a broken index": (EMPTY_SETTINGS + frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\x0f"), COMPRESSION),
    "an empty table entry": (EMPTY_SETTINGS + frame(HEADERS, END_HEADERS, 1, b"\xbe"), COMPRESSION),
    "a string cut off": (EMPTY_SETTINGS + frame(HEADERS, END_HEADERS, 1, b"\0\x7fabc"), COMPRESSION),
    "continuations without end": (
        EMPTY_SETTINGS + frame(HEADERS, 0, 1, b"\0") + frame(CONTINUATION, 0, 1) * 1000,
        CALM,
    ),
    "a push promise": (EMPTY_SETTINGS + OPEN + frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + REQUEST), PROTOCOL),
    "a ping of 7 bytes": (EMPTY_SETTINGS + frame(PING, 0, 0, bytes(7)), FRAME_SIZE),
    "a ping on a stream": (EMPTY_SETTINGS + frame(PING, 0, 1, bytes(8)), PROTOCOL),
    "a goaway on a stream": (EMPTY_SETTINGS + frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    "a short goaway": (EMPTY_SETTINGS + frame(GOAWAY, 0, 0, bytes(4)), FRAME_SIZE),
    "a reset of an idle stream": (EMPTY_SETTINGS + frame(RST_STREAM, 0, 1, bytes(4)), PROTOCOL),
    "a reset of 3 bytes": (EMPTY_SETTINGS + OPEN + frame(RST_STREAM, 0, 1, bytes(3)), FRAME_SIZE),
    "a window update of 3 bytes": (EMPTY_SETTINGS + frame(WINDOW_UPDATE, 0, 0, bytes(3)), FRAME_SIZE),
    "a window update of 0": (EMPTY_SETTINGS + frame(WINDOW_UPDATE, 0, 0, bytes(4)), PROTOCOL),
    "a window that overflows": (EMPTY_SETTINGS + frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), FLOW_CONTROL),
    "a window update of an idle stream": (EMPTY_SETTINGS + frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"), PROTOCOL),
    "a priority on stream 0": (EMPTY_SETTINGS + frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL),
}


@pytest.mark.usefixtures("bystander")
async def test_a_broken_connection_is_told_why_and_closed(mesh: Mesh) -> None:
    """Every case ends with a GOAWAY of the right code and a close, whatever was open."""
    wrong = {}
    for name, (data, expected) in CONNECTION_ERRORS.items():
        frames = frames_of(await exchange_bytes(mesh.gateway.address, PREFACE + data))
        if (GOAWAY, 0, expected) not in frames or frames[-1][0] != GOAWAY:
            wrong[name] = frames
    assert not wrong


STREAM_ERRORS = {
    "a window update of 0": (frame(WINDOW_UPDATE, 0, 1, bytes(4)), PROTOCOL),
    "a window that overflows": (frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"), FLOW_CONTROL),
    "a priority of 4 bytes": (frame(PRIORITY, 0, 1, bytes(4)), FRAME_SIZE),
    "data after the end": (frame(DATA, END_STREAM, 1) + frame(DATA, 0, 1, b"x"), STREAM_CLOSED),
    "trailers without an end": (frame(HEADERS, END_HEADERS, 1, literal(b"a", b"b")), PROTOCOL),
    "pseudo-header trailers": (frame(HEADERS, END_HEADERS | END_STREAM, 1, literal(b":path", b"/")), PROTOCOL),
}


@pytest.mark.usefixtures("bystander")
async def test_a_broken_stream_is_reset_and_its_connection_goes_on(mesh: Mesh) -> None:
    wrong = {}
    for name, (data, expected) in STREAM_ERRORS.items():
        frames = await frames_until_pong(mesh, OPEN + data)
        if (RST_STREAM, 1, expected) not in frames:
            wrong[name] = frames
    assert not wrong
    await asyncio.to_thread(mesh.gateway.await_counter, "calls", 1)


HEAD_ERRORS = {
    "no path": REQUEST.replace(literal(b":path", b"/interop.Echo/StreamStream"), b""),
    "no method": REQUEST.replace(literal(b":method", b"POST"), b""),
    "no scheme": REQUEST.replace(literal(b":scheme", b"http"), b""),
    "two paths": literal(b":path", b"/a/b") + REQUEST,
    "a response's status": literal(b":status", b"200") + REQUEST,
    "a late pseudo-header": REQUEST + literal(b":authority", b"x"),
    "an upper-case name": REQUEST + literal(b"X-Upper", b"x"),
    "a connection field": REQUEST + literal(b"connection", b"close"),
    "transfer-encoding": REQUEST + literal(b"transfer-encoding", b"chunked"),
    "te of another kind": REQUEST.replace(literal(b"te", b"trailers"), literal(b"te", b"gzip")),
    "a line break in a value": REQUEST + literal(b"x-split", b"a\r\nb: c"),
    "a zero in a value": REQUEST + literal(b"x-zero", b"a\0b"),
    "a space in a name": REQUEST + literal(b"x split", b"a"),
    "an empty name": REQUEST + literal(b"", b"a"),
    "host and authority differ": REQUEST + literal(b"host", b"elsewhere"),
    "a content-length that is none": REQUEST + literal(b"content-length", b"-1"),
    "a relative path": REQUEST.replace(literal(b":path", b"/interop.Echo/StreamStream"), literal(b":path", b"a/b")),
    "a path with a space": REQUEST.replace(
        literal(b":path", b"/interop.Echo/StreamStream"), literal(b":path", b"/a b/c")
    ),
}


@pytest.mark.usefixtures("bystander")
async def test_a_malformed_request_is_never_forwarded(mesh: Mesh, echo: EchoServer) -> None:
    before = echo.calls()
    wrong = {}
    for name, block in HEAD_ERRORS.items():
        frames = await frames_until_pong(mesh, frame(HEADERS, END_HEADERS, 1, block))
        if (RST_STREAM, 1, PROTOCOL) not in frames:
            wrong[name] = frames
    assert not wrong
    assert echo.calls() == before


async def frames_until_pong(mesh: Mesh, data: bytes) -> list[tuple[int, int, int]]:
    """The frames that are answered to these, on a connection that still answers a PING after them."""
    host, _, port = mesh.gateway.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(PREFACE + EMPTY_SETTINGS + data + frame(PING, 0, 0, b"pingpong"))
    received = b""
    try:
        while frame(PING, 1, 0, b"pingpong") not in received:
            piece = await asyncio.wait_for(reader.read(65536), 20)
            assert piece, f"closed after {frames_of(received)}"
            received += piece
    finally:
        writer.close()
    return frames_of(received)


@pytest.mark.usefixtures("bystander")
async def test_metadata_beyond_the_limit(mesh: Mesh) -> None:
    """RESOURCE_EXHAUSTED, and the connection's compression state is intact after it."""
    async with aio.insecure_channel(mesh.gateway.address) as channel:
        caller = Caller(channel, "interop.Echo")
        for _ in range(2):
            metadata = [(f"m-{number}", "v" * 7000) for number in range(10)]
            failure = await caller.start("UnaryUnary", metadata=metadata).failure()
            assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "metadata" in (failure.details() or "")
            conversation = caller.start("UnaryUnary", [["mirror"], ["echo"]], metadata=[("m-fine", "v" * 7000)])
            await conversation.rest()
            assert (await conversation.headers())["m-fine"] == "v" * 7000


@pytest.mark.usefixtures("bystander")
async def test_a_preface_byte_by_byte_and_a_client_that_says_nothing(mesh: Mesh) -> None:
    host, _, port = mesh.gateway.address.rpartition(":")
    _, silent = await asyncio.open_connection(host, int(port))
    reader, writer = await asyncio.open_connection(host, int(port))
    for byte in PREFACE + EMPTY_SETTINGS + frame(PING, 0, 0, b"pingpong"):
        writer.write(bytes([byte]))
        await writer.drain()
    received = b""
    while frame(PING, 1, 0, b"pingpong") not in received:
        received += await asyncio.wait_for(reader.read(65536), 20)
    silent.close()
    writer.close()


@pytest.mark.usefixtures("bystander")
async def test_streams_beyond_the_limit_are_refused(mesh: Mesh) -> None:
    """1024 are open, the one after them is not, and none of them suffers."""
    opened = b"".join(frame(HEADERS, END_HEADERS, stream, REQUEST) for stream in range(1, 2051, 2))
    frames = await frames_until_pong(mesh, opened)
    assert [one for one in frames if one[0] in (RST_STREAM, GOAWAY)] == [(RST_STREAM, 2049, REFUSED)]
