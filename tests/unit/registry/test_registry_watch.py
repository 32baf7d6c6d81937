import itertools

import pytest
from registry_world import ALL, EPOCH, World

from registry import watch
from registry.catalog import HISTORY_SECONDS, Scope
from registry.errors import RegistryError
from registry.model import RemovalReason, ServiceKey, State
from registry.requests import Patch
from registry.watch import (
    DeltaEvent,
    ProgressEvent,
    ResetEvent,
    ResetReason,
    SnapshotDone,
    SnapshotPart,
    Watcher,
)


class Watching:
    """A watcher with its wake-ups counted, and the time that it goes by."""

    def __init__(self, world: World, scope: Scope = ALL, resume: tuple[bytes, int] | None = None) -> None:
        self.wakes = 0
        self.now = 1000.0
        self.watcher: Watcher = world.hub.open(scope, resume, self._wake)

    def _wake(self) -> None:
        self.wakes += 1

    def next(self):
        return self.watcher.next_event(self.now)

    def drain(self) -> list:
        """Everything there is to say at this moment."""
        events = []
        while (event := self.next()) is not None:
            events.append(event)
        return events


@pytest.fixture
def world() -> World:
    return World()


class TestStart:
    def test_a_snapshot_comes_first(self, world):
        world.register("a")
        world.deregister(world.register("x", service="gone").lease_id)
        watching = Watching(world)
        part, done = watching.drain()
        assert part == SnapshotPart(3, 0, (world.record("a"),))
        assert done == SnapshotDone(3, (ServiceKey("default", "cart"), ServiceKey("default", "gone")))
        assert watching.watcher.told == 3

    def test_an_empty_catalog_has_a_snapshot_too(self, world):
        assert Watching(world).drain() == [SnapshotDone(0, ())]

    def test_a_snapshot_is_cut_into_chunks(self, world, monkeypatch):
        monkeypatch.setattr(watch, "CHUNK_BYTES", 1000)
        for number in range(50):
            world.register(f"i{number}")
        *parts, done = Watching(world).drain()
        assert isinstance(done, SnapshotDone)
        assert len(parts) > 5
        assert [part.start for part in parts] == [sum(len(p.records) for p in parts[:i]) for i in range(len(parts))]
        assert {record.name.instance_id for part in parts for record in part.records} == {f"i{n}" for n in range(50)}

    def test_a_change_during_the_snapshot_follows_as_a_delta(self, world, monkeypatch):
        monkeypatch.setattr(watch, "CHUNK_BYTES", 1)
        for number in range(3):
            world.register(f"i{number}")
        watching = Watching(world)
        first = watching.next()
        world.register("late")
        rest = watching.drain()
        assert first.revision == 3
        assert rest[-2] == SnapshotDone(3, (ServiceKey("default", "cart"),))
        assert (rest[-1].prev_revision, rest[-1].revision) == (3, 4)

    def test_resuming_gives_what_was_missed_and_then_progress(self, world):
        world.register("a")
        world.register("b")
        delta, progress = Watching(world, resume=(EPOCH, 1)).drain()
        assert (delta.prev_revision, delta.revision) == (1, 2)
        assert [change.name.instance_id for change in delta.changes] == ["b"]
        assert progress == ProgressEvent(2)

    def test_resuming_where_nothing_happened_is_confirmed_at_once(self, world):
        world.register("a")
        assert Watching(world, resume=(EPOCH, 1)).drain() == [ProgressEvent(1)]

    @pytest.mark.parametrize(
        ("resume", "reason"),
        [
            ((b"x" * 16, 1), ResetReason.FOREIGN_EPOCH),
            ((b"", 0), ResetReason.FOREIGN_EPOCH),
            ((EPOCH, 3), ResetReason.FUTURE),
            ((EPOCH, 2**62), ResetReason.FUTURE),
            ((EPOCH, 0), ResetReason.COMPACTED),
        ],
    )
    def test_what_cannot_be_resumed_is_reset_and_told_anew(self, world, resume, reason):
        world.register("a")
        world.now += HISTORY_SECONDS
        world.register("b")
        reset, part, done = Watching(world, resume=resume).drain()
        assert reset == ResetEvent(reason)
        assert len(part.records) == 2
        assert done.revision == 2

    def test_watchers_are_bounded(self, world, monkeypatch):
        monkeypatch.setattr(watch, "MAX_WATCHERS", 2)
        first = Watching(world)
        Watching(world)
        with pytest.raises(RegistryError):
            Watching(world)
        world.hub.close(first.watcher)
        Watching(world)
        assert len(world.hub) == 2


