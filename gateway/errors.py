"""What can go wrong with a call, as a value: where it came from, and whether a retry is safe.

Holds the tables between HTTP/2 error codes, HTTP statuses and gRPC statuses. Knows nothing of connections or calls.
"""

from typing import Final

# gRPC status codes (grpc/doc/statuscodes.md).
OK: Final = 0
CANCELLED: Final = 1
UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
DEADLINE_EXCEEDED: Final = 4
NOT_FOUND: Final = 5
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
UNAUTHENTICATED: Final = 16

STATUS_NAMES: Final = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]

# HTTP/2 error codes (RFC 9113 section 7).
H2_NO_ERROR: Final = 0x0
H2_PROTOCOL_ERROR: Final = 0x1
H2_INTERNAL_ERROR: Final = 0x2
H2_FLOW_CONTROL_ERROR: Final = 0x3
H2_SETTINGS_TIMEOUT: Final = 0x4
H2_STREAM_CLOSED: Final = 0x5
H2_FRAME_SIZE_ERROR: Final = 0x6
H2_REFUSED_STREAM: Final = 0x7
H2_CANCEL: Final = 0x8
H2_COMPRESSION_ERROR: Final = 0x9
H2_CONNECT_ERROR: Final = 0xA
H2_ENHANCE_YOUR_CALM: Final = 0xB
H2_INADEQUATE_SECURITY: Final = 0xC
H2_HTTP_1_1_REQUIRED: Final = 0xD

H2_NAMES: Final = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
]

# Where an error came from (law 6: a status is never invented).
FROM_UPSTREAM: Final = 0  # the server said so
FROM_GATEWAY: Final = 1  # the gateway decided it
FROM_DOWNSTREAM: Final = 2  # the client left

# Whether the server can have seen the call (gRFC A6, transparent retries).
RETRY_NEVER: Final = 0  # it may have: nothing is known
RETRY_ONCE: Final = 1  # it reached the server's library, unseen by the service (REFUSED_STREAM, beyond a GOAWAY)
RETRY_FREELY: Final = 2  # it never left the gateway


class GatewayError:
    """Why a call failed, in a form that a person and a retry policy can both act on.

    ``code`` is a gRPC status, ``source`` one of FROM_*, ``retry`` one of RETRY_*, ``reason`` one sentence.
    """

    def __init__(self, code: int, source: int, retry: int, reason: str) -> None:
        self.code = code
        self.source = source
        self.retry = retry
        self.reason = reason


def h2_name(code: int) -> str:
    """The RFC 9113 name of an HTTP/2 error code, or its hexadecimal number."""
    if code < len(H2_NAMES):
        return H2_NAMES[code]
    return f"0x{code:x}"


def status_name(code: int) -> str:
    """The name of a gRPC status code, or ``CODE(n)`` for a number outside the list."""
    if 0 <= code < len(STATUS_NAMES):
        return STATUS_NAMES[code]
    return f"CODE({code})"


def status_of_reset(code: int) -> int:
    """The gRPC status that a RST_STREAM with this code means (PROTOCOL-HTTP2.md, "Errors")."""
    if code == H2_REFUSED_STREAM:
        return UNAVAILABLE
    if code == H2_CANCEL:
        return CANCELLED
    if code == H2_ENHANCE_YOUR_CALM:
        return RESOURCE_EXHAUSTED
    if code == H2_INADEQUATE_SECURITY:
        return PERMISSION_DENIED
    return INTERNAL


def status_of_http(status: int) -> int:
    """The gRPC status for an HTTP response without grpc-status (http-grpc-status-mapping.md)."""
    if status in (400, 431):
        return INTERNAL
    if status == 401:
        return UNAUTHENTICATED
    if status == 403:
        return PERMISSION_DENIED
    if status == 404:
        return UNIMPLEMENTED
    if status in (429, 502, 503, 504):
        return UNAVAILABLE
    return UNKNOWN
