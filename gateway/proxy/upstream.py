"""Connections to endpoints: a pool of links for each, dialled when needed, and the attempts that wait for one.

Sans-IO: a Dialer makes the transports. A link counts as ready once the server's SETTINGS arrived, so that its stream
limit is known before the first call (and a port that accepts but never speaks is found out).
"""

import random
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from gateway.errors import (
    FROM_GATEWAY,
    RESOURCE_EXHAUSTED,
    RETRY_FREELY,
    RETRY_NEVER,
    UNAVAILABLE,
    GatewayError,
)
from gateway.http2.connection import Connection
from gateway.http2.handler import ConnectionHandler
from gateway.http2.stream import Stream
from gateway.model import CONNECTING, IDLE, READY, TRANSIENT_FAILURE, Endpoint, Waiter
from gateway.timers import Timer, TimerQueue

if TYPE_CHECKING:
    from gateway.proxy.attempt import Attempt

# Transport and SETTINGS together; Envoy's connect timeout.
CONNECT_TIMEOUT: Final = 5.0
# Dial backoff, in gRPC's numbers (connection-backoff.md).
BACKOFF_FIRST: Final = 1.0
BACKOFF_FACTOR: Final = 1.6
BACKOFF_MOST: Final = 120.0
BACKOFF_JITTER: Final = 0.2
# Connections to one endpoint, opened as MAX_CONCURRENT_STREAMS fills them (gRFC A105's number).
MAX_LINKS: Final = 10
# Calls that may wait for a stream on one endpoint; Linkerd's queue.
MAX_WAITING: Final = 10_000


@mypyc_attr(allow_interpreted_subclasses=True)
class Dialer:
    """Makes transports. Implemented where sockets live."""

    def dial(self, link: "UpstreamLink") -> None:
        """Connect to ``link.endpoint.address``: then ``link.connected(connection)``, or ``link.failed(reason)``."""
        raise NotImplementedError

    def abandon(self, link: "UpstreamLink") -> None:
        """Stop connecting; nothing is reported any more."""
        raise NotImplementedError


class UpstreamLink(ConnectionHandler):
    """One connection to an endpoint, from the dial to its end."""

    def __init__(self, pool: "Pool") -> None:
        self.pool = pool
        self.endpoint: Final = pool.endpoint
        self.connection: Connection | None = None
        self.ready = False
        self.ready_since = 0.0
        self.ended = False
        self.timer: Timer | None = None

    def connected(self, connection: Connection) -> None:
        """The transport is there; the server's SETTINGS must follow."""
        self.connection = connection
        connection.start()

    def failed(self, reason: str, now: float) -> None:
        """There will be no transport."""
        if not self.ended:
            self.ended = True
            self.pool.dial_failed(self, reason, now)

    def has_room(self) -> bool:
        """Whether a stream can be opened now."""
        connection = self.connection
        return self.ready and connection is not None and connection.can_open()

    def on_settings(self, now: float) -> None:
        """The first SETTINGS make the link ready; later ones may raise the stream limit."""
        if self.ended:
            return
        if not self.ready:
            self.ready = True
            self.ready_since = now
            self.pool.link_ready(self, now)
        else:
            self.pool.serve(now)

    def on_goaway(self, code: int, reason: str, now: float) -> None:
        """No new streams here; open ones go on."""
        self.pool.link_leaving(self, now)

    def on_stream_closed(self, stream: Stream, now: float) -> None:
        """Room for another stream, or the last one of a link that leaves."""
        self.pool.stream_closed(self, now)

    def on_connection_lost(self, reason: str, now: float) -> None:
        """The link is over."""
        if not self.ended:
            self.ended = True
            self.pool.link_lost(self, reason, now)


class DialTimeout(Waiter):
    """Ends a dial that takes too long."""

    def __init__(self, link: UpstreamLink) -> None:
        self.link = link

    def wake(self, now: float) -> None:
        """The time is up."""
        link = self.link
        if link.ready or link.ended:
            return
        connection = link.connection
        if connection is None:
            link.pool.dialer.abandon(link)
            link.failed(f"no connection within {CONNECT_TIMEOUT:g} s", now)
        else:
            connection.close(f"no HTTP/2 SETTINGS within {CONNECT_TIMEOUT:g} s", now)


