"""Leases and their clock: who must be heard from until when. Pure: every call is told what time it is.

A lease's next moment of interest (a missed beat, the end of its term, the end of its drain) is kept in one heap with
one valid entry a lease. A renewal only moves the lease's own numbers; the entry is put right when it comes up, so
renewing costs nothing that grows with the number of leases.
"""

import enum
import heapq
from collections import OrderedDict

from registry.model import LeaseEnd, Name

TICK_SECONDS = 0.1  # how often the registry looks for leases that are due
MAX_TICKS_PER_TURN = 2  # more than that was a stall of our own, which must cost no lease anything

# A beat may be late by half an interval before its sender is doubted: beats jitter, and networks queue.
SUSPECT_SLACK = 0.5
# Good beats that clear a doubt: one may be the last gasp of a process in trouble.
CLEARING_BEATS = 2
# Beats closer together than this part of an interval count as one: a repeat proves nothing new.
BEAT_SPACING = 0.25

ENDED_LEASE_SECONDS = 600.0  # how long a lost lease is told why it was lost
MAX_ENDED_LEASES = 200_000  # twice the leases there can be, about 40 MiB

FLAP_TOKENS = 5.0  # changes of readiness that pass at once
FLAP_REFILL_PER_SECOND = 5.0 / 60.0

CONFLICT_TAKEOVERS = 3  # takeovers between the same two boots ...
CONFLICT_WINDOW_SECONDS = 60.0  # ... within this time; more is two processes fighting for one name
CONFLICT_HOLD_SECONDS = 60.0  # how long the holder then keeps it
MAX_TAKEOVERS_KEPT = 8  # enough to count three between two boots among others


class LeaseClock:
    """Monotonic time that stops while the registry itself is stalled.

    One turn advances it by two ticks at most, so after a stop of the process, a blocked loop or a suspended machine
    every lease has as much left as before. It never runs faster than the clock that it is fed, so no lease ends early.
    """

    def __init__(self, now: float) -> None:
        self._fed = now
        self._time = 0.0
        self.lag = 0.0  # seconds of stall that leases were spared, in total
        self.stalled = False  # whether the last turn was cut short

    def read(self, now: float) -> float:
        """The lease time at monotonic ``now``, without making it so."""
        return self._time + min(max(now - self._fed, 0.0), TICK_SECONDS * MAX_TICKS_PER_TURN)

    def advance(self, now: float) -> float:
        """Move on to monotonic ``now``, once a turn. Returns the lease time."""
        passed = max(now - self._fed, 0.0)
        step = min(passed, TICK_SECONDS * MAX_TICKS_PER_TURN)
        self.stalled = step < passed
        self.lag += passed - step
        self._time += step
        self._fed = max(now, self._fed)
        return self._time


class TokenBucket:
    """Says how often something may happen: a burst at once, then a steady rate."""

    def __init__(self, now: float) -> None:
        self._tokens = FLAP_TOKENS
        self._filled = now

    def take(self, now: float) -> bool:
        """Use up one token; false when there is none."""
        self._tokens = min(FLAP_TOKENS, self._tokens + (now - self._filled) * FLAP_REFILL_PER_SECOND)
        self._filled = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Takeover:
    """One boot took the name from another. ``boots`` are both, in either order."""

    __slots__ = ("boots", "time")

    def __init__(self, boots: frozenset[bytes], time: float) -> None:
        self.boots = boots
        self.time = time


class Lease:
    """The living side of a record: when it was last heard from, and what it claims. ``ttl`` and ``interval`` in s."""

    __slots__ = (
        "armed",
        "beats_since_doubt",
        "blocked_until",
        "bucket",
        "claims_ready",
        "deadline",
        "doubt_at",
        "drain_until",
        "heard_at",
        "interval",
        "lease_id",
        "name",
        "not_ready_reason",
        "reasons",
        "suspect",
        "takeovers",
        "ttl",
    )

    def __init__(self, lease_id: bytes, name: Name, ttl: float, interval: float, ready: bool, reason: str) -> None:
        self.lease_id = lease_id
        self.name = name
        self.ttl = ttl
        self.interval = interval
        self.claims_ready = ready
        self.not_ready_reason = reason
        self.deadline = 0.0
        self.doubt_at = 0.0
        self.heard_at = 0.0
        self.drain_until: float | None = None
        self.suspect = False
        self.beats_since_doubt = 0
        self.bucket: TokenBucket | None = None  # made at the first change of readiness
        self.reasons: TokenBucket | None = None  # the same for the reason alone
        self.takeovers: tuple[Takeover, ...] = ()  # of its name, newest last
        self.blocked_until = 0.0  # until when nobody may take the name over
        self.armed = 0.0  # the time of its one valid entry in the heap; 0.0 without one

    def next_moment(self) -> float:
        """When something is due next."""
        moment = self.deadline if self.drain_until is None else min(self.deadline, self.drain_until)
        return min(moment, self.doubt_at)


class Due(enum.Enum):
    """What is due for a lease."""

    DOUBT = "a beat was missed"
    EXPIRY = "the term ended"
    DRAINED = "the drain reached its deadline"


