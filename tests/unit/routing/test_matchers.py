"""Each kind of match, one table each."""

import pytest

from gateway.model import Field, Request
from gateway.routing.matchers import HeaderMatch, HostMatch, host_of, text_matcher
from gateway.routing.patterns import MAX_PATTERN_INPUT, compile_pattern, nested_repeat


def request_with(*fields: tuple[bytes, bytes]) -> Request:
    return Request(b"/p.S/M", b"host", [Field(name, value) for name, value in fields], "10.0.0.1")


@pytest.mark.parametrize(
    ("kind", "text", "value", "passes"),
    [
        ("Exact", "acme", b"acme", True),
        ("Exact", "acme", b"Acme", False),
        ("Exact", "acme", b"acme2", False),
        ("Exact", "", b"", True),
        ("Prefix", "ac", b"acme", True),
        ("Prefix", "ac", b"bac", False),
        ("RegularExpression", "ac.e", b"acme", True),
        ("RegularExpression", "ac", b"acme", False),  # the whole value, not a part
        ("RegularExpression", ".*", b"\xff\x00", True),
        ("RegularExpression", "é+", "éé".encode(), False),  # bytes, not characters
        ("RegularExpression", "a*", b"a" * MAX_PATTERN_INPUT, True),
        ("RegularExpression", "a*", b"a" * (MAX_PATTERN_INPUT + 1), False),
    ],
)
def test_text(kind: str, text: str, value: bytes, passes: bool) -> None:
    assert text_matcher(kind, text).matches(value) is passes


def test_text_of_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match="use Exact, Prefix or RegularExpression"):
        text_matcher("Present", "x")


ACME = [(b"x-tenant", b"acme")]
BOTH = [(b"x-tenant", b"other"), (b"x-else", b"1"), (b"x-tenant", b"acme")]
NONE: list[tuple[bytes, bytes]] = [(b"x-else", b"acme")]


@pytest.mark.parametrize(
    ("kind", "value", "invert", "fields", "passes"),
    [
        ("Exact", "acme", False, ACME, True),
        ("Exact", "acme", False, BOTH, True),  # any one of the values
        ("Exact", "other,acme", False, BOTH, False),  # which are not joined
        ("Exact", "acme", False, NONE, False),
        ("Exact", "acme", True, ACME, False),
        ("Exact", "acme", True, BOTH, False),
        ("Exact", "nobody", True, BOTH, True),
        ("Exact", "acme", True, NONE, True),  # absent is not acme
        ("Prefix", "oth", False, BOTH, True),
        ("RegularExpression", "a.*", False, BOTH, True),
        ("RegularExpression", "b.*", False, BOTH, False),
        ("Present", None, False, ACME, True),
        ("Present", None, False, NONE, False),
        ("Present", None, True, ACME, False),
        ("Present", None, True, NONE, True),
    ],
)
def test_header(kind: str, value: str | None, invert: bool, fields: list[tuple[bytes, bytes]], passes: bool) -> None:
    wanted = None if value is None else text_matcher(kind, value)
    assert HeaderMatch("X-Tenant", wanted, invert).matches(request_with(*fields)) is passes


def test_binary_metadata_is_matched_by_presence_alone() -> None:
    present = HeaderMatch("Trace-Bin", None)
    assert present.matches(request_with((b"trace-bin", b"AAE")))
    assert not present.matches(request_with())
    with pytest.raises(ValueError, match="use type Present"):
        HeaderMatch("Trace-Bin", text_matcher("Exact", "AAE"))


@pytest.mark.parametrize(
    ("hostname", "authority", "passes"),
    [
        ("shop.example.com", b"shop.example.com", True),
        ("shop.example.com", b"shop.example.com:443", True),
        ("Shop.Example.com", b"SHOP.example.COM:1", True),
        ("shop.example.com", b"a.shop.example.com", False),
        ("*.example.com", b"shop.example.com:80", True),
        ("*.example.com", b"a.b.example.com", True),
        ("*.example.com", b"example.com", False),
        ("*.example.com", b".example.com", False),
        ("*.example.com", b"badexample.com", False),
        ("127.0.0.1", b"127.0.0.1:8080", True),
        ("localhost", b"", False),
    ],
)
def test_host(hostname: str, authority: bytes, passes: bool) -> None:
    assert HostMatch(hostname).matches(host_of(authority)) is passes


@pytest.mark.parametrize(
    ("authority", "host"),
    [(b"[::1]:8080", b"[::1]"), (b"[::1]", b"[::1]"), (b"A:1", b"a"), (b"a", b"a"), (b":1", b"")],
)
def test_host_of(authority: bytes, host: bytes) -> None:
    assert host_of(authority) == host


@pytest.mark.parametrize(
    ("pattern", "nested"),
    [
        ("(a+)+", True),
        ("(a*)*b", True),
        ("((ab)*c)+", True),
        ("(?:x|y+)*", True),
        ("(a{2,})+", True),
        ("(a+?)+", True),
        ("(?P<n>a+){3,}", True),
        ("(a+)?", False),
        ("(a+){2}", False),
        ("(ab)+", False),
        ("a+b+", False),
        ("(a++)+", False),
        ("(a+)++", False),
        ("(?>a+)+", False),
        (r"(a\+)+", False),
        ("([a+])+", False),
        ("([]+])+", False),
        ("([^]+])+", False),
        (r"([\]+])+", False),
        ("(a{+})+", True),  # a brace without numbers is text, and is repeated here
        ("", False),
        ("(", False),
        (")", False),
        ("[", False),
        ("\\", False),
    ],
)
def test_repeat_inside_a_repeat(pattern: str, nested: bool) -> None:
    assert nested_repeat(pattern) is nested


@pytest.mark.parametrize("pattern", ["(", "[a", "*", "a**"])
def test_pattern_that_does_not_compile(pattern: str) -> None:
    with pytest.raises(ValueError, match="does not compile"):
        compile_pattern(pattern)


def test_pattern_that_could_stall_the_process() -> None:
    with pytest.raises(ValueError, match="possessive"):
        compile_pattern("(x+x+)+y")
