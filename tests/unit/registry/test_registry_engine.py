import asyncio
import itertools
import random

import pytest
from registry_world import ALL, EPOCH, World, name, registration

from registry.engine import MAX_REQUEST_IDS, Engine, RequestIds, open_engine
from registry.errors import Reason, RegistryError
from registry.model import Batch, State
from registry.requests import Beat, Patch
from registry.store.base import Loaded, Store, StoreFullError
from registry.store.memory import MemoryStore


class Clock:
    def __init__(self) -> None:
        self.now = 500.0

    def __call__(self) -> float:
        return self.now


class FullStore(MemoryStore):
    """Takes so many batches, then none."""

    def __init__(self, room: int) -> None:
        super().__init__(EPOCH)
        self.room = room

    async def commit(self, batch: Batch) -> None:
        if self.room == 0:
            raise StoreFullError("disk full")
        self.room -= 1


class KeptStore(Store):
    """Holds what another registry left."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded

    async def load(self) -> Loaded:
        return self._loaded

    async def commit(self, batch: Batch) -> None:
        pass

    async def close(self) -> None:
        pass


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def engine_with(store: Store, clock: Clock) -> Engine:
    ids = itertools.count(1)
    return await open_engine(store, clock, random.Random(1), lambda: next(ids).to_bytes(16, "big"), 3_000, 300_000)


@pytest.fixture
async def engine(clock) -> Engine:
    return await engine_with(MemoryStore(EPOCH), clock)


async def pass_time(engine: Engine, clock: Clock, seconds: float) -> None:
    for _ in range(round(seconds * 10)):
        clock.now += 0.1
        await engine.turn()


def refused(reason: Reason):
    return pytest.raises(RegistryError, check=lambda error: error.reason is reason)


async def test_a_stall_freezes_leases(engine, clock):
    granted = await engine.register(registration(), "", b"")
    clock.now += 600.0
    await engine.turn()
    assert engine.catalog.get(name()) is not None
    [reply] = await engine.keep_alive([Beat(granted.lease_id)])
    assert reply.end is None
    await pass_time(engine, clock, 14.5)
    assert engine.catalog.get(name()) is not None
    assert engine.stats().lease_clock_lag_seconds == pytest.approx(599.8)


async def test_beats_that_waited_out_a_stall_come_before_the_reaper(engine, clock):
    granted = await engine.register(registration(), "", b"")
    await pass_time(engine, clock, 14.9)
    clock.now += 100.0
    await engine.turn()  # the lease's term is over, but this turn only moves the clock
    assert engine.catalog.get(name()) is not None
    [reply] = await engine.keep_alive([Beat(granted.lease_id)])
    assert reply.end is None
    await pass_time(engine, clock, 1.0)
    assert engine.catalog.get(name()) is not None


async def test_a_registry_that_is_always_late_still_ends_leases(engine, clock):
    await engine.register(registration(), "", b"")
    for _ in range(100):
        clock.now += 0.5
        await engine.turn()
    assert engine.catalog.get(name()) is None


async def test_ten_thousand_that_end_together_end_in_one_turn(engine, clock):
    for number in range(10_000):
        await engine.register(registration(f"i{number}"), "", b"")
    await pass_time(engine, clock, 15.1)
    assert engine.stats().leases == 0


async def test_warming_ends(engine, clock):
    assert engine.warming
    await pass_time(engine, clock, 300.1)
    assert not engine.warming


async def test_an_unknown_service_says_that_the_registry_is_warming(engine, clock):
    with refused(Reason.SERVICE_UNKNOWN) as caught:
        engine.resolve(name().key)
    assert caught.value.metadata == {"warming": "true"}


async def test_a_known_service_without_instances_says_since_when(engine, clock):
    granted = await engine.register(registration(), "", b"")
    assert [record.name for record in engine.resolve(name().key)[0]] == [name()]
    await engine.deregister(granted.lease_id)
    await pass_time(engine, clock, 2.0)
    records, last_seen_ms_ago = engine.resolve(name().key)
    assert records == []
    assert last_seen_ms_ago == pytest.approx(2000, abs=2)


async def test_a_full_store_refuses_registrations_and_keeps_the_rest(clock):
    store = FullStore(1)
    engine = await engine_with(store, clock)
    granted = await engine.register(registration("a"), "", b"")
    with refused(Reason.STORE_FULL):
        await engine.register(registration("b"), "", b"")
    with refused(Reason.STORE_FULL):
        await engine.update(Patch(granted.lease_id, weight=7))
    assert engine.catalog.revision == 1
    [reply] = await engine.keep_alive([Beat(granted.lease_id, ready=False)])
    assert reply.end is None
    assert engine.catalog.get(name()).state is State.READY
    store.room = 10
    await engine.keep_alive([Beat(granted.lease_id)])
    assert engine.catalog.get(name()).state is State.NOT_READY


async def test_leases_that_end_while_the_store_is_full_end_later(clock):
    store = FullStore(1)
    engine = await engine_with(store, clock)
    await engine.register(registration(), "", b"")
    await pass_time(engine, clock, 20.0)
    assert engine.catalog.get(name()) is not None
    store.room = 10
    await pass_time(engine, clock, 0.2)
    assert engine.catalog.get(name()) is None


async def test_what_a_store_kept_comes_back_with_full_terms_under_its_old_leases(clock):
    past = World()
    granted = past.register("a", by="A")
    past.register("b", by="A")
    records = tuple(past.catalog.records(ALL))
    engine = await engine_with(KeptStore(Loaded(EPOCH, 2, records, {}, empty=False)), clock)
    assert not engine.warming
    assert engine.catalog.revision == 2
    assert engine.catalog.records(ALL) == list(records)
    await pass_time(engine, clock, 14.5)
    [reply] = await engine.keep_alive([Beat(granted.lease_id)])
    assert reply.end is None
    await pass_time(engine, clock, 1.0)
    assert engine.catalog.get(name("a")) is not None
    assert engine.catalog.get(name("b")) is None


class TestRevisions:
    async def test_a_wait_ends_when_the_revision_is_reached(self, engine):
        waiting = asyncio.create_task(engine.reach(2, 30.0))
        await engine.register(registration("a"), "", b"")
        await asyncio.sleep(0)
        assert not waiting.done()
        await engine.register(registration("b"), "", b"")
        await waiting

    async def test_a_wait_ends_with_its_time(self, engine):
        with refused(Reason.REVISION_NOT_REACHED):
            await engine.reach(1, 0.01)

    async def test_waits_are_bounded_and_leave_nothing_behind(self, engine, monkeypatch):
        monkeypatch.setattr("registry.engine.MAX_REVISION_WAITERS", 2)
        waits = [asyncio.create_task(engine.reach(9, 30.0)) for _ in range(2)]
        await asyncio.sleep(0)
        with refused(Reason.QUOTA):
            await engine.reach(9, 30.0)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        with refused(Reason.REVISION_NOT_REACHED):
            await engine.reach(9, 0.0)


class TestRequestIds:
    async def test_the_same_request_may_come_again_and_another_may_not(self, engine):
        first = await engine.register(registration("a"), "id", b"one")
        assert await engine.register(registration("a"), "id", b"one") == first
        with refused(Reason.REQUEST_ID_REUSED):
            await engine.register(registration("b"), "id", b"two")
        assert engine.catalog.revision == 1

    async def test_without_an_id_nothing_is_remembered(self, engine):
        await engine.register(registration("a"), "", b"one")
        await engine.register(registration("b"), "", b"two")

    def test_are_bounded(self):
        ids = RequestIds()
        for number in range(MAX_REQUEST_IDS + 10):
            ids.remember(str(number), b"x")
        assert len(ids) == MAX_REQUEST_IDS
        ids.check("0", b"y")
        with refused(Reason.REQUEST_ID_REUSED):
            ids.check("10", b"y")
