"""The gateway's own answers as header fields."""

import pytest
from helpers.peers import pairs

from gateway.errors import FROM_GATEWAY, RETRY_FREELY, RETRY_NEVER, RETRY_ONCE, UNAVAILABLE, GatewayError
from gateway.proxy.replies import MAX_MESSAGE, status_fields, trailers_only
from gateway.resilience.retry import TransparentRetry


def test_a_status_with_its_reason():
    assert pairs(status_fields(14, "käse\n")) == [(b"grpc-status", b"14"), (b"grpc-message", b"k%C3%A4se%0A")]


def test_no_message_without_a_reason():
    assert pairs(status_fields(0, "")) == [(b"grpc-status", b"0")]


def test_a_whole_answer():
    assert pairs(trailers_only(12, "no")) == [
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"12"),
        (b"grpc-message", b"no"),
    ]


@pytest.mark.parametrize("letter", ["x", "☺"])
def test_a_message_is_bounded(letter):
    fields = dict(pairs(status_fields(2, letter * 100_000)))
    assert len(fields[b"grpc-message"]) <= MAX_MESSAGE * 9


def test_transparent_retries():
    """gRFC A6: freely while a call never left the gateway, once when a server's library refused it."""

    def error(retry: int) -> GatewayError:
        return GatewayError(UNAVAILABLE, FROM_GATEWAY, retry, "")

    rule = TransparentRetry()
    assert not rule.allows(error(RETRY_NEVER))
    assert [rule.allows(error(RETRY_FREELY)) for _time in range(3)] == [True] * 3
    assert rule.allows(error(RETRY_ONCE))
    assert not rule.allows(error(RETRY_ONCE))
    assert rule.allows(error(RETRY_FREELY))
