"""Metadata from hop to hop, timeouts, statuses and messages."""

from urllib.parse import unquote

import pytest
from helpers.peers import fields_of, pairs
from hypothesis import given
from hypothesis import strategies as st

from gateway.http2.heads import RequestHead
from gateway.proxy.metadata import (
    BAD_TIMEOUT,
    NO_TIMEOUT,
    downstream_response,
    first_value,
    format_timeout,
    is_grpc,
    parse_status,
    parse_timeout,
    percent_encode,
    upstream_request,
)


def head(*fields: tuple[bytes, bytes], authority: bytes = b"mesh.test") -> RequestHead:
    result = RequestHead()
    result.method, result.scheme, result.path, result.authority = b"POST", b"https", b"/a.B/C", authority
    result.fields = fields_of(list(fields))
    return result


PSEUDO = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a.B/C"), (b":authority", b"mesh.test")]
NOTHING: frozenset[bytes] = frozenset()


def test_everything_passes_in_order_but_what_belongs_to_the_hop():
    fields = [
        (b"content-type", b"application/grpc+proto"),
        (b"te", b"trailers"),
        (b"grpc-timeout", b"1S"),
        (b"grpc-encoding", b"gzip"),
        (b"grpc-accept-encoding", b"gzip,identity"),
        (b"grpc-unknown", b"1"),
        (b"a-bin", b"AA=="),
        (b"user-agent", b"grpc-python/1"),
        (b"a-bin", b"AQ"),
    ]
    result = pairs(upstream_request(head(*fields), 0.5, NOTHING, []))
    assert result[:6] == [*PSEUDO, (b"te", b"trailers"), (b"grpc-timeout", b"500000u")]
    assert result[6:] == [field for field in fields if field[0] not in (b"te", b"grpc-timeout")]


def test_te_is_said_also_when_the_client_did_not():
    assert (b"te", b"trailers") in pairs(upstream_request(head(), NO_TIMEOUT, NOTHING, []))


def test_no_timeout_unless_there_is_one():
    assert b"grpc-timeout" not in dict(pairs(upstream_request(head((b"grpc-timeout", b"1S")), NO_TIMEOUT, NOTHING, [])))


def test_fields_are_replaced():
    added = fields_of([(b"traceparent", b"new"), (b"tracestate", b"x=y")])
    fields = [(b"traceparent", b"old"), (b"tracestate", b"a=b"), (b"tracestate", b"c=d"), (b"keep", b"1")]
    result = pairs(upstream_request(head(*fields), NO_TIMEOUT, frozenset([b"traceparent", b"tracestate"]), added))
    assert result[5:] == [(b"keep", b"1"), (b"traceparent", b"new"), (b"tracestate", b"x=y")]


def test_the_response_gets_its_status_first():
    assert pairs(downstream_response(fields_of([(b"a", b"1")]))) == [(b":status", b"200"), (b"a", b"1")]


def test_the_first_value():
    fields = fields_of([(b"a", b"1"), (b"b", b"2"), (b"b", b"3")])
    assert first_value(fields, b"b") == b"2"
    assert first_value(fields, b"c") == b""


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc+json", True),
        (b"application/grpc;x=y", True),
        (b"application/grpc-web", False),
        (b"application/grpc-web+proto", False),
        (b"application/grpcx", False),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_content_types(content_type, expected):
    assert is_grpc(content_type) is expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1H", 3600.0),
        (b"2M", 120.0),
        (b"3S", 3.0),
        (b"4m", 0.004),
        (b"5u", 5e-6),
        (b"6n", 6e-9),
        (b"0S", 0.0),
        (b"00000001S", 1.0),
        (b"99999999S", 99_999_999.0),
    ],
)
def test_timeouts(value, seconds):
    assert parse_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", [b"", b"S", b"1", b"1s", b"-1S", b"+1S", b"1.5S", b"1 S", b"000000001S", b"1Sm", "٣S".encode()]
)
def test_timeouts_that_are_none(value):
    assert parse_timeout(value) == BAD_TIMEOUT


@given(st.floats(min_value=1e-9, max_value=3.2e11))
def test_a_timeout_never_grows_and_hardly_shrinks(seconds):
    text = format_timeout(seconds)
    assert 2 <= len(text) <= 9
    again = parse_timeout(text)
    assert again > 0
    if seconds <= 99_999_999:
        assert again <= seconds * (1 + 1e-9)
        assert again >= seconds * 0.98 or seconds < 1e-7


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, b"1n"),
        (1e-9, b"1n"),
        (0.00005, b"50000n"),
        (0.0001, b"100u"),
        (98.9, b"98900000u"),
        (99.0, b"99000m"),
        (1e6, b"1000000S"),
    ],
)
def test_what_is_left_in_the_finest_unit_that_fits(seconds, text):
    assert format_timeout(seconds) == text


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (b"0", 0),
        (b"16", 16),
        (b"99", 99),
        (b"999", 999),
        (b"00", 0),
        (b"", -1),
        (b"1000", -1),
        (b"-1", -1),
        (b"x", -1),
        (b" 1", -1),
    ],
)
def test_statuses(value, status):
    assert parse_status(value) == status


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_messages_are_printable_ascii_and_come_back(text):
    encoded = percent_encode(text)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert unquote(encoded.decode()) == text


def test_messages_of_the_specification():
    assert percent_encode("\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n") == (
        b"%09%0Atest with whitespace%0D%0Aand Unicode BMP %E2%98%BA and non-BMP %F0%9F%98%88%09%0A"
    )
    assert percent_encode("100%") == b"100%25"
