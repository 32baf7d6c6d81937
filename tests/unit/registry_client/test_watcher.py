"""The watcher against scripted streams: resuming, silence, broken chains, a registry that is away."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest
from fake_registry import FakeRegistry, chunk, delta, end, gone, instance, progress, reset, says

from registry.client import CatalogView, Watcher, WatchTimings, watch

FAST = WatchTimings(silence=5.0, backoff_base=0.01, backoff_cap=0.05)


async def following(views: AsyncIterator[CatalogView]) -> CatalogView:
    return await asyncio.wait_for(anext(views), 10)


def ids(view: CatalogView) -> list[str]:
    return [one.instance_id for one in view.instances]


def watcher_of(fake: FakeRegistry, **timings: float) -> Watcher:
    chosen = WatchTimings(**{"silence": 5.0, "backoff_base": 0.01, "backoff_cap": 0.05, **timings})
    return Watcher(fake.address, services=["cart"], timings=chosen, rng=Random(5))


async def test_snapshot_then_changes(fake: FakeRegistry) -> None:
    fake.scripts.append(
        says(
            chunk(instance("a")), end(fake.epoch, 5), progress(fake.epoch, 6), delta(6, 7, [instance("b")], [gone("a")])
        )
    )
    async with watcher_of(fake) as watcher:
        assert not watcher.view.synced
        assert ids(await following(watcher)) == ["a"]
        view = await following(watcher)
        assert ids(view) == ["b"]
        assert view.connected
        assert watcher.view is view
        assert watcher.error is None
    assert list(fake.watches[0].services) == ["cart"]
    assert not fake.watches[0].HasField("resume")


async def test_a_broken_stream_is_resumed_where_it_stopped(fake: FakeRegistry) -> None:
    fake.scripts.append(says(chunk(instance("a")), end(fake.epoch, 5), progress(fake.epoch, 8), then_hang=False))
    fake.scripts.append(says(delta(8, 9, [instance("b")])))
    async with watcher_of(fake) as watcher:
        assert ids(await following(watcher)) == ["a"]
        away = await following(watcher)
        assert not away.connected
        assert ids(away) == ["a"]
        assert watcher.error is not None
        back = await following(watcher)
        assert ids(back) == ["a", "b"]
        assert back.connected
    resume = fake.watches[1].resume
    assert (resume.epoch, resume.number) == (fake.epoch, 8)


async def test_silence_is_a_dead_stream(fake: FakeRegistry) -> None:
    fake.scripts.append(says(chunk(instance("a")), end(fake.epoch, 5)))
    fake.scripts.append(says(progress(fake.epoch, 5)))
    async with watcher_of(fake, silence=0.2) as watcher:
        await following(watcher)
        away = await following(watcher)
        assert not away.connected
        assert "silent for 0.2 s" in str(watcher.error)
        assert (await following(watcher)).connected
    assert fake.watches[1].resume.number == 5


async def test_a_gap_in_the_chain_starts_anew(fake: FakeRegistry) -> None:
    fake.scripts.append(says(chunk(instance("a")), end(fake.epoch, 5), delta(7, 8, [instance("b")])))
    fake.scripts.append(says(chunk(instance("a"), instance("c")), end(fake.epoch, 8)))
    async with watcher_of(fake) as watcher:
        assert ids(await following(watcher)) == ["a"]
        away = await following(watcher)
        assert ids(away) == ["a"], "what does not follow is not applied"
        assert not away.connected
        assert ids(await following(watcher)) == ["a", "c"]
    assert not fake.watches[1].HasField("resume")


async def test_reset_on_the_stream_replaces_the_state(fake: FakeRegistry) -> None:
    new = b"n" * 16
    fake.scripts.append(says(chunk(instance("a")), end(fake.epoch, 50), then_hang=False))
    fake.scripts.append(says(reset(), chunk(instance("z")), end(new, 2, warming=True), delta(2, 3, [instance("y")])))
    async with watcher_of(fake) as watcher:
        await following(watcher)
        assert not (await following(watcher)).connected
        view = await following(watcher)
        assert ids(view) == ["z"]
        assert (view.epoch, view.revision, view.warming) == (new, 2, True)
        assert ids(await following(watcher)) == ["z", "y"]
    assert fake.watches[1].resume.number == 50


async def test_absence_is_told_once(fake: FakeRegistry) -> None:
    port = fake.port
    await fake.stop()
    watcher = watcher_of(fake)
    async with watcher:
        first = await following(watcher)
        assert not first.connected
        assert not first.synced
        second = asyncio.create_task(following(watcher))
        await asyncio.sleep(0.2)
        assert not second.done(), "repeated failures are no news"
        fake.scripts.append(says(end(fake.epoch, 1)))
        await fake.start(port)
        assert (await second).synced


async def test_the_next_address_is_tried(fake: FakeRegistry) -> None:
    fake.scripts.append(says(chunk(instance("a")), end(fake.epoch, 5)))
    async with Watcher(["127.0.0.1:1", fake.address], timings=FAST, rng=Random(1)) as watcher:
        assert not (await following(watcher)).connected
        assert ids(await following(watcher)) == ["a"]


async def test_watch_is_the_short_form(fake: FakeRegistry) -> None:
    fake.scripts.append(says(chunk(instance("a")), end(fake.epoch, 5)))
    async for view in watch(fake.address, "prod"):
        assert ids(view) == ["a"]
        break
    assert fake.watches[0].namespace == "prod"


async def test_bad_addresses_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        watch("nonsense")