class LeaseTable:
    """All living leases by id, the heap of what is due, and the recently ended ones with their reason."""

    def __init__(self) -> None:
        self._leases: dict[bytes, Lease] = {}
        self._heap: list[tuple[float, int, Lease]] = []
        self._sequence = 0
        self._ended: OrderedDict[bytes, tuple[LeaseEnd, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def heap_size(self) -> int:
        """Entries in the heap, stale ones included; never more than a little over twice the leases."""
        return len(self._heap)

    @property
    def ended_size(self) -> int:
        """How many ended leases are remembered."""
        return len(self._ended)

    def grant(self, lease: Lease, now: float) -> None:
        """Start a lease: its full term from now."""
        self._leases[lease.lease_id] = lease
        self._restart(lease, now)
        self._rearm(lease)

    def get(self, lease_id: bytes) -> Lease | None:
        """The living lease, or None."""
        return self._leases.get(lease_id)

    def fate(self, lease_id: bytes, now: float) -> LeaseEnd:
        """What became of a lease that is not alive."""
        end, time = self._ended.get(lease_id, (LeaseEnd.UNKNOWN, now))
        return end if now - time < ENDED_LEASE_SECONDS else LeaseEnd.UNKNOWN

    def renew(self, lease: Lease, now: float) -> bool:
        """A good beat: a full term from now. Returns whether this cleared a doubt."""
        repeat = now - lease.heard_at < lease.interval * BEAT_SPACING
        self._restart(lease, now)
        if not lease.suspect or repeat:
            return False
        lease.beats_since_doubt += 1
        if lease.beats_since_doubt < CLEARING_BEATS:
            return False
        lease.suspect = False
        return True

    def retime(self, lease: Lease, ttl: float, interval: float, now: float) -> None:
        """Another term and beat interval (s), from now on."""
        lease.ttl = ttl
        lease.interval = interval
        self._restart(lease, now)
        self._rearm(lease)

    def drain(self, lease: Lease, until: float | None) -> None:
        """End the lease at ``until`` even if it is renewed; None takes that back."""
        lease.drain_until = until
        self._rearm(lease)

    def due(self, now: float, limit: int) -> list[tuple[Lease, Due]]:
        """Up to ``limit`` leases for which something is due, earliest first.

        A doubt is noted on the lease at once. Ends are only reported, and again at each later call until ``end``
        makes them true: a beat that comes before that saves the lease.
        """
        found: list[tuple[Lease, Due]] = []
        again: list[Lease] = []
        while len(found) < limit and self._heap and self._heap[0][0] <= now:
            armed, _, lease = heapq.heappop(self._heap)
            if lease.armed != armed:
                continue  # a stale entry
            lease.armed = 0.0
            what = self._what_is_due(lease, now)
            if what is not None:
                found.append((lease, what))
            if what is None or what is Due.DOUBT:
                self._push(lease, lease.next_moment())
            else:
                again.append(lease)
        for lease in again:
            self._push(lease, lease.next_moment())
        return found

    def is_over(self, lease: Lease, now: float) -> Due | None:
        """Whether a lease has to end now, and for which reason."""
        if lease.deadline <= now:
            return Due.EXPIRY
        if lease.drain_until is not None and lease.drain_until <= now:
            return Due.DRAINED
        return None

    def end(self, lease_id: bytes, end: LeaseEnd, now: float) -> None:
        """The lease is no more. Its heap entry is dropped when it comes up, or when most of the heap is stale."""
        lease = self._leases.pop(lease_id, None)
        if lease is None:
            return
        lease.armed = 0.0
        self._ended[lease_id] = (end, now)
        if len(self._ended) > MAX_ENDED_LEASES:
            self._ended.popitem(last=False)
        self._compact()

    def sweep(self, now: float) -> None:
        """Forget leases that ended long ago."""
        while self._ended:
            lease_id, (_, time) = next(iter(self._ended.items()))
            if now - time < ENDED_LEASE_SECONDS:
                return
            del self._ended[lease_id]

    def next_moment(self) -> float | None:
        """When ``due`` may find something next, or None with no lease."""
        while self._heap and self._heap[0][2].armed != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _rearm(self, lease: Lease) -> None:
        """Put the lease's next moment into the heap, if it comes before the entry that is there."""
        moment = lease.next_moment()
        if lease.armed and lease.armed <= moment:
            return  # the entry comes up first, and is put right then
        self._push(lease, moment)

    def _restart(self, lease: Lease, now: float) -> None:
        lease.heard_at = now
        lease.deadline = now + lease.ttl
        lease.doubt_at = now + lease.interval * (1.0 + SUSPECT_SLACK)

    def _what_is_due(self, lease: Lease, now: float) -> Due | None:
        over = self.is_over(lease, now)
        if over is not None:
            return over
        if lease.doubt_at > now:
            return None
        lease.doubt_at = now + lease.interval  # the next beat that it may miss
        lease.beats_since_doubt = 0
        if lease.suspect:
            return None
        lease.suspect = True
        return Due.DOUBT

    def _push(self, lease: Lease, moment: float) -> None:
        self._sequence += 1
        lease.armed = moment
        heapq.heappush(self._heap, (moment, self._sequence, lease))
        self._compact()

    def _compact(self) -> None:
        """Rebuild the heap when most of it is stale: names that are taken over and over leave entries behind."""
        if len(self._heap) > 64 and len(self._heap) > 2 * len(self._leases):
            self._heap = [entry for entry in self._heap if entry[2].armed == entry[0]]
            heapq.heapify(self._heap)
