"""Requests and responses as header blocks: split into a head, and checked against RFC 9113 section 8.

A block that breaks a rule is malformed: its stream is reset, and nothing of it is ever forwarded (section 8.1.1).
"""

from typing import Final

from mypy_extensions import i64

from gateway.model import Field

# Connection-specific fields, which HTTP/2 forbids (section 8.2.2).
CONNECTION_FIELDS: Final = frozenset(
    [b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"]
)
# What a path may consist of (RFC 3986 pchar, "/" and "?"; "%" for escapes): anything else could be read in two ways.
PATH_BYTES: Final = bytes(byte for byte in range(0x21, 0x7F) if byte not in b'#"<>\\^`{|}')
DIGITS: Final = b"0123456789"
# More digits than any content that passes here can have; keeps the number within 64 bits.
MAX_LENGTH_DIGITS: Final = 18

NO_LENGTH: Final = -1


class RequestHead:
    """A request's pseudo-header fields, and its regular fields in order."""

    def __init__(self) -> None:
        self.method = b""
        self.scheme = b""
        self.path = b""
        self.authority = b""
        self.fields: list[Field] = []
        self.content_length: i64 = NO_LENGTH
        self.oversized = False  # the list went over the limit: fields are missing


class ResponseHead:
    """A response's status, and its regular fields in order."""

    def __init__(self) -> None:
        self.status = 0
        self.fields: list[Field] = []
        self.content_length: i64 = NO_LENGTH
        self.oversized = False


def parse_request(block: list[Field], head: RequestHead) -> str:
    """Fill ``head`` from a decoded block; returns what is malformed about it, or an empty string."""
    seen_method = seen_scheme = seen_path = seen_authority = False
    host: Field | None = None
    regular = head.fields
    for field in block:
        name = field.name
        if field.malformed:
            return "a field has a forbidden name or value"
        if name.startswith(b":"):
            if regular or host is not None:
                return "a pseudo-header field comes after a regular one"
            if name == b":path":
                if seen_path:
                    return "repeated :path"
                seen_path = True
                head.path = field.value
            elif name == b":method":
                if seen_method:
                    return "repeated :method"
                seen_method = True
                head.method = field.value
            elif name == b":authority":
                if seen_authority:
                    return "repeated :authority"
                seen_authority = True
                head.authority = field.value
            elif name == b":scheme":
                if seen_scheme:
                    return "repeated :scheme"
                seen_scheme = True
                head.scheme = field.value
            else:
                return "unknown pseudo-header field"
        elif name == b"host":
            if host is not None:
                return "repeated host"
            host = field
        else:
            problem = check_regular(field, True)
            if problem:
                return problem
            if name == b"content-length":
                if head.content_length != NO_LENGTH:
                    return "repeated content-length"
                head.content_length = parse_length(field.value)
                if head.content_length < 0:
                    return "content-length is not a number"
            regular.append(field)
    if not (seen_method and seen_scheme and seen_path):
        return "a pseudo-header field is missing"
    return check_target(head, host, seen_authority)


def check_target(head: RequestHead, host: Field | None, seen_authority: bool) -> str:
    """Path and authority must be readable in one way only, or two hops could disagree on what they name."""
    whole_server = head.path == b"*" and head.method == b"OPTIONS"
    if not whole_server and (not head.path.startswith(b"/") or head.path.translate(None, PATH_BYTES)):
        return ":path is not an absolute path"
    if host is not None:
        # The two name one thing; when both are there they must agree (section 8.3.1).
        if not seen_authority:
            head.authority = host.value
        elif host.value != head.authority:
            return "host and :authority differ"
    if not head.authority:
        return "neither :authority nor host names an authority"  # http needs one (RFC 9110 section 4.2.1)
    if b"@" in head.authority:
        return ":authority holds user information"
    return ""


def parse_response(block: list[Field], head: ResponseHead) -> str:
    """Fill ``head`` from a decoded block; returns what is malformed about it, or an empty string."""
    for field in block:
        name = field.name
        if field.malformed:
            return "a field has a forbidden name or value"
        if name.startswith(b":"):
            if name != b":status":
                return "unknown pseudo-header field"
            if head.status or head.fields:
                return ":status is repeated or comes late"
            value = field.value
            if len(value) != 3 or value.translate(None, DIGITS) or value[0] == 0x30:
                return ":status is not a status"
            head.status = int(value)
        else:
            problem = check_regular(field, False)
            if problem:
                return problem
            if name == b"content-length":
                if head.content_length != NO_LENGTH:
                    return "repeated content-length"
                head.content_length = parse_length(field.value)
                if head.content_length < 0:
                    return "content-length is not a number"
            head.fields.append(field)
    return "" if head.status else ":status is missing"


def check_trailers(block: list[Field]) -> str:
    """What is malformed about a trailer section, or an empty string."""
    for field in block:
        if field.malformed:
            return "a trailer has a forbidden name or value"
        if field.name.startswith(b":"):
            return "a pseudo-header field among the trailers"
        problem = check_regular(field, False)
        if problem:
            return problem
    return ""


def check_regular(field: Field, request: bool) -> str:
    """Fields about the connection between two HTTP/1.1 hops make a message malformed (section 8.2.2)."""
    name = field.name
    if name in CONNECTION_FIELDS:
        return "a connection-specific field"
    if name == b"te" and (not request or field.value != b"trailers"):
        return "te says something other than trailers"
    return ""


def parse_length(value: bytes) -> i64:
    """A content-length, or -1 for what is none."""
    if not value or len(value) > MAX_LENGTH_DIGITS or value.translate(None, DIGITS):
        return -1
    return int(value)
