"""Whatever happens to the catalog and however slowly a watcher reads: what it was told is what is true."""

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from registry import catalog as catalog_module
from registry import watch as watch_module
from registry.catalog import Catalog, Scope
from registry.errors import RegistryError
from registry.model import Batch, LeaseEnd, Name, Record, Spec
from registry.requests import Beat, Patch, Registration
from registry.rules import Rules
from registry.watch import DeltaEvent, ProgressEvent, ResetEvent, SnapshotDone, SnapshotPart, WatchHub

EPOCH = b"e" * 16
SCOPES = [
    Scope("default"),
    Scope("default", frozenset({"s0", "s2"})),
    Scope("other"),
    Scope("default", frozenset({"s1"})),
]


class Follower:
    """A client as the API's words have it: it folds what it is told, and checks every promise on the way."""

    def __init__(self, machine: "Registry", scope: Scope) -> None:
        self.machine, self.scope = machine, scope
        self.view: dict[Name, Record] = {}
        self.incoming: dict[Name, Record] | None = None
        self.revision = -1
        self.incarnations: dict[Name, int] = {}
        self.watcher = machine.hub.open(scope, None, lambda: None)

    def reconnect(self, resume: tuple[bytes, int] | None) -> None:
        self.machine.hub.close(self.watcher)
        self.incoming = None
        self.watcher = self.machine.hub.open(self.scope, resume, lambda: None)

    def take(self, now: float) -> bool:
        event = self.watcher.next_event(now)
        if isinstance(event, ResetEvent):
            self.incoming = None
        elif isinstance(event, SnapshotPart):
            self.incoming = self.incoming or {}
            for record in event.records:
                assert record.name not in self.incoming
                self.incoming[record.name] = record
        elif isinstance(event, SnapshotDone):
            self.view, self.incoming = self.incoming or {}, None
            self.revision = event.revision
            self.check()
        elif isinstance(event, DeltaEvent):
            assert self.incoming is None
            assert event.prev_revision == self.revision
            assert event.revision > event.prev_revision
            self.revision = event.revision
            for change in event.changes:
                assert self.scope.covers(change.name.key)
                if change.record is None:
                    self.view.pop(change.name, None)
                else:
                    self.view[change.name] = change.record
            self.check()
        elif isinstance(event, ProgressEvent):
            assert event.revision >= self.revision
            self.revision = event.revision
            self.check()
        return event is not None

    def check(self) -> None:
        assert self.view == self.machine.history[self.revision][self.scope]
        for name, record in self.view.items():
            assert record.incarnation >= self.incarnations.get(name, 0)
            self.incarnations[name] = record.incarnation


