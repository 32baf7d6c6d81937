"""SIGTERM to the gateway: what is under way finishes, what is new goes elsewhere, and the process ends with 0."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator

import grpc
import pytest
from calls import Caller
from grpc import aio
from mesh import Child, Gateway, Mesh, wait_for
from wire import (
    ACK,
    DATA,
    EMPTY_SETTINGS,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    REQUEST,
    RST_STREAM,
    SETTINGS,
    Frames,
    frame,
)

Make = Callable[..., Gateway]


def open_stream(stream: int) -> bytes:
    """A bidi stream that the server answers with headers at once."""
    return frame(HEADERS, END_HEADERS, stream, REQUEST)


@pytest.fixture
def make_gateway(mesh: Mesh) -> Iterator[Make]:
    """Further gateways of the worker's mesh, to be ended by the test."""
    made: list[Child] = []

    def make(*options: str) -> Gateway:
        gateway = Gateway(mesh.registry.address, *options)
        made.append(gateway)
        gateway.await_instances("echo-1")
        return gateway

    yield make
    for child in made:
        child.stop()


def refuses_connections(gateway: Gateway) -> bool:
    host, _, port = gateway.address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
    except ConnectionRefusedError:
        return True
    return False


async def test_calls_under_way_finish(make_gateway: Make, mesh: Mesh, echo: object) -> None:
    gateway = make_gateway("--drain-timeout", "20")
    server = mesh.servers[0]
    async with aio.insecure_channel(gateway.address) as channel:
        caller = Caller(channel, "interop.Echo")
        slow = caller.start("UnaryUnary", [["mark", "here"], ["hold"], ["echo"]])
        slow_answer = asyncio.ensure_future(slow.call)
        stream = caller.start("StreamStream")
        await stream.send(b"open")
        assert await stream.read() == b"open"
        await server.saw(slow.name, "here")

        gateway.signal(signal.SIGTERM)
        await asyncio.to_thread(gateway.await_line, r"^draining: calls under way have 20 s$")
        await asyncio.to_thread(wait_for, "refused connections", lambda: refuses_connections(gateway))
        # The channel was told to go away: a new call finds nobody, and does not hang.
        failure = await caller.start("UnaryUnary", timeout=5).failure()
        assert failure.code() is grpc.StatusCode.UNAVAILABLE

        assert gateway.running()
        await stream.send(b"still here")
        assert await stream.read() == b"still here"
        await server.release(slow.name)
        assert await slow_answer == b"request"
        assert gateway.running()
        await stream.done()
        assert await stream.rest() == []
        assert await asyncio.to_thread(gateway.wait) == 0
    assert "did not finish" not in gateway.out


async def test_what_does_not_finish_is_ended(make_gateway: Make, mesh: Mesh, echo: object) -> None:
    """With a status, not with a broken connection; and the exit code is 0 all the same."""
    gateway = make_gateway("--drain-timeout", "0.3")
    server = mesh.servers[0]
    async with aio.insecure_channel(gateway.address) as channel:
        caller = Caller(channel, "interop.Echo")
        held = [caller.start("UnaryUnary", [["hold"]]), caller.start("UnaryStream", [["headers"], ["hold"]])]
        for one in held:
            await server.saw(one.name, "started")
        gateway.signal(signal.SIGTERM)
        for one in held:
            failure = await one.failure()
            assert failure.code() is grpc.StatusCode.UNAVAILABLE
        assert await asyncio.to_thread(gateway.wait) == 0
        for one in held:
            await server.saw(one.name, "cancelled")
    assert "2 calls did not finish in time and were ended" in gateway.out


