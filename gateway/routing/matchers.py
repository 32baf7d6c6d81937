"""What a route can ask of a call: matchers of text, of one metadata name, and of the authority.

The kinds are those of the Kubernetes Gateway API's GRPCRoute. All work on the raw bytes of the request.
"""

from typing import Final

from mypy_extensions import mypyc_attr

from gateway.model import Request
from gateway.routing.patterns import MAX_PATTERN_INPUT, compile_pattern

EXACT: Final = "Exact"
PREFIX: Final = "Prefix"
REGULAR_EXPRESSION: Final = "RegularExpression"
PRESENT: Final = "Present"

# How specific a matcher is, before its length counts: an exact text says more than a pattern of any length.
RANK_ANY: Final = 0
RANK_PATTERN: Final = 1
RANK_EXACT: Final = 2


@mypyc_attr(allow_interpreted_subclasses=True)
class TextMatcher:
    """A test of one value. ``kind`` is one of the words above, ``rank`` one of RANK_*, ``text`` what was asked for."""

    def __init__(self, kind: str, rank: int, text: bytes) -> None:
        self.kind: Final = kind
        self.rank: Final = rank
        self.text: Final = text

    def matches(self, value: bytes) -> bool:
        """Whether the value passes."""
        raise NotImplementedError


class ExactMatcher(TextMatcher):
    """The value is the text, byte for byte."""

    def __init__(self, text: bytes) -> None:
        super().__init__(EXACT, RANK_EXACT, text)

    def matches(self, value: bytes) -> bool:
        """Whether the value passes."""
        return value == self.text


class PrefixMatcher(TextMatcher):
    """The value starts with the text."""

    def __init__(self, text: bytes) -> None:
        super().__init__(PREFIX, RANK_PATTERN, text)

    def matches(self, value: bytes) -> bool:
        """Whether the value passes."""
        return value.startswith(self.text)


class PatternMatcher(TextMatcher):
    """The whole value matches a regular expression; a value beyond MAX_PATTERN_INPUT bytes does not."""

    def __init__(self, text: str) -> None:
        super().__init__(REGULAR_EXPRESSION, RANK_PATTERN, text.encode())
        self._pattern: Final = compile_pattern(text)

    def matches(self, value: bytes) -> bool:
        """Whether the value passes."""
        return len(value) <= MAX_PATTERN_INPUT and self._pattern.fullmatch(value) is not None


def text_matcher(kind: str, text: str) -> TextMatcher:
    """The matcher of a kind. Raises ValueError for a kind that compares no text, or a bad regular expression."""
    if kind == EXACT:
        return ExactMatcher(text.encode())
    if kind == PREFIX:
        return PrefixMatcher(text.encode())
    if kind == REGULAR_EXPRESSION:
        return PatternMatcher(text)
    raise ValueError(f"{kind!r} is not a way to compare text: use {EXACT}, {PREFIX} or {REGULAR_EXPRESSION}")


class HeaderMatch:
    """A test of one metadata name; ``value`` None asks for presence only.

    A repeated name passes when any one of its values does; values are not joined. ``invert`` negates the result as a
    whole: "no value is acme", which a call without the name passes too. Names compare in lower case. A ``-bin`` value
    has many encodings of the same bytes on the wire, so such a name can be asked for presence only (ValueError).
    """

    def __init__(self, name: str, value: TextMatcher | None, invert: bool = False) -> None:
        lowered = name.lower()
        if value is not None and lowered.endswith("-bin"):
            raise ValueError(f"{lowered!r} holds binary metadata, which has no text to compare: use type {PRESENT}")
        self.name: Final = lowered.encode()
        self.value: Final = value
        self.invert: Final = invert

    def matches(self, request: Request) -> bool:
        """Whether the call passes."""
        name = self.name
        value = self.value
        for field in request.fields:
            if field.name == name and (value is None or value.matches(field.value)):
                return not self.invert
        return self.invert

    def describe(self) -> str:
        """The test in words that identify it."""
        value = self.value
        what = PRESENT if value is None else f"{value.kind} {value.text!r}"
        return f"{self.name!r} {'not ' if self.invert else ''}{what}"


class HostMatch:
    """A test of the authority's host: a name, or ``*.`` and a suffix of one label or more (GRPCRoute hostnames).

    Case does not count, and the authority's port is ignored.
    """

    def __init__(self, hostname: str) -> None:
        lowered = hostname.lower().encode()
        self.wildcard: Final = lowered.startswith(b"*.")
        # A wildcard keeps its dot: "*.example.com" is the suffix ".example.com".
        self.text: Final = lowered[1:] if self.wildcard else lowered

    def matches(self, host: bytes) -> bool:
        """Whether a host in lower case, without its port, passes."""
        if self.wildcard:
            return len(host) > len(self.text) and host.endswith(self.text)
        return host == self.text


def host_of(authority: bytes) -> bytes:
    """The host of an authority in lower case: without the port, an IPv6 address still in its brackets."""
    end = authority.rfind(b":")
    # A colon inside brackets belongs to the address.
    if end >= 0 and end > authority.rfind(b"]"):
        authority = authority[:end]
    return authority.lower()
