"""Metadata from hop to hop: what is passed, dropped or made anew (gRPC PROTOCOL-HTTP2.md; RFC 9110 section 7.6).

Everything that is not named here passes untouched and in order: binary and repeated metadata, grpc-encoding,
grpc-accept-encoding, grpc-status-details-bin, unknown grpc-* fields.
"""

from typing import Final

from gateway.http2.heads import RequestHead
from gateway.model import Field

METHOD_POST: Final = Field(b":method", b"POST")
SCHEME_HTTP: Final = Field(b":scheme", b"http")
TE_TRAILERS: Final = Field(b"te", b"trailers")
STATUS_200: Final = Field(b":status", b"200")

GRPC: Final = b"application/grpc"
DIGITS: Final = b"0123456789"
# Seconds in each unit of grpc-timeout.
TIMEOUT_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
# The wire allows eight digits.
MAX_TIMEOUT_DIGITS: Final = 8
NO_TIMEOUT: Final = -1.0
BAD_TIMEOUT: Final = -2.0


def is_grpc(content_type: bytes) -> bool:
    """Whether a content-type is application/grpc, or that with a "+codec" or parameters."""
    return content_type.startswith(GRPC) and (len(content_type) == 16 or content_type[16:17] in (b"+", b";"))


def first_value(fields: list[Field], name: bytes) -> bytes:
    """The first value of a field, or empty."""
    for field in fields:
        if field.name == name:
            return field.value
    return b""


def has_field(fields: list[Field], name: bytes) -> bool:
    """Whether a field is there, be it empty."""
    return any(field.name == name for field in fields)  # mypyc makes a plain loop of it


def parse_timeout(value: bytes) -> float:
    """A grpc-timeout in seconds; BAD_TIMEOUT for anything but one to eight digits and a unit."""
    digits = value[:-1]
    unit = TIMEOUT_UNITS.get(value[-1:])
    if unit is None or not digits or len(digits) > MAX_TIMEOUT_DIGITS or digits.translate(None, DIGITS):
        return BAD_TIMEOUT
    return int(digits) * unit


def format_timeout(seconds: float) -> bytes:
    """What remains of a deadline, rounded down so that it never grows from hop to hop."""
    if seconds < 0.0001:
        return b"%dn" % max(int(seconds * 1e9), 1)
    if seconds < 99.0:
        return b"%du" % int(seconds * 1e6)
    if seconds < 99_999.0:
        return b"%dm" % int(seconds * 1e3)
    return b"%dS" % min(int(seconds), 99_999_999)


def upstream_request(head: RequestHead, timeout: float, replaced: frozenset[bytes], added: list[Field]) -> list[Field]:
    """The request's fields for the next hop.

    ``timeout`` is what remains of the deadline in seconds, or NO_TIMEOUT; ``te: trailers`` is always said, since
    gRPC servers refuse a call without it; ``added`` stands in for the fields named in ``replaced``.
    """
    fields = [METHOD_POST, SCHEME_HTTP, Field(b":path", head.path)]
    if head.authority:
        fields.append(Field(b":authority", head.authority))
    fields.append(TE_TRAILERS)
    if timeout >= 0.0:
        fields.append(Field(b"grpc-timeout", format_timeout(timeout)))
    for field in head.fields:
        name = field.name
        if name == b"te" or name == b"grpc-timeout" or name in replaced:
            continue
        fields.append(field)
    fields.extend(added)
    return fields


def downstream_response(fields: list[Field]) -> list[Field]:
    """A response's head, or a Trailers-Only response, as it goes on to the client."""
    result = [STATUS_200]
    result.extend(fields)
    return result


def parse_status(value: bytes) -> int:
    """A grpc-status; -1 for what is none."""
    if not value or len(value) > 3 or value.translate(None, DIGITS):
        return -1
    return int(value)


def percent_encode(text: str) -> bytes:
    """A grpc-message: UTF-8 with everything but printable ASCII, and "%" itself, percent-encoded."""
    out = []
    for byte in text.encode():
        if 0x20 <= byte <= 0x7E and byte != 0x25:
            out.append(chr(byte))
        else:
            out.append(f"%{byte:02X}")
    return "".join(out).encode()
