"""The values that every part of the gateway shares: Field, Request, Endpoint, Outcome, and two base classes.

Holds no rules. Everything here is compiled, so these are plain native classes.
"""

from typing import Final

from mypy_extensions import i64, mypyc_attr


class Field:
    """One header field: lower-case name and value, as bytes.

    ``size`` is what it counts towards a header list and a table (RFC 7541 section 4.1). ``never_indexed`` is the
    sender's wish that no hop puts it into a table (RFC 7541 section 6.2.3). ``malformed`` is set once by the decoder
    for a name or value that RFC 9113 section 8.2.1 forbids. Immutable after construction: instances are shared.
    """

    def __init__(self, name: bytes, value: bytes, never_indexed: bool = False, malformed: bool = False) -> None:
        self.name: Final = name
        self.value: Final = value
        self.size: Final[i64] = len(name) + len(value) + 32
        self.never_indexed: Final = never_indexed
        self.malformed: Final = malformed

    def __repr__(self) -> str:
        return f"Field({self.name!r}, {self.value!r})"


class Request:
    """What routing and balancing may look at: the head of a call.

    ``path`` is ``/pkg.Service/Method``; ``fields`` are all regular fields in order, pseudo-header fields left out;
    ``peer`` is the caller's IP address without the port (empty for a unix socket).
    """

    def __init__(self, path: bytes, authority: bytes, fields: list[Field], peer: str) -> None:
        self.path = path
        self.authority = authority
        self.fields = fields
        self.peer = peer

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field, in order; the name in lower case."""
        found = []
        for field in self.fields:
            if field.name == name:
                found.append(field.value)
        return found


# Connectivity of an endpoint, in the words of gRPC's connectivity semantics.
IDLE: Final = 0  # no connection yet, nothing known against it
CONNECTING: Final = 1
READY: Final = 2
TRANSIENT_FAILURE: Final = 3  # the last dial failed; the pool tries again with backoff

STATE_NAMES: Final = ["IDLE", "CONNECTING", "READY", "TRANSIENT_FAILURE"]


class Endpoint:
    """The gateway's dialable view of an instance, with its live counters.

    Identity is (service, instance_id, incarnation, address); the object outlives snapshots. ``address`` is
    "host:port", "[v6]:port" or "unix:/path". ``hash_key`` is the stable identity for consistent hashing (gRFC A76).
    """

    def __init__(
        self,
        service: str,
        instance_id: str,
        address: str,
        labels: dict[str, str],
        weight: int = 1,
        incarnation: int = 0,
        hash_key: str = "",
    ) -> None:
        self.service: Final = service
        self.instance_id: Final = instance_id
        self.address: Final = address
        self.incarnation: Final = incarnation
        self.labels = labels
        self.weight = weight
        self.hash_key = hash_key or instance_id
        self.state = IDLE  # written by the pool alone
        self.last_error = ""  # why the last dial failed
        self.removed = False  # it left the mesh; only calls that started before may still know it
        self.active: i64 = 0  # attempts under way
        self.started: i64 = 0  # attempts ever begun
        self.failed: i64 = 0  # attempts ended by something other than the server's own answer

    def available(self) -> bool:
        """Whether a picker should choose it while there are others."""
        return self.state != TRANSIENT_FAILURE and not self.removed

    def __repr__(self) -> str:
        return f"Endpoint({self.service}/{self.instance_id} at {self.address}, {STATE_NAMES[self.state]})"


class Outcome:
    """How a call ended, with all that telemetry says of it. Times are seconds of the injected monotonic clock."""

    def __init__(self, path: bytes, authority: bytes, peer_host: str, peer_port: int, started: float) -> None:
        self.path = path
        self.authority = authority
        self.peer_host = peer_host  # the caller's socket address
        self.peer_port = peer_port
        self.started = started  # request headers received
        self.ended = started
        self.code = 0  # gRPC status
        self.source = 0  # errors.FROM_*
        self.reason = ""  # one sentence, when the gateway failed the call
        self.message = b""  # grpc-message as the server sent it, still percent-encoded
        self.route = ""  # the matched route's name; empty for a zero-config route
        self.service = ""  # the chosen service; empty when nothing matched
        self.endpoint: Endpoint | None = None  # the last one tried
        self.attempts = 0
        self.attempt_started = 0.0  # the first attempt; 0.0 when there was none
        self.request_bytes: i64 = 0  # DATA payload
        self.response_bytes: i64 = 0


class CallTrace:
    """The trace context of one call: read from the caller, continued upstream.

    Ids are raw bytes (16 and 8). ``upstream_fields`` replace the caller's propagation fields in the forwarded request.
    """

    def __init__(
        self,
        trace_id: bytes,
        parent_span_id: bytes,
        server_span_id: bytes,
        client_span_id: bytes,
        sampled: bool,
        tracestate: str,
        upstream_fields: list[Field],
    ) -> None:
        self.trace_id = trace_id
        self.parent_span_id = parent_span_id  # empty for a root
        self.server_span_id = server_span_id
        self.client_span_id = client_span_id
        self.sampled = sampled
        self.tracestate = tracestate
        self.upstream_fields = upstream_fields


@mypyc_attr(allow_interpreted_subclasses=True)
class Recorder:
    """Hears of calls; the tracing part implements it. ``begin`` and ``end`` must return at once and never raise.

    ``replaced`` holds the names of the request fields that ``begin`` speaks for: the gateway drops them from a
    forwarded request and puts ``CallTrace.upstream_fields`` in their place. The base class records nothing, and
    leaves the caller's trace context untouched.
    """

    replaced: frozenset[bytes]

    def __init__(self) -> None:
        self.replaced = frozenset()

    def begin(self, request: Request) -> CallTrace | None:
        """A call was received. None means that the caller's fields pass through as they are."""
        return None

    def end(self, trace: CallTrace | None, outcome: Outcome) -> None:
        """The call ended. Called exactly once a call, also for calls that were never forwarded."""

    def counters(self) -> dict[str, int]:
        """What became of the records, for operators."""
        return {}

    def close(self, timeout: float) -> bool:
        """Get rid of what is still held, within ``timeout`` seconds; whether all of it went out. May block."""
        return True


@mypyc_attr(allow_interpreted_subclasses=True)
class Waiter:
    """Something that waits: for a timer, or for a connection."""

    def wake(self, now: float) -> None:
        """The wait is over."""
        raise NotImplementedError
