"""One call through the gateway: its phases in order, from the request's headers to the one door it ends through.

    admit -> route -> pick -> open -> forward both ways -> (retry while nothing was answered) -> finish

The call hears its downstream stream; its attempts hear the upstream ones.
"""

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from gateway.errors import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    FROM_DOWNSTREAM,
    FROM_GATEWAY,
    FROM_UPSTREAM,
    H2_CANCEL,
    H2_NO_ERROR,
    INTERNAL,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    UNIMPLEMENTED,
    GatewayError,
    h2_name,
)
from gateway.http2.connection import NO_HANDLER, Connection
from gateway.http2.handler import StreamHandler
from gateway.http2.heads import RequestHead
from gateway.http2.outbound import SMALL_PIECE
from gateway.http2.stream import Stream
from gateway.model import CallTrace, Endpoint, Field, Outcome, Request, Waiter
from gateway.proxy.attempt import Attempt
from gateway.proxy.metadata import (
    BAD_TIMEOUT,
    NO_TIMEOUT,
    downstream_response,
    first_value,
    has_field,
    parse_timeout,
    upstream_request,
)
from gateway.proxy.replies import status_fields, trailers_only
from gateway.proxy.snapshot import Snapshot, Target
from gateway.resilience.retry import MAX_HELD_BYTES, TransparentRetry
from gateway.timers import Timer

if TYPE_CHECKING:
    from gateway.proxy.proxy import Proxy

NO_FIELDS: Final[list[Field]] = []


class Deadline(Waiter):
    """The end of a call's time."""

    def __init__(self, call: "Call") -> None:
        self.call = call

    def wake(self, now: float) -> None:
        """The time is up."""
        self.call.expire(now)


