"""Requests and responses as header blocks: what is split off, what passes, what is malformed (RFC 9113 section 8)."""

import pytest
from helpers.frames import REQUEST, RESPONSE
from helpers.peers import fields_of, pairs

from gateway.http2.heads import (
    NO_LENGTH,
    RequestHead,
    ResponseHead,
    check_trailers,
    parse_length,
    parse_request,
    parse_response,
)
from gateway.model import Field


def request(fields) -> tuple[str, RequestHead]:
    head = RequestHead()
    return parse_request(fields_of(fields), head), head


def response(fields) -> tuple[str, ResponseHead]:
    head = ResponseHead()
    return parse_response(fields_of(fields), head), head


def with_(fields, name, value):
    return [(key, value if key == name else old) for key, old in fields]


def without(fields, name):
    return [field for field in fields if field[0] != name]


def test_a_request_is_split():
    problem, head = request([*REQUEST, (b"a", b"1"), (b"a", b"2"), (b"content-length", b"12")])
    assert problem == ""
    assert (head.method, head.scheme, head.path, head.authority) == (b"POST", b"http", b"/test.Echo/Call", b"mesh.test")
    assert pairs(head.fields) == [
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"a", b"1"),
        (b"a", b"2"),
        (b"content-length", b"12"),
    ]
    assert int(head.content_length) == 12
    assert not head.oversized


def test_pseudo_header_fields_in_any_order():
    problem, head = request([*reversed(REQUEST[:4]), *REQUEST[4:]])
    assert problem == ""
    assert head.path == b"/test.Echo/Call"


def test_host_stands_in_for_authority_and_is_not_passed_on():
    problem, head = request([*without(REQUEST, b":authority"), (b"host", b"by.host:80")])
    assert problem == ""
    assert head.authority == b"by.host:80"
    assert b"host" not in dict(pairs(head.fields))
    problem, head = request([*REQUEST, (b"host", b"mesh.test")])
    assert problem == ""
    assert b"host" not in dict(pairs(head.fields))


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"/a",
        b"/a.b.C/D",
        b"//a",
        b"/a//b",
        b"/a%2fb",
        b"/a?b=c&d",
        b"/~-._!$&'()*+,;=:@/x",
        b"/a/../b",
        b"/" + b"x" * 8000,
    ],
)
def test_paths_that_pass_as_they_are(path):
    problem, head = request(with_(REQUEST, b":path", path))
    assert (problem, head.path) == ("", path)


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"a",
        b"*",
        b"/a b",
        b"/a\tb",
        b'/"',
        b"/<",
        b"/>",
        b"/a\\b",
        b"/^",
        b"/`",
        b"/{",
        b"/|",
        b"/}",
        b"/#",
        b"/\x7f",
        b"/\xff",
    ],
)
def test_paths_that_can_be_read_in_two_ways(path):
    assert request(with_(REQUEST, b":path", path))[0] == ":path is not an absolute path"


def test_the_path_of_options():
    fields = with_(with_(REQUEST, b":path", b"*"), b":method", b"OPTIONS")
    assert request(fields)[0] == ""


def test_te_may_say_trailers_or_nothing():
    assert request(without(REQUEST, b"te"))[0] == ""
    assert "te" in request(with_(REQUEST, b"te", b""))[0]


def test_a_name_is_malformed_by_what_the_decoder_said():
    head = RequestHead()
    fields = [*fields_of(REQUEST), Field(b"x", b"y", False, True)]
    assert "forbidden" in parse_request(fields, head)
    assert "forbidden" in parse_response([*fields_of(RESPONSE), Field(b"x", b"y", False, True)], ResponseHead())
    assert "forbidden" in check_trailers([Field(b"x", b"y", False, True)])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([(b":method", b"POST"), *REQUEST], "repeated :method"),
        ([(b":scheme", b"http"), *REQUEST], "repeated :scheme"),
        ([(b":path", b"/"), *REQUEST], "repeated :path"),
        ([(b":authority", b"a"), *REQUEST], "repeated :authority"),
        ([(b":authority", b""), *REQUEST], "repeated :authority"),
        ([*REQUEST, (b"host", b"a"), (b"host", b"a")], "repeated host"),
        ([*REQUEST, (b":path", b"/")], "after a regular one"),
        ([(b":status", b"200"), *REQUEST], "unknown pseudo-header"),
        (REQUEST[1:], "missing"),
        ([*REQUEST, (b"content-length", b"1"), (b"content-length", b"2")], "repeated content-length"),
        ([*REQUEST, (b"content-length", b"one")], "not a number"),
        (with_(REQUEST, b":authority", b"a@b"), "user information"),
        ([*REQUEST, (b"host", b"Mesh.test")], "differ"),
    ],
)
def test_malformed_requests_are_named(fields, words):
    assert words in request(fields)[0]


def test_a_response_is_split():
    problem, head = response([*RESPONSE, (b"content-length", b"0"), (b"a", b"1")])
    assert problem == ""
    assert head.status == 200
    assert pairs(head.fields) == [(b"content-type", b"application/grpc"), (b"content-length", b"0"), (b"a", b"1")]
    assert int(head.content_length) == 0


@pytest.mark.parametrize("value", [b"", b"1", b"20", b"2000", b"abc", b"2.0", b"099", b"000", b"-20", b"+20"])
def test_what_is_no_status(value):
    assert response([(b":status", value)])[0] == ":status is not a status"


@pytest.mark.parametrize("value", [b"100", b"200", b"404", b"599", b"999"])
def test_what_is_a_status(value):
    assert response([(b":status", value)])[0] == ""


def test_responses_without_or_with_two_statuses():
    assert response([(b"a", b"b")])[0] == ":status is missing"
    assert response([])[0] == ":status is missing"
    assert "repeated" in response([(b":status", b"200"), (b":status", b"200")])[0]
    assert "late" in response([(b"a", b"b"), (b":status", b"200")])[0]


def test_trailers():
    assert check_trailers(fields_of([(b"grpc-status", b"0"), (b"x-bin", b"AA")])) == ""
    assert check_trailers([]) == ""
    assert "pseudo-header" in check_trailers(fields_of([(b":status", b"200")]))
    assert "connection-specific" in check_trailers(fields_of([(b"connection", b"x")]))


@pytest.mark.parametrize(
    ("value", "length"),
    [
        (b"0", 0),
        (b"007", 7),
        (b"9" * 18, 10**18 - 1),
        (b"9" * 19, NO_LENGTH),
        (b"", NO_LENGTH),
        (b"-1", NO_LENGTH),
        (b"+1", NO_LENGTH),
        (b" 1", NO_LENGTH),
        (b"1_0", NO_LENGTH),
        (b"0x1", NO_LENGTH),
        ("٣".encode(), NO_LENGTH),
    ],
)
def test_lengths(value, length):
    assert int(parse_length(value)) == length