async def test_the_goaway_comes_in_two_steps(make_gateway: Make) -> None:
    """First for no stream in particular; when the client has seen it, with the last one (RFC 9113 section 6.8)."""
    gateway = make_gateway("--drain-timeout", "20")
    client = await Frames.connect(gateway.address, open_stream(1))
    await client.until(HEADERS)
    gateway.signal(signal.SIGTERM)
    _, first = await client.until(GOAWAY)
    assert (int.from_bytes(first[:4], "big"), int.from_bytes(first[4:8], "big")) == (2**31 - 1, 0)
    _, ping = await client.until(PING, 0)
    # A stream that was on its way is served like any other.
    client.writer.write(open_stream(3) + frame(PING, ACK, 0, ping))
    _, second = await client.until(GOAWAY)
    assert (int.from_bytes(second[:4], "big"), int.from_bytes(second[4:8], "big")) == (3, 0)
    # One that comes after that is not.
    client.writer.write(open_stream(5))
    assert await client.until(RST_STREAM) == (5, (7).to_bytes(4, "big"))
    client.writer.write(frame(DATA, END_STREAM, 1) + frame(DATA, END_STREAM, 3))
    await client.end()
    assert await asyncio.to_thread(gateway.wait) == 0


async def test_idle_connections_are_told_at_once(make_gateway: Make) -> None:
    gateway = make_gateway("--drain-timeout", "20")
    client = await Frames.connect(gateway.address, b"")
    await client.until(SETTINGS)
    gateway.signal(signal.SIGTERM)
    await client.until(GOAWAY)
    _, ping = await client.until(PING, 0)
    client.writer.write(frame(PING, ACK, 0, ping))
    await client.end()
    assert await asyncio.to_thread(gateway.wait) == 0


@pytest.mark.parametrize("spoken", [b"", PREFACE[:10], PREFACE + EMPTY_SETTINGS])
async def test_a_client_that_does_not_answer_holds_up_nothing(make_gateway: Make, spoken: bytes) -> None:
    """It has no call under way: there is nothing to wait for."""
    gateway = make_gateway("--drain-timeout", "60")
    host, _, port = gateway.address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(spoken)
    await asyncio.to_thread(gateway.await_counter, "downstream_connections", 1)
    gateway.signal(signal.SIGTERM)
    try:
        assert await asyncio.to_thread(gateway.wait) == 0
    finally:
        writer.close()


async def test_no_call_fails_when_gateways_take_turns(make_gateway: Make, echo: object) -> None:
    """Clients of two gateways, one of which goes: grpcio moves on by itself, and calls that were accepted finish."""
    leaving, staying = make_gateway("--drain-timeout", "20"), make_gateway()
    target = f"ipv4:{leaving.address},{staying.address}"
    options = [("grpc.lb_policy_name", "round_robin")]
    async with aio.insecure_channel(target, options=options) as channel:
        caller = Caller(channel, "interop.Echo")
        stop = asyncio.Event()
        answered = 0

        async def call() -> None:
            nonlocal answered
            while not stop.is_set():
                await caller.exchange("UnaryUnary", b"x")
                answered += 1

        clients = [asyncio.create_task(call()) for _ in range(4)]
        while answered < 100:
            await asyncio.wait(clients, timeout=0.01)
        leaving.signal(signal.SIGTERM)
        assert await asyncio.to_thread(leaving.wait) == 0
        seen = answered
        while answered < seen + 100:
            await asyncio.wait(clients, timeout=0.01)
        stop.set()
        await asyncio.gather(*clients)


async def test_a_second_signal_ends_it_now(make_gateway: Make, mesh: Mesh, echo: object) -> None:
    gateway = make_gateway("--drain-timeout", "60")
    async with aio.insecure_channel(gateway.address) as channel:
        held = Caller(channel, "interop.Echo").start("UnaryUnary", [["hold"]])
        await mesh.servers[0].saw(held.name, "started")
        gateway.signal(signal.SIGTERM)
        await asyncio.to_thread(gateway.await_line, "^draining")
        gateway.signal(signal.SIGINT)
        assert await asyncio.to_thread(gateway.wait) == 0
        assert (await held.failure()).code() is grpc.StatusCode.UNAVAILABLE
