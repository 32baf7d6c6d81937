"""Servers that die or hang under a call: a status with a reason in trailers, never a raw reset, and nothing lost."""

from __future__ import annotations

import asyncio
import signal

import grpc
import h2.events
import pytest
from calls import CASES, Caller, come_to
from grpc import aio
from mesh import EchoServer, Instance, Mesh, unique
from rawh2 import RawClient, body_of, fields_of


@pytest.fixture
def doomed(mesh: Mesh) -> tuple[EchoServer, str]:
    """A server of this test's own, and its gRPC service."""
    service = unique("interop.D")
    return mesh.serve(Instance(unique("doomed-"), (service,))), service


@pytest.mark.parametrize("phase", ["before headers", "after headers", "mid-stream", "after half-close"])
async def test_the_death_of_a_server(
    mesh: Mesh, channel: aio.Channel, doomed: tuple[EchoServer, str], phase: str
) -> None:
    """Calls of every kind end with UNAVAILABLE and a reason, after exactly the messages that had been sent."""
    server, service = doomed
    caller = Caller(channel, service)
    held = [caller.hold(kind, phase) for kind, other in CASES if other == phase]
    for conversation in held:
        await come_to(conversation, phase)
        await server.saw(conversation.name, "here")
    before = mesh.gateway.counters()["calls_failed"]
    server.kill()
    (address,) = server.addresses.values()
    for conversation in held:
        failure = await conversation.failure()
        assert failure.code() is grpc.StatusCode.UNAVAILABLE
        assert f"connection to {address} lost" in (failure.details() or "")
    assert mesh.gateway.counters()["calls_failed"] == before + len(held)


async def test_death_shows_in_trailers_and_not_as_a_reset(mesh: Mesh, doomed: tuple[EchoServer, str]) -> None:
    server, service = doomed
    script = '[["recv", 1], ["send", 3, 10], ["mark", "here"], ["hold"]]'
    async with RawClient(mesh.gateway.address) as client:
        streaming = await client.request(f"/{service}/StreamStream", ("x-call", "s"), ("x-script", script), end=False)
        waiting = await client.request(f"/{service}/UnaryUnary", ("x-call", "u"), ("x-script", '[["hold"]]'))
        await server.saw("s", "here")
        await server.saw("u", "started")
        while len(body_of(client.events.get(streaming, []))) < 45:
            assert await client.read()
        server.kill()
        events = await client.finish(streaming)
        assert len(body_of(events)) == 45
        kinds = [type(event) for event in events]
        assert kinds.index(h2.events.TrailersReceived) < kinds.index(h2.events.StreamEnded)
        assert fields_of(events)["grpc-status"] == "14"
        events = await client.finish(waiting)
        assert [type(event) for event in events] == [h2.events.ResponseReceived, h2.events.StreamEnded]
        assert fields_of(events)["grpc-status"] == "14"
        # The request was not over: the client is told that nobody reads on (RFC 9113 section 8.1).
        reset = await client.until(streaming, h2.events.StreamReset)
        assert isinstance(reset, h2.events.StreamReset)
        assert reset.error_code == 0


async def test_messages_on_their_way_outlive_their_server(
    mesh: Mesh, channel: aio.Channel, doomed: tuple[EchoServer, str]
) -> None:
    """What the server sent before it died waits for a slow client, and the status comes after it."""
    server, service = doomed
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16_384)]
    async with aio.insecure_channel(mesh.gateway.address, options=options) as slow:
        conversation = Caller(slow, service).start(
            "UnaryStream", [["headers"], ["send", 8, 12_000], ["mark", "sent"], ["hold"]]
        )
        await conversation.headers()
        await server.saw(conversation.name, "sent")
        server.kill()
        assert [await conversation.read() for _ in range(8)] == [b"x" * 12_000] * 8
        failure = await conversation.failure()
        assert failure.code() is grpc.StatusCode.UNAVAILABLE
        await asyncio.to_thread(mesh.assert_idle)


async def test_a_hung_server_costs_a_call_its_deadline_and_nothing_else(
    mesh: Mesh, caller: Caller, doomed: tuple[EchoServer, str]
) -> None:
    server, service = doomed
    async with RawClient(mesh.gateway.address) as client:
        await client.call(f"/{service}/UnaryUnary")
        server.signal(signal.SIGSTOP)
        try:
            stream = await client.request(f"/{service}/UnaryUnary", ("grpc-timeout", "300m"))
            assert await caller.exchange("UnaryUnary", b"elsewhere") == [b"elsewhere"]
            fields = fields_of(await client.finish(stream))
            assert (fields["grpc-status"], fields["grpc-message"]) == ("4", "deadline exceeded at the gateway")
            await asyncio.to_thread(mesh.gateway.assert_idle)
        finally:
            server.signal(signal.SIGCONT)
        fields, _ = await client.call(f"/{service}/UnaryUnary")
        assert fields["grpc-status"] == "0"


async def test_calls_to_a_dead_server_fail_fast_and_say_why(
    mesh: Mesh, channel: aio.Channel, doomed: tuple[EchoServer, str]
) -> None:
    server, service = doomed
    server.kill()
    (address,) = server.addresses.values()
    for _ in range(3):
        failure = await Caller(channel, service).start("UnaryUnary").failure()
        assert failure.code() is grpc.StatusCode.UNAVAILABLE
        assert address in (failure.details() or "")
        assert "connection refused" in (failure.details() or "")


async def test_a_server_that_comes_back(mesh: Mesh, channel: aio.Channel, doomed: tuple[EchoServer, str]) -> None:
    """At its old address, as another instance: calls reach it as soon as it is known."""
    server, service = doomed
    caller = Caller(channel, service)
    await caller.exchange("UnaryUnary", b"before")
    server.kill()
    port = int(next(iter(server.addresses.values())).rpartition(":")[2])
    back = Instance(server.instances[0].service, (service,), port=port)
    mesh.serve(back)
    assert await caller.instance() == back.name