class Registry(RuleBasedStateMachine):
    """Random calls, time and reading, with the catalog's every past revision at hand to compare with."""

    @initialize(seed=st.integers(0, 3), history=st.sampled_from([3, 100]), delta=st.sampled_from([600, 10**6]))
    def start(self, seed: int, history: int, delta: int) -> None:
        self.saved = catalog_module.MAX_HISTORY_CHANGES, watch_module.MAX_DELTA_BYTES, watch_module.CHUNK_BYTES
        catalog_module.MAX_HISTORY_CHANGES = history
        watch_module.MAX_DELTA_BYTES = delta
        watch_module.CHUNK_BYTES = 300
        self.now, self.minted = 10.0, 0
        self.catalog = Catalog(EPOCH)
        self.rules = Rules(self.catalog, random.Random(seed), self.mint)
        self.hub = WatchHub(self.catalog)
        self.history = [self.truth()]
        self.leases: list[bytes] = []
        self.ended: dict[bytes, LeaseEnd] = {}
        self.highest: dict[Name, int] = {}
        self.followers = [Follower(self, scope) for scope in SCOPES for _ in range(2)]
        for follower in self.followers[::2]:  # the others take their first snapshot when the test has them read
            follower.take(self.now)

    def teardown(self) -> None:
        if hasattr(self, "saved"):
            catalog_module.MAX_HISTORY_CHANGES, watch_module.MAX_DELTA_BYTES, watch_module.CHUNK_BYTES = self.saved

    def mint(self) -> bytes:
        self.minted += 1
        return self.minted.to_bytes(16, "big")

    def truth(self) -> dict[Scope, dict[Name, Record]]:
        return {scope: {record.name: record for record in self.catalog.records(scope)} for scope in SCOPES}

    def commit(self, batch: Batch | None) -> None:
        if batch is not None:
            self.rules.apply(batch, self.now)
            self.hub.publish(batch)
            self.history.append(self.truth())

    def lease(self, number: int) -> bytes:
        return self.leases[number % len(self.leases)] if self.leases else b"?" * 16

    @rule(
        service=st.integers(0, 2),
        instance=st.integers(0, 1),
        boot=st.integers(0, 2),
        address=st.integers(0, 1),
        weight=st.integers(0, 1),
        other=st.booleans(),
    )
    def register(self, service: int, instance: int, boot: int, address: int, weight: int, other: bool) -> None:
        name = Name("other" if other else "default", f"s{service}", f"i{instance}")
        spec = Spec(name, (f"10.0.0.{address}:1",), weight=weight)
        try:
            batch, granted = self.rules.register(Registration(spec, bytes([boot]) * 16, ttl_ms=5000), self.now)
        except RegistryError:
            return
        self.commit(batch)
        self.leases = [*self.leases, granted.lease_id][-12:]

    @rule(seed=st.integers(0, 50), changes=st.integers(2, 5))
    def churn(self, seed: int, changes: int) -> None:
        """Several changes with nobody reading in between."""
        rng = random.Random(seed)
        for _ in range(changes):
            if rng.random() < 0.3:
                self.deregister(rng.randrange(12))
            else:
                self.register(rng.randrange(3), rng.randrange(2), rng.randrange(3), 0, rng.randrange(2), False)

    @rule(number=st.integers(0, 11), ready=st.none() | st.booleans())
    def beat(self, number: int, ready: bool | None) -> None:
        lease_id = self.lease(number)
        before = self.catalog.revision
        reply, changed = self.rules.beat(Beat(lease_id, ready), self.now)
        self.commit(self.rules.settle([changed] if changed is not None else [], self.now))
        if reply.end is not None:
            assert self.catalog.revision == before

    @rule(number=st.integers(0, 11), weight=st.integers(0, 2), ready=st.none() | st.booleans())
    def update(self, number: int, weight: int, ready: bool | None) -> None:
        try:
            self.commit(self.rules.update(Patch(self.lease(number), weight=weight, ready=ready), self.now))
        except RegistryError:
            assert self.rules.leases.get(self.lease(number)) is None

    @rule(number=st.integers(0, 11), deadline_ms=st.integers(0, 10_000))
    def drain(self, number: int, deadline_ms: int) -> None:
        try:
            self.commit(self.rules.drain(self.lease(number), deadline_ms, self.now)[0])
        except RegistryError:
            assert self.rules.leases.get(self.lease(number)) is None

    @rule(number=st.integers(0, 11))
    def deregister(self, number: int) -> None:
        alive = self.rules.leases.get(self.lease(number)) is not None
        try:
            batch = self.rules.deregister(self.lease(number), self.now)
        except RegistryError:
            assert not alive
            return
        assert (batch is not None) == alive
        self.commit(batch)

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.4, 1.0, 3.0, 700.0]), limit=st.integers(1, 20))
    def pass_time(self, seconds: float, limit: int) -> None:
        self.now += seconds
        self.commit(self.rules.reap(self.now, limit)[0])
        self.catalog.sweep(self.now)

    @rule(number=st.integers(0, 7), events=st.integers(1, 6))
    def read(self, number: int, events: int) -> None:
        for _ in range(events):
            if not self.followers[number].take(self.now):
                return

    @rule(number=st.integers(0, 7), kind=st.sampled_from(["resume", "resume", "foreign", "future", "anew"]))
    def reconnect(self, number: int, kind: str) -> None:
        follower = self.followers[number]
        if follower.revision < 0 or kind == "anew":
            follower.reconnect(None)
        elif kind == "resume":
            follower.reconnect((EPOCH, follower.revision))
            self.read(number, 2)
        else:
            follower.reconnect((b"x" * 16, follower.revision) if kind == "foreign" else (EPOCH, follower.revision + 99))
            assert isinstance(follower.watcher.next_event(self.now), ResetEvent)
            follower.revision = -1

    @rule()
    def all_catch_up(self) -> None:
        self.now += 6.0
        self.commit(self.rules.reap(self.now, 1000)[0])
        for follower in self.followers:
            while follower.take(self.now):
                pass
            assert follower.view == self.truth()[follower.scope]
            assert follower.revision == self.catalog.revision

    @invariant()
    def incarnations_only_grow(self) -> None:
        if hasattr(self, "catalog"):
            for scope in SCOPES:
                for record in self.catalog.records(scope):
                    assert record.incarnation >= self.highest.get(record.name, 0)
                    self.highest[record.name] = record.incarnation

    @invariant()
    def every_record_has_its_lease(self) -> None:
        if hasattr(self, "catalog"):
            assert len(self.rules.leases) == len(self.catalog)

    @invariant()
    def nobody_owes_more_than_the_names_that_changed(self) -> None:
        for follower in getattr(self, "followers", []):
            assert follower.watcher.backlog <= 12


TestWatch = Registry.TestCase
TestWatch.settings = settings(max_examples=100, stateful_step_count=60, deadline=None, derandomize=True)
