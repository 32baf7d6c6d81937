"""Deadlines: they start at receipt, shrink on their way, and end a call in any phase."""

import pytest
from helpers import frames
from helpers.mesh import Mesh

from gateway.errors import DEADLINE_EXCEEDED, FROM_GATEWAY, INTERNAL
from gateway.proxy.metadata import parse_timeout


def timeout_of(fields) -> float:
    return parse_timeout(dict(fields)[b"grpc-timeout"])


def test_the_deadline_is_passed_on_smaller():
    mesh = Mesh()
    mesh.dialer.hang.add("a:1")
    client = mesh.client()
    client.call((b"grpc-timeout", b"3S"), body=b"x")
    mesh.run()
    mesh.advance(1.25)
    mesh.dialer.hang.clear()
    mesh.run()
    server = mesh.server()
    assert timeout_of(server.seen[1].headers) == pytest.approx(1.75, abs=1e-5)
    assert timeout_of(server.seen[1].headers) <= 1.75
    assert [name for name, _value in server.seen[1].headers].count(b"grpc-timeout") == 1
    server.answer(1)
    mesh.run()
    mesh.assert_idle()


@pytest.mark.parametrize("phase", ["parked", "before headers", "after headers", "mid-upload", "queue full"])
def test_expiry_ends_the_call_on_both_sides(phase):
    mesh = Mesh(endpoints=1)
    if phase == "parked":
        mesh.dialer.hang.add("a:1")
    if phase == "queue full":
        mesh.server_values = {0x3: 0}  # no streams at all
    client = mesh.client()
    call = client.call((b"grpc-timeout", b"500m"), body=b"x", end=phase != "mid-upload")
    mesh.run()
    if phase == "after headers":
        mesh.server().respond(1)
        mesh.server().data(1, b"first")
        mesh.run()
    mesh.advance(0.499)
    assert call.status is None
    mesh.advance(0.002)
    assert call.status == DEADLINE_EXCEEDED
    assert "deadline" in call.message
    if phase in ("before headers", "after headers", "mid-upload"):
        assert mesh.server().seen[1].reset == frames.CANCEL
    assert call.data == (b"first" if phase == "after headers" else b"")
    assert (call.trailers is None) == (phase != "after headers"), "Trailers-Only before any response headers"
    assert call.reset == (frames.NO_ERROR if phase == "mid-upload" else None)
    assert (mesh.outcome.code, mesh.outcome.source) == (DEADLINE_EXCEEDED, FROM_GATEWAY)
    mesh.assert_idle()


def test_expiry_of_a_client_that_has_stopped_reading():
    """Trailers behind bytes that nobody takes would wait for ever."""
    mesh = Mesh()
    client = mesh.client()
    client.reading = False
    call = client.call((b"grpc-timeout", b"1S"), body=b"x")
    mesh.run()
    mesh.server().respond(1)
    mesh.server().data(1, bytes(150_000))
    mesh.run()
    mesh.advance(1.1)
    assert call.reset == frames.CANCEL
    assert mesh.server().seen[1].reset == frames.CANCEL
    assert mesh.outcome.code == DEADLINE_EXCEEDED
    mesh.assert_idle()


def test_expiry_after_the_server_has_ended_and_the_client_does_not_read():
    mesh = Mesh()
    client = mesh.client()
    client.reading = False
    call = client.call((b"grpc-timeout", b"1S"), body=b"x")
    mesh.run()
    mesh.server().answer(1, bytes(100_000))
    mesh.run()
    assert not call.ended
    assert mesh.server().seen[1].reset is None
    mesh.advance(1.1)
    assert call.reset == frames.CANCEL
    mesh.assert_idle()


@pytest.mark.parametrize("value", [b"0S", b"0n", b"00000000H"])
def test_no_time_at_all(value):
    mesh = Mesh()
    call = mesh.client().call((b"grpc-timeout", value), body=b"x", end=False)
    mesh.run()
    assert call.status == DEADLINE_EXCEEDED
    assert mesh.dialer.dials == []
    mesh.assert_idle()


@pytest.mark.parametrize("value", [b"1", b"S", b"-1S", b"1.5S", b"1s", b"123456789S", b"1 S", b"99999999X"])
def test_a_deadline_that_cannot_be_read(value):
    mesh = Mesh()
    call = mesh.client().call((b"grpc-timeout", value), body=b"x", end=False)
    mesh.run()
    assert call.status == INTERNAL
    assert "grpc-timeout" in call.message
    assert mesh.dialer.dials == []
    mesh.assert_idle()


def test_a_call_without_a_deadline_has_no_timer_and_outlives_days():
    mesh = Mesh()
    call = mesh.client().call(body=b"", end=False)
    mesh.run()
    assert mesh.proxy.counters()["timers"] == 0
    assert b"grpc-timeout" not in dict(mesh.server().seen[1].headers or [])
    mesh.advance(1e6)
    mesh.server().answer(1)
    mesh.run()
    assert call.status == 0
    mesh.assert_idle()


def test_a_deadline_runs_through_a_retry():
    mesh = Mesh(endpoints=2)
    mesh.client().call((b"grpc-timeout", b"10S"), body=b"x")
    mesh.run()
    mesh.advance(4.0)
    mesh.server("a:1").reset(1, frames.REFUSED_STREAM)
    mesh.run()
    again = mesh.server("b:1").seen[1]
    assert timeout_of(again.headers) == pytest.approx(6.0, abs=1e-5)
    mesh.advance(6.1)
    assert again.reset == frames.CANCEL
    assert mesh.outcome.code == DEADLINE_EXCEEDED
    assert mesh.outcome.attempts == 2
    mesh.assert_idle()


def test_the_longest_deadline():
    mesh = Mesh()
    mesh.client().call((b"grpc-timeout", b"99999999H"), body=b"x")
    mesh.run()
    assert dict(mesh.server().seen[1].headers)[b"grpc-timeout"] == b"99999999S"
    mesh.server().answer(1)
    mesh.run()
    mesh.assert_idle()