class TestDeltas:
    def test_each_names_the_revision_before(self, world):
        watching = Watching(world)
        watching.drain()
        told = 0
        for number in range(5):
            world.register(f"i{number}")
            watching.now += 0.9
            [delta] = watching.drain()
            assert delta.prev_revision == told
            told = delta.revision
        assert told == 5

    def test_a_filtered_watcher_has_an_unbroken_chain_of_its_own(self, world):
        watching = Watching(world, Scope("default", frozenset({"shop"})))
        watching.drain()
        world.register("a", service="cart")
        assert watching.drain() == []
        assert watching.wakes == 0
        world.register("b", service="shop")
        [delta] = watching.drain()
        assert (delta.prev_revision, delta.revision) == (0, 2)
        world.register("c", service="cart")
        watching.now += 5.0
        assert watching.drain() == [ProgressEvent(3)]
        world.register("d", service="shop")
        [delta] = watching.drain()
        assert (delta.prev_revision, delta.revision) == (3, 4)

    def test_only_the_newest_state_of_a_name_is_kept(self, world):
        watching = Watching(world)
        watching.drain()
        lease = world.register("a").lease_id
        for weight in range(2, 1000):
            world.commit(world.rules.update(Patch(lease, weight=weight), world.now))
        assert watching.watcher.backlog == 1
        [delta] = watching.drain()
        assert [change.record.spec.weight for change in delta.changes] == [999]
        assert (delta.prev_revision, delta.revision) == (0, 999)

    def test_a_name_that_left_and_came_back_is_one_upsert(self, world):
        lease = world.register("a", by="A").lease_id
        watching = Watching(world)
        watching.drain()
        world.deregister(lease)
        world.register("a", by="B")
        [delta] = watching.drain()
        [change] = delta.changes
        assert change.record.incarnation == 2

    def test_a_delta_that_is_too_large_becomes_a_snapshot(self, world, monkeypatch):
        monkeypatch.setattr(watch, "MAX_DELTA_BYTES", 2000)
        watching = Watching(world)
        watching.drain()
        for number in range(30):
            world.register(f"i{number}")
        reset, part, done = watching.drain()
        assert reset == ResetEvent(ResetReason.COMPACTED)
        assert len(part.records) == 30
        assert done.revision == 30
        world.register("next")
        watching.now += 5.0
        [delta, _] = watching.drain()
        assert (delta.prev_revision, delta.revision) == (30, 31)

    def test_the_backlog_is_bounded_when_names_come_and_go(self, world, monkeypatch):
        monkeypatch.setattr(watch, "MAX_PENDING", 100)
        watching = Watching(world)
        watching.drain()
        for number in range(500):
            world.deregister(world.register(f"i{number}").lease_id)
            assert watching.watcher.backlog <= 100
        assert watching.drain() == [
            ResetEvent(ResetReason.COMPACTED),
            SnapshotDone(1000, (ServiceKey("default", "cart"),)),
        ]

    def test_removals_carry_reason_and_incarnation(self, world):
        world.register("a")
        watching = Watching(world)
        watching.drain()
        world.pass_time(16.0)
        delta = watching.drain()[-1]
        assert [(change.reason, change.incarnation) for change in delta.changes] == [(RemovalReason.EXPIRED, 1)]


class TestCoalescing:
    def test_the_first_change_goes_at_once_and_the_next_waits_for_company(self, world):
        watching = Watching(world)
        watching.drain()
        world.register("a")
        assert watching.wakes == 1
        assert len(watching.drain()) == 1
        world.register("b")
        assert watching.next() is None
        due = watching.watcher.due_at(watching.now)
        assert due == pytest.approx(watching.now + 0.020)
        world.register("c")
        watching.now = due
        [delta] = watching.drain()
        assert len(delta.changes) == 2

    def test_the_window_grows_under_churn_to_its_bound_and_shrinks_in_calm(self, world):
        watching = Watching(world)
        watching.drain()
        sent = []
        for number in range(4000):
            world.commit(world.rules.update(Patch(world.register("a").lease_id, weight=number), world.now))
            watching.now += 0.001
            sent += [watching.now for event in watching.drain() if isinstance(event, DeltaEvent)]
        gaps = [after - before for before, after in itertools.pairwise(sent)]
        assert gaps[0] == pytest.approx(0.020, abs=0.002)
        assert max(gaps) == pytest.approx(0.500, abs=0.002)
        assert gaps == sorted(gaps)
        for _ in range(2):
            watching.now += 10.0
            watching.drain()
        world.register("b")
        assert len(watching.drain()) == 1
        world.register("c")
        assert watching.watcher.due_at(watching.now) == pytest.approx(watching.now + 0.020)

    @pytest.mark.parametrize("leave", ["deregister", "drain", "expire"])
    def test_what_leaves_does_not_wait(self, world, leave):
        lease = world.register("a").lease_id
        watching = Watching(world)
        watching.drain()
        world.register("b", ttl_ms=300_000)
        watching.drain()
        world.register("c", ttl_ms=300_000)
        assert watching.next() is None
        wakes = watching.wakes
        {
            "deregister": lambda: world.deregister(lease),
            "drain": lambda: world.drain(lease),
            "expire": lambda: world.pass_time(16.0),
        }[leave]()
        assert watching.wakes > wakes
        assert watching.watcher.due_at(watching.now) <= watching.now
        [delta] = watching.drain()
        last = {change.name.instance_id: change.record for change in delta.changes}
        assert "c" in last
        assert last["a"] is None or last["a"].state is State.DRAINING


class TestProgress:
    def test_comes_every_five_seconds_also_when_idle(self, world):
        watching = Watching(world)
        watching.drain()
        for _ in range(3):
            assert watching.watcher.due_at(watching.now) == watching.now + 5.0
            watching.now += 4.99
            assert watching.drain() == []
            watching.now += 0.01
            assert watching.drain() == [ProgressEvent(0)]

    def test_comes_after_what_was_pending(self, world):
        watching = Watching(world)
        watching.drain()
        world.register("a")
        watching.now += 5.0
        delta, progress = watching.drain()
        assert isinstance(delta, DeltaEvent)
        assert progress == ProgressEvent(1)

    def test_a_closed_watcher_hears_no_more(self, world):
        watching = Watching(world)
        watching.drain()
        world.hub.close(watching.watcher)
        world.register("a")
        assert watching.wakes == 0
