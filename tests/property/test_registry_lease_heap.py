"""The lease table and clock against models that are too simple to be wrong."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from registry.leases import SUSPECT_SLACK, Due, Lease, LeaseClock, LeaseTable
from registry.model import LeaseEnd, Name


class NaiveLease:
    def __init__(self, ttl: float, interval: float, now: float) -> None:
        self.ttl, self.interval = ttl, interval
        self.drain_until: float | None = None
        self.renew(now)

    def renew(self, now: float) -> None:
        self.deadline = now + self.ttl

    def over(self, now: float) -> Due | None:
        if self.deadline <= now:
            return Due.EXPIRY
        return Due.DRAINED if self.drain_until is not None and self.drain_until <= now else None


class HeapAgainstScan(RuleBasedStateMachine):
    """The heap must find what a scan of all leases finds, whatever happened to them before."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1.0
        self.count = 0
        self.table = LeaseTable()
        self.naive: dict[bytes, NaiveLease] = {}

    def pick(self, number: int) -> bytes | None:
        return list(self.naive)[number % len(self.naive)] if self.naive else None

    @rule(ttl=st.integers(3, 30))
    def grant(self, ttl: int) -> None:
        self.count += 1
        lease_id = self.count.to_bytes(16, "big")
        lease = Lease(lease_id, Name("n", "s", str(self.count)), float(ttl), ttl / 3, True, "")
        self.table.grant(lease, self.now)
        self.naive[lease_id] = NaiveLease(float(ttl), ttl / 3, self.now)

    @rule(number=st.integers(0, 50))
    def renew(self, number: int) -> None:
        if (lease_id := self.pick(number)) is not None:
            self.table.renew(self.table.get(lease_id), self.now)
            self.naive[lease_id].renew(self.now)

    @rule(number=st.integers(0, 50), ttl=st.integers(3, 30))
    def retime(self, number: int, ttl: int) -> None:
        if (lease_id := self.pick(number)) is not None:
            self.table.retime(self.table.get(lease_id), float(ttl), ttl / 3, self.now)
            naive = self.naive[lease_id]
            naive.ttl = float(ttl)
            naive.renew(self.now)

    @rule(number=st.integers(0, 50), after=st.none() | st.integers(0, 40))
    def drain(self, number: int, after: int | None) -> None:
        if (lease_id := self.pick(number)) is not None:
            until = None if after is None else self.now + after
            self.table.drain(self.table.get(lease_id), until)
            self.naive[lease_id].drain_until = until

    @rule(number=st.integers(0, 50))
    def end(self, number: int) -> None:
        if (lease_id := self.pick(number)) is not None:
            self.table.end(lease_id, LeaseEnd.DEREGISTERED, self.now)
            del self.naive[lease_id]

    @rule(seconds=st.sampled_from([0.1, 1.0, 2.5, 7.0, 20.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(limit=st.integers(1, 5))
    def look(self, limit: int) -> None:
        """A bounded look finds only what is due, and ends some of it."""
        for lease, what in self.table.due(self.now, limit):
            naive = self.naive[lease.lease_id]
            if what is Due.DOUBT:
                assert lease.suspect
            else:
                assert naive.over(self.now) is what
                self.table.end(lease.lease_id, LeaseEnd.EXPIRED, self.now)
                del self.naive[lease.lease_id]

    @invariant()
    def finds_what_a_scan_finds_and_doubts_who_is_late(self) -> None:
        found = {lease.lease_id: what for lease, what in self.table.due(self.now, 1000) if what is not Due.DOUBT}
        assert found == {key: what for key, naive in self.naive.items() if (what := naive.over(self.now)) is not None}

        for lease_id in self.naive:
            lease = self.table.get(lease_id)
            late = self.now >= lease.heard_at + lease.interval * (1 + SUSPECT_SLACK)
            if late and lease_id not in found:
                assert lease.suspect

    @invariant()
    def stays_bounded(self) -> None:
        assert len(self.table) == len(self.naive)
        assert self.table.heap_size <= max(65, 2 * len(self.naive) + 1)


TestHeap = HeapAgainstScan.TestCase
TestHeap.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)


@settings(derandomize=True)
@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=50), st.integers(0, 50), st.floats(0.0, 5.0))
def test_the_lease_clock_never_runs_ahead_of_its_own(steps, renewal, inside):
    """What a lease has lived, as the registry counts it, is never more than what has passed for its client."""
    now, clock = 0.0, LeaseClock(0.0)
    renewed_at: tuple[float, float] | None = None
    for index, step in enumerate(steps):
        if index == renewal:
            now += inside  # a beat comes between two turns
            renewed_at = now, clock.read(now)
        before = clock.advance(now) if renewed_at is None else clock.read(now)
        now += step
        after = clock.advance(now)
        assert before <= after + 1e-9
        assert after - before <= 0.2 + 1e-9
        if renewed_at is not None:
            assert after - renewed_at[1] <= now - renewed_at[0] + 1e-9


@settings(derandomize=True)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_the_lease_clock_never_steps_back(times):
    clock = LeaseClock(0.0)
    told = [clock.advance(time) for time in times]
    assert told == sorted(told)
    assert clock.lag >= 0.0