class Call(StreamHandler):
    """One RPC. Holds its snapshot to its end."""

    def __init__(
        self, proxy: "Proxy", connection: Connection, stream: Stream, head: RequestHead, outcome: Outcome
    ) -> None:
        self.proxy: Final = proxy
        self.connection: Final = connection
        self.stream: Final = stream
        self.head: Final = head
        self.outcome: Final = outcome
        self.request: Final = Request(head.path, head.authority, head.fields, outcome.peer_host)
        self.snapshot: Final[Snapshot] = proxy.snapshot
        self.target: Target | None = None
        self.trace: CallTrace | None = None
        self.attempt: Attempt | None = None
        self.finished = False
        self.responding = False  # response headers went downstream: the call is committed
        self._ending = False  # the end waits behind response bytes that the client has not taken
        self._deadline = 0.0  # 0.0: none
        self._timer: Timer | None = None
        self._retry: Final = TransparentRetry()
        # The request as received, until it needs no resending: what waits for a link, and what a retry would send.
        self._held: list[bytes] | None = []
        self._held_bytes: i64 = 0
        self._credited: i64 = 0
        self._request_ended = False
        self._held_trailers: list[Field] | None = None

    # --- admit, route, pick ---

    def begin(self, end_stream: bool, now: float) -> None:
        """Start with the request's headers."""
        self._request_ended = end_stream
        self.trace = self.proxy.recorder.begin(self.request)
        if self.head.oversized:
            self._fail(RESOURCE_EXHAUSTED, "the request's metadata is larger than the gateway takes", now)
        elif self._set_deadline(now) and self._route(now):
            self._pick(None, now)

    def _set_deadline(self, now: float) -> bool:
        """The clock of grpc-timeout starts at the receipt of the headers."""
        fields = self.head.fields
        value = first_value(fields, b"grpc-timeout")
        if not value and not has_field(fields, b"grpc-timeout"):
            return True
        timeout = parse_timeout(value)
        if timeout == BAD_TIMEOUT:
            self._fail(INTERNAL, "grpc-timeout is not one to eight digits and a unit of H, M, S, m, u or n", now)
            return False
        self._deadline = now + timeout
        if timeout <= 0.0:
            self.expire(now)
            return False
        self._timer = self.proxy.timers.add(self._deadline, Deadline(self))
        return True

    def _route(self, now: float) -> bool:
        """Find the target: by the routes, else by the gRPC service that instances declared."""
        snapshot = self.snapshot
        request = self.request
        route = snapshot.routes.match(request.path, request.authority, request)
        if route is not None:
            self.outcome.route = route.name
            key = route.choose(self.proxy.rng.random())
        else:
            slash = request.path.find(b"/", 1)
            service = request.path[1:slash] if slash > 0 else b""
            declared = snapshot.methods.get(service)
            if declared is None:
                self._fail_unrouted(service, now)
                return False
            key = declared
        target = snapshot.targets.get(key)
        if target is None:
            self._fail(UNAVAILABLE, f"service {key} has no live instance", now)
            return False
        self.target = target
        self.outcome.service = target.service
        return True

    def _fail_unrouted(self, service: bytes, now: float) -> None:
        method = self.request.path.decode("latin-1")
        claimants = self.snapshot.ambiguous.get(service)
        if claimants is not None:
            names = ", ".join(claimants)
            self._fail(
                UNIMPLEMENTED, f"{method}: declared by several services ({names}); add a route that says which", now
            )
        elif not self.snapshot.synced:
            self._fail(UNAVAILABLE, "the gateway has not heard from its registry yet", now)
        else:
            self._fail(UNIMPLEMENTED, f"no route and no service for method {method}", now)

    def _pick(self, avoid: Endpoint | None, now: float) -> None:
        """Choose an endpoint, and ask its pool for a connection."""
        target = self.target
        assert target is not None
        endpoint = target.picker.pick(self.request, avoid)
        if endpoint is None:
            self._fail(UNAVAILABLE, self._nobody(target), now)
            return
        outcome = self.outcome
        outcome.endpoint = endpoint
        outcome.attempts += 1
        if outcome.attempts == 1:
            outcome.attempt_started = now
        pool = self.proxy.pool(endpoint)
        attempt = Attempt(self, endpoint, pool)
        self.attempt = attempt
        pool.acquire(attempt, now)

    def _nobody(self, target: Target) -> str:
        """Why there is no endpoint, for people."""
        if not target.endpoints:
            return f"service {target.key} has no live instance"
        errors = []
        for endpoint in target.endpoints[:3]:
            errors.append(f"{endpoint.address}: {'left the mesh' if endpoint.removed else endpoint.last_error}")
        return f"no instance of service {target.key} can be reached ({'; '.join(errors)})"

    # --- open and forward ---

    def open_on(self, attempt: Attempt, connection: Connection, now: float) -> None:
        """Send the request on a connection: head, what was held, and its end if that has come."""
        timeout = NO_TIMEOUT
        if self._deadline:
            timeout = self._deadline - now
            if timeout <= 0.0:
                self.expire(now)
                return
        trace = self.trace
        replaced = self.proxy.recorder.replaced
        added = NO_FIELDS
        if trace is not None:
            added = trace.upstream_fields
        else:
            replaced = NOTHING_REPLACED
        fields = upstream_request(self.head, timeout, replaced, added)
        held = self._held or []
        trailers = self._held_trailers
        ended = self._request_ended and trailers is None
        attempt.resent = self._credited
        attempt.stream = connection.open(attempt, fields, ended and not held, now)
        for index, data in enumerate(held):
            attempt.send(data, ended and index == len(held) - 1, now)
        if trailers is not None:
            attempt.send_trailers(trailers, now)
        self._limit_held()

    def on_data(self, stream: Stream, data: bytes, end_stream: bool, now: float) -> None:
        """Request bytes: kept while they may have to be sent (again), passed on if there is a stream for them."""
        self.outcome.request_bytes += len(data)
        self._request_ended = end_stream
        if self._held is not None and (data or end_stream):
            self._hold(self._held, data)
        attempt = self.attempt
        if attempt is not None and attempt.stream is not None:
            attempt.send(data, end_stream, now)
            self._limit_held()

    def _hold(self, held: list[bytes], data: bytes) -> None:
        """Keep request bytes; small pieces are joined, as in a stream's queue."""
        if held and len(held[-1]) + len(data) <= SMALL_PIECE:
            held[-1] += data
        else:
            held.append(data)
        self._held_bytes += len(data)

    def on_trailers(self, stream: Stream, fields: list[Field], now: float) -> None:
        """The request ends with trailers."""
        self._request_ended = True
        self._held_trailers = fields
        attempt = self.attempt
        if attempt is not None and attempt.stream is not None:
            attempt.send_trailers(fields, now)

    def _limit_held(self) -> None:
        """A request that grew large, or was answered, is not kept for a retry."""
        if self.responding or self._held_bytes > MAX_HELD_BYTES:
            self._held = None

    def credit_request(self, count: i64) -> None:
        """Request bytes left upstream: the client may send as many again."""
        self._credited += count
        self.connection.credit(self.stream, count)

    def start_response(self, fields: list[Field], now: float) -> None:
        """Response headers that are not Trailers-Only commit the call."""
        self.responding = True
        self._held = None
        self.connection.send_headers(self.stream, downstream_response(fields), False, now)

    def pass_response(self, data: bytes, now: float) -> None:
        """Response bytes; the server is credited for what the client's window and socket took."""
        self.outcome.response_bytes += len(data)
        self._credit_response(self.connection.send_data(self.stream, data, False, now))

    def on_sent(self, stream: Stream, count: i64, now: float) -> None:
        """Queued response bytes left."""
        self._credit_response(count)

    def _credit_response(self, count: i64) -> None:
        attempt = self.attempt
        if attempt is not None and count > 0:
            connection = attempt.connection
            upstream = attempt.stream
            if connection is not None and upstream is not None:
                connection.credit(upstream, count)

    # --- the ways it can end ---

    def end_response(self, fields: list[Field], only: bool, code: int, now: float) -> None:
        """The server's own end: trailers, or a whole Trailers-Only response, kept as one frame."""
        outcome = self.outcome
        outcome.code = code
        outcome.source = FROM_UPSTREAM
        if code:
            outcome.message = first_value(fields, b"grpc-message")
        self._end_stream(downstream_response(fields) if only else fields, now)

    def attempt_failed(self, attempt: Attempt, error: GatewayError, now: float) -> None:
        """An attempt broke: try another endpoint if no server can have seen the call, else end it."""
        if self.finished or self._ending:
            return
        if not self.responding and self._held is not None and self._retry.allows(error):
            self._pick(attempt.endpoint, now)
            return
        if self._deadline and now >= self._deadline:
            self.expire(now)
            return
        self.outcome.source = error.source
        self._end_with_status(error.code, error.reason, now)

    def expire(self, now: float) -> None:
        """The deadline passed: the server is told to stop, the client hears DEADLINE_EXCEEDED."""
        if self.finished:
            return
        self._release_attempt(H2_CANCEL, now)
        self.outcome.source = FROM_GATEWAY
        if self.stream.queued_bytes > 0:
            # The client has stopped reading: an end behind bytes that it does not take would wait for ever.
            self.outcome.code = DEADLINE_EXCEEDED
            self.outcome.reason = "deadline exceeded while the client took no more bytes"
            self.connection.reset(self.stream, H2_CANCEL, now)
            self.finish(now)
        elif not self._ending:
            self._end_with_status(DEADLINE_EXCEEDED, "deadline exceeded at the gateway", now)

    def _fail(self, code: int, reason: str, now: float) -> None:
        """The gateway itself ends the call."""
        self.outcome.source = FROM_GATEWAY
        self._end_with_status(code, reason, now)

    def _end_with_status(self, code: int, reason: str, now: float) -> None:
        self.outcome.code = code
        self.outcome.reason = reason
        self._end_stream(status_fields(code, reason) if self.responding else trailers_only(code, reason), now)

    def _end_stream(self, fields: list[Field], now: float) -> None:
        """Send what ends the response; the call is over once that has left."""
        self.connection.send_headers(self.stream, fields, True, now)
        if self.stream.local_closed:
            self.finish(now)
        else:
            self._ending = True

    def on_local_end(self, stream: Stream, now: float) -> None:
        """The end, which had to wait for a slow client, left."""
        self.finish(now)

    def on_reset(self, stream: Stream, code: int, now: float) -> None:
        """The client cancelled."""
        self._left(f"the client reset the stream: {h2_name(code)}", now)

    def on_violation(self, stream: Stream, code: int, reason: str, now: float) -> None:
        """The client broke HTTP/2's rules on this stream."""
        self._left(f"the client broke HTTP/2 on this stream: {reason}", now)

    def on_lost(self, stream: Stream, reason: str, now: float) -> None:
        """The client's connection ended."""
        self._left(f"the client's connection ended: {reason}", now)

    def _left(self, reason: str, now: float) -> None:
        if self.finished:
            return
        self.outcome.code = CANCELLED
        self.outcome.source = FROM_DOWNSTREAM
        self.outcome.reason = reason
        self.finish(now)

    def _release_attempt(self, code: int, now: float) -> None:
        attempt = self.attempt
        if attempt is not None:
            attempt.release(code, now)

    def finish(self, now: float) -> None:
        """The one door: everything that a call holds is given back here, and its story told, exactly once."""
        if self.finished:
            return
        self.finished = True
        self._held = None
        if self._timer is not None:
            self.proxy.timers.cancel(self._timer)
            self._timer = None
        self._release_attempt(H2_CANCEL, now)
        self.attempt = None
        # A request that goes on after its answer is not read any further (RFC 9113 section 8.1).
        self.connection.reset(self.stream, H2_NO_ERROR, now)
        self.stream.handler = NO_HANDLER  # cuts the cycle: a call's memory is free without the collector
        self.outcome.ended = now
        self.proxy.call_ended(self)


NOTHING_REPLACED: Final[frozenset[bytes]] = frozenset()
