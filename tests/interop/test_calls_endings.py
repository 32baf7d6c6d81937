"""Calls that are ended from outside, in each phase: by a cancel, by the deadline; the server always hears of it."""

from __future__ import annotations

import asyncio
import json

import grpc
import h2.events
import pytest
from calls import (
    AFTER_HEADERS,
    CASES,
    HALF_CLOSED,
    MID_STREAM,
    SENT_IN_PHASE,
    Caller,
    Conversation,
    come_to,
    phase_script,
)
from mesh import EchoServer, Mesh, unique
from rawh2 import RawClient, body_of, fields_of
from wire import message

# Long enough for every call to come to its phase on a busy machine, short enough to wait for.
DEADLINE = 1.0


async def come_to_all(caller: Caller, echo: EchoServer, timeout: float | None = None) -> list[Conversation]:
    """A call of each kind in each phase, all at once, and held there."""
    conversations = [caller.hold(kind, phase, timeout=timeout) for kind, phase in CASES]
    phases = [phase for _, phase in CASES]
    await asyncio.gather(*(come_to(one, phase) for one, phase in zip(conversations, phases, strict=True)))
    await asyncio.gather(*(echo.saw(one.name, "here") for one in conversations))
    return conversations


@pytest.mark.parametrize(("kind", "phase"), CASES)
async def test_a_cancel_reaches_the_server(mesh: Mesh, echo: EchoServer, caller: Caller, kind: str, phase: str) -> None:
    conversation = caller.hold(kind, phase)
    await come_to(conversation, phase)
    await echo.saw(conversation.name, "here")
    assert mesh.gateway.counters()["upstream_streams"] == 1
    conversation.cancel()
    await echo.saw(conversation.name, "cancelled")
    assert conversation.call.cancelled()


async def test_many_cancels_leave_the_connections_alone(mesh: Mesh, echo: EchoServer, caller: Caller) -> None:
    before = mesh.gateway.counters()
    for _ in range(10):
        for conversation in await come_to_all(caller, echo):
            conversation.cancel()
            await echo.saw(conversation.name, "cancelled")
    assert await caller.exchange("UnaryUnary", b"still here") == [b"still here"]
    after = mesh.gateway.counters()
    assert after["upstream_connections"] == before["upstream_connections"] or before["upstream_connections"] == 0
    assert after["calls_ended"] - before["calls_ended"] == 10 * len(CASES) + 1


async def test_the_deadline_ends_a_call_in_every_phase(echo: EchoServer, caller: Caller) -> None:
    conversations = await come_to_all(caller, echo, DEADLINE)
    for failure in await asyncio.gather(*(one.failure() for one in conversations)):
        assert failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.gather(*(echo.saw(one.name, "cancelled") for one in conversations))


async def test_a_client_that_leaves_its_deadline_to_others(mesh: Mesh, echo: EchoServer) -> None:
    """DEADLINE_EXCEEDED comes to it in every phase, in trailers where there were headers."""
    async with RawClient(mesh.gateway.address) as client:
        calls = [(kind, phase, unique("call-")) for kind, phase in CASES]
        streams = [await hold_raw(client, *call, ("grpc-timeout", f"{int(DEADLINE * 1000)}m")) for call in calls]
        for _, _, name in calls:
            await echo.saw(name, "here")
        for (kind, phase, name), stream in zip(calls, streams, strict=True):
            events = await client.finish(stream)
            fields = fields_of(events)
            assert fields["grpc-status"] == "4", (kind, phase, fields)
            assert "deadline" in fields["grpc-message"].lower()
            with_messages = phase == MID_STREAM or (phase == HALF_CLOSED and kind.endswith("Stream"))
            kinds = {type(event) for event in events}
            assert (h2.events.TrailersReceived in kinds) == (with_messages or phase == AFTER_HEADERS), (phase, kinds)
            assert len(body_of(events)) == (SENT_IN_PHASE * 15 if with_messages else 0)
            await echo.saw(name, "cancelled")
        await asyncio.to_thread(mesh.assert_idle)


async def hold_raw(client: RawClient, kind: str, phase: str, name: str, *fields: tuple[str, str]) -> int:
    """Bring a call to its phase without waiting for anything; its stream."""
    script = json.dumps(phase_script(kind, phase))
    end = phase == HALF_CLOSED or kind.startswith("Unary")
    return await client.request(f"/interop.Echo/{kind}", ("x-call", name), ("x-script", script), *fields, end=end)


async def test_the_timeout_is_sent_on_as_what_remains(mesh: Mesh, echo: EchoServer) -> None:
    async with RawClient(mesh.gateway.address) as client:
        fields, _ = await client.call("/interop.Echo/UnaryUnary", ("grpc-timeout", "7S"))
        assert 6.0 < float(fields["x-remaining"]) < 7.0
        fields, _ = await client.call("/interop.Echo/UnaryUnary", ("grpc-timeout", "99999999H"))
        assert float(fields["x-remaining"]) > 1e7


async def test_a_deadline_that_has_passed_on_arrival(mesh: Mesh, echo: EchoServer) -> None:
    before = echo.calls()
    async with RawClient(mesh.gateway.address) as client:
        fields, _ = await client.call("/interop.Echo/UnaryUnary", ("grpc-timeout", "0m"))
        assert fields["grpc-status"] == "4"
    assert echo.calls() == before


@pytest.mark.parametrize("timeout", ["", "1", "m", "123456789S", "-1S", "1.5S", "1s", "S1", "1S1S"])
async def test_a_timeout_that_is_none(mesh: Mesh, timeout: str) -> None:
    async with RawClient(mesh.gateway.address) as client:
        fields, _ = await client.call("/interop.Echo/UnaryUnary", ("grpc-timeout", timeout))
        assert fields["grpc-status"] == "13"
        assert "grpc-timeout" in fields["grpc-message"]


@pytest.mark.parametrize(("kind", "phase"), CASES)
async def test_a_client_that_vanishes(mesh: Mesh, echo: EchoServer, kind: str, phase: str) -> None:
    """Its connection ends without a word: the server's call ends, too."""
    name = unique("call-")
    async with RawClient(mesh.gateway.address) as client:
        await hold_raw(client, kind, phase, name)
        await echo.saw(name, "here")
    await echo.saw(name, "cancelled")


async def test_a_client_that_resets_with_any_code(mesh: Mesh, echo: EchoServer) -> None:
    async with RawClient(mesh.gateway.address) as client:
        for code in (0x0, 0x2, 0x8, 0xFF):
            name = unique("call-")
            hold = '[["recv", 1], ["headers"], ["mark", "here"], ["hold"]]'
            stream = await client.request(
                "/interop.Echo/StreamStream", ("x-call", name), ("x-script", hold), body=message(b"x"), end=False
            )
            await echo.saw(name, "here")
            client.h2.reset_stream(stream, code)
            await client.flush()
            await echo.saw(name, "cancelled")
        await asyncio.to_thread(mesh.assert_idle)