class Redial(Waiter):
    """Dials again after a failure's backoff."""

    def __init__(self, pool: "Pool") -> None:
        self.pool = pool

    def wake(self, now: float) -> None:
        """The backoff is over."""
        self.pool.redial(now)


class Pool:
    """The links of one endpoint, and the attempts that wait for one."""

    def __init__(self, endpoint: Endpoint, dialer: Dialer, timers: TimerQueue, rng: random.Random) -> None:
        self.endpoint: Final = endpoint
        self.dialer: Final = dialer
        self.links: list[UpstreamLink] = []  # ready ones that take new streams
        self.leaving: list[UpstreamLink] = []  # those that take none, and go with their last call
        self.dialing: UpstreamLink | None = None
        self.closed = False  # the endpoint left the mesh
        self._timers: Final = timers
        self._rng: Final = rng
        self._waiting: dict[i64, Attempt] = {}  # by ticket, oldest first
        self._next_ticket: i64 = 0
        self._failures = 0
        self._redial: Timer | None = None

    def acquire(self, attempt: "Attempt", now: float) -> None:
        """Give the attempt a link: at once, or when there is one. Calls ``on_link`` or ``on_no_link`` exactly once."""
        for link in self.links:
            if link.has_room():
                attempt.on_link(link, now)
                return
        if len(self._waiting) >= MAX_WAITING:
            reason = f"{MAX_WAITING} calls already wait for a stream to {self.endpoint.address}"
            attempt.on_no_link(GatewayError(RESOURCE_EXHAUSTED, FROM_GATEWAY, RETRY_NEVER, reason), now)
            return
        attempt.ticket = self._next_ticket
        self._next_ticket += 1
        self._waiting[attempt.ticket] = attempt
        self._dial_if_useful(now)

    def forget(self, attempt: "Attempt") -> None:
        """The attempt waits no longer."""
        self._waiting.pop(attempt.ticket, None)

    def waiting(self) -> int:
        """How many attempts wait for a link."""
        return len(self._waiting)

    def timers(self) -> int:
        """How many timers the pool itself runs: a dial's limit, a backoff."""
        dial = self.dialing
        return int(self._redial is not None) + int(dial is not None and dial.timer is not None)

    def is_empty(self) -> bool:
        """Whether there is no connection, and none being made."""
        return not self.links and not self.leaving and self.dialing is None

    def serve(self, now: float) -> None:
        """Give waiting attempts the streams that have become free, oldest first."""
        for link in self.links:
            while self._waiting and link.has_room():
                ticket = next(iter(self._waiting))
                self._waiting.pop(ticket).on_link(link, now)
        if self._waiting:
            self._dial_if_useful(now)

    def close(self, now: float) -> None:
        """The endpoint left the mesh: open streams finish, then the links go."""
        self.closed = True
        if self._redial is not None:
            self._timers.cancel(self._redial)
            self._redial = None
        for link in self.all_links():
            self._close_if_idle(link, now)

    def all_links(self) -> list[UpstreamLink]:
        """All links that have a connection which works."""
        return [*self.links, *self.leaving]

    def abort(self, reason: str, now: float) -> None:
        """End every link at once, streams and all."""
        self.close(now)
        dialing = self.dialing
        if dialing is not None and dialing.connection is None:
            self.dialer.abandon(dialing)
            dialing.failed(reason, now)
        elif dialing is not None and dialing.connection is not None:
            dialing.connection.close(reason, now)
        for link in self.all_links():
            if link.connection is not None:
                link.connection.close(reason, now)

    # --- dialling ---

    def _dial_if_useful(self, now: float) -> None:
        """At most one dial at a time; none while a backoff runs, beyond MAX_LINKS, or to a server that takes none."""
        if self.dialing is None and self._redial is None and len(self.links) < MAX_LINKS and not self._shut():
            self._dial(now)

    def _shut(self) -> bool:
        """Whether the server allows no streams at all for now: another connection would hear the same."""
        for link in self.links:
            connection = link.connection
            if connection is not None and connection.peer.max_streams == 0:
                return True
        return False

    def _dial(self, now: float) -> None:
        link = UpstreamLink(self)
        self.dialing = link
        if self.endpoint.state == IDLE:
            self.endpoint.state = CONNECTING
        link.timer = self._timers.add(now + CONNECT_TIMEOUT, DialTimeout(link))
        self.dialer.dial(link)

    def redial(self, now: float) -> None:
        """A backoff is over: try again, so that the endpoint is known to work before calls are sent to it."""
        self._redial = None
        if not self.closed and self.dialing is None and (not self.links or self._waiting):
            self._dial(now)

    def link_ready(self, link: UpstreamLink, now: float) -> None:
        """A dial succeeded."""
        self._dial_done(link)
        self._failures = 0
        self.endpoint.state = READY
        self.endpoint.last_error = ""
        self.links.append(link)
        self.serve(now)
        if self.closed:
            self._close_if_idle(link, now)

    def dial_failed(self, link: UpstreamLink, reason: str, now: float) -> None:
        """A dial failed: calls go elsewhere, and the endpoint is tried again after a while."""
        self._dial_done(link)
        endpoint = self.endpoint
        endpoint.last_error = reason
        if not self.closed:
            self._redial = self._timers.add(now + self._backoff(), Redial(self))
        self._failures += 1
        if self.links:
            return  # a further link failed; what waits is served by those there are
        endpoint.state = TRANSIENT_FAILURE
        error = GatewayError(UNAVAILABLE, FROM_GATEWAY, RETRY_FREELY, f"cannot connect to {endpoint.address}: {reason}")
        waiting = list(self._waiting.values())
        self._waiting.clear()
        for attempt in waiting:
            attempt.on_no_link(error, now)

    def _dial_done(self, link: UpstreamLink) -> None:
        if self.dialing is link:
            self.dialing = None
        if link.timer is not None:
            self._timers.cancel(link.timer)
            link.timer = None

    def _backoff(self) -> float:
        # 1.6^16 is far above the cap.
        wait = BACKOFF_FIRST * BACKOFF_FACTOR ** min(self._failures, 16)
        return min(wait, BACKOFF_MOST) * (1.0 + BACKOFF_JITTER * (2.0 * self._rng.random() - 1.0))

    # --- links ---

    def link_leaving(self, link: UpstreamLink, now: float) -> None:
        """The server will take no new streams on this link; calls that wait need another one."""
        if link in self.links:
            self.leaving.append(link)
            self._drop(link, now)
        self._close_if_idle(link, now)
        if self._waiting:
            self._dial_if_useful(now)

    def link_lost(self, link: UpstreamLink, reason: str, now: float) -> None:
        """A link, or the dial of one, ended."""
        if not link.ready:
            self.dial_failed(link, reason, now)
            return
        if link in self.links:
            self._drop(link, now)
        elif link in self.leaving:
            self.leaving.remove(link)
        if self._waiting:
            self._dial_if_useful(now)

    def _drop(self, link: UpstreamLink, now: float) -> None:
        """No new streams on this link. After the last one, a backoff meant for a further one holds nobody up."""
        self.links.remove(link)
        if self.links:
            return
        self.endpoint.state = IDLE
        if self._redial is not None:
            self._timers.cancel(self._redial)
            self._redial = None
        connection = link.connection
        sent_away = connection is not None and connection.unused() and now - link.ready_since < BACKOFF_FIRST
        if sent_away and not self.closed:
            # A server that takes connections and sends them away at once is not dialled in a circle.
            self._redial = self._timers.add(now + self._backoff(), Redial(self))

    def stream_closed(self, link: UpstreamLink, now: float) -> None:
        """A stream's place is free."""
        connection = link.connection
        if connection is not None and connection.used_up() and link in self.links:
            self.link_leaving(link, now)
            return
        if self._waiting:
            self.serve(now)
        self._close_if_idle(link, now)

    def _close_if_idle(self, link: UpstreamLink, now: float) -> None:
        """A link that takes no new streams goes with its last one."""
        connection = link.connection
        if connection is None or connection.streams or connection.closed:
            return
        if self.closed or link in self.leaving:
            connection.close("no streams left", now)
