"""The client against the registry itself: the same promises as against the scripted one, kept together."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest

from registry.client import (
    CatalogView,
    InstanceState,
    LeaseState,
    Registration,
    RegistrationError,
    RegistryClient,
    RegistryError,
    RemovalReason,
    SupersededError,
    Watcher,
    WatchTimings,
)
from registry.server import RegistryOptions, RegistryServer

OPTIONS = RegistryOptions(listen="127.0.0.1:0", min_ttl_ms=300, grace_seconds=0.0)
FAST = WatchTimings(silence=10.0, backoff_base=0.02, backoff_cap=0.2)


@pytest.fixture
async def server() -> AsyncIterator[RegistryServer]:
    registry = RegistryServer(OPTIONS)
    await registry.start()
    yield registry
    await registry.stop()


async def restart(server: RegistryServer) -> RegistryServer:
    """Another registry, without the past of this one, at the same address."""
    await server.stop()
    successor = RegistryServer(RegistryOptions(listen=server.address, min_ttl_ms=300, grace_seconds=0.0))
    await successor.start()
    return successor


def lease_at(server: RegistryServer, **options: Any) -> Registration:
    options = {"service": "cart", "address": "127.0.0.1:50051", "ttl": 1.0, "rng": Random(2), **options}
    return Registration(server.address, **options)


async def until(watcher: Watcher, condition: Any) -> CatalogView:
    """The first view that the condition holds for."""
    async with asyncio.timeout(15):
        async for view in watcher:
            if condition(view):
                return view
    raise AssertionError


def states(view: CatalogView) -> dict[str, InstanceState]:
    return {one.instance_id: one.state for one in view.instances}


async def test_the_life_of_a_lease_as_a_watcher_sees_it(server: RegistryServer) -> None:
    async with Watcher(server.address, timings=FAST) as watcher:
        assert (await until(watcher, lambda view: view.synced)).instances == ()
        lease = lease_at(server, instance_id="c1", labels={"v": "1"}, grpc_services=["shop.Cart"])
        await lease.start()
        (one,) = (await until(watcher, lambda view: view.instances)).instances
        assert one.grpc_services == ("shop.Cart",)
        assert one.ttl == 1.0
        lease.set_ready(False, "busy")
        (one,) = (await until(watcher, lambda view: states(view)["c1"] is InstanceState.NOT_READY)).instances
        assert one.not_ready_reason == "busy"
        lease.set_ready(True)
        await until(watcher, lambda view: states(view)["c1"] is InstanceState.READY)
        assert await lease.update(labels={"v": "2"}, weight=4)
        (one,) = (await until(watcher, lambda view: view.instances[0].weight == 4)).instances
        assert dict(one.labels) == {"v": "2"}
        assert await lease.drain(20)
        await until(watcher, lambda view: states(view)["c1"] is InstanceState.DRAINING)
        await lease.close()
        view = await until(watcher, lambda view: not view.instances)
        assert [departure.reason for departure in view.departures] == [RemovalReason.DEREGISTERED]
        assert view.known_services == {"cart"}


async def test_a_closed_registration_holds_no_connection(server: RegistryServer) -> None:
    leases = [lease_at(server) for _ in range(3)]
    await asyncio.gather(*(lease.start() for lease in leases))
    connections = [weakref.ref(lease._keeper._calls) for lease in leases]
    await asyncio.gather(*(lease.close() for lease in leases))
    gc.collect()
    assert [connection() for connection in connections] == [None, None, None]
    with pytest.raises(RegistrationError, match="already started"):
        await leases[0].start()


@pytest.mark.parametrize("ttl", [float("nan"), float("inf"), 1e300])
def test_a_ttl_that_is_no_number_of_seconds_is_refused(ttl: float) -> None:
    with pytest.raises(ValueError, match="bad ttl"):
        Registration(service="cart", address="127.0.0.1:50051", ttl=ttl)


async def test_a_long_reason_costs_no_lease(server: RegistryServer) -> None:
    async with Watcher(server.address, timings=FAST) as watcher, lease_at(server, instance_id="c1") as lease:
        lease.set_ready(False, "x" * 5000)
        view = await until(watcher, lambda view: view.instances and states(view)["c1"] is InstanceState.NOT_READY)
        assert set(view.instances[0].not_ready_reason) == {"x"}


async def test_heartbeats_hold_a_lease_beyond_its_ttl(server: RegistryServer) -> None:
    async with lease_at(server, ttl=0.4) as lease, RegistryClient(server.address) as client:
        await asyncio.sleep(1.2)
        found = await client.resolve("cart")
        assert [one.instance_id for one in found.ready] == [lease.instance_id]
        assert lease.state is LeaseState.ACTIVE
        (summary,) = await client.list_services()
        assert (summary.service, summary.ready) == ("cart", 1)


async def test_a_restarted_registry_gets_everything_back(server: RegistryServer) -> None:
    active = asyncio.Event()

    def on_state(state: LeaseState, why: str) -> None:
        if state is LeaseState.ACTIVE:
            active.set()
        else:
            active.clear()

    lease = lease_at(server, instance_id="c1", on_state=on_state)
    async with Watcher(server.address, timings=FAST) as watcher, lease:
        first = await until(watcher, lambda view: view.instances)
        successor = await restart(server)
        try:
            await until(watcher, lambda view: not view.connected)
            fresh = await until(watcher, lambda view: view.connected)
            assert fresh.epoch != first.epoch
            assert fresh.warming
            await until(watcher, lambda view: view.epoch == fresh.epoch and view.instances)
            await asyncio.wait_for(active.wait(), 10)  # its own answer may come after the watcher's
            assert lease.state is LeaseState.ACTIVE
        finally:
            await successor.stop()


async def test_a_watch_resumes_after_its_stream_broke(server: RegistryServer) -> None:
    watcher = Watcher(server.address, timings=WatchTimings(silence=0.3, backoff_base=0.02, backoff_cap=0.2))
    async with watcher:
        first = await until(watcher, lambda view: view.synced)
        # The registry shows a sign of life every 5 s only: for this watcher the stream is dead before that.
        await until(watcher, lambda view: not view.connected)
        async with lease_at(server):
            view = await until(watcher, lambda view: view.instances)
            assert view.epoch == first.epoch


async def test_a_second_process_with_the_same_place_takes_over(server: RegistryServer) -> None:
    async with lease_at(server, instance_id="c1") as old, lease_at(server, instance_id="c1") as new:
        with pytest.raises(SupersededError):
            await asyncio.wait_for(old.wait_ended(), 10)
        assert new.incarnation == old.incarnation + 1
        async with RegistryClient(server.address) as client:
            found = await client.resolve("cart")
            assert [one.incarnation for one in found.instances] == [new.incarnation]
        await old.close()
        assert new.state is LeaseState.ACTIVE


async def test_a_live_name_elsewhere_is_refused(server: RegistryServer) -> None:
    async with lease_at(server, instance_id="c1"):
        with pytest.raises(RegistrationError, match="INSTANCE_LIVE"):
            await lease_at(server, instance_id="c1", address="127.0.0.1:50052").start()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"service": "bad name"}, "service"),
        ({"address": "0.0.0.0:1"}, "address"),
        ({"address": []}, "address"),
        ({"instance_id": "x" * 129}, "instance_id"),
        ({"weight": 65536}, "weight"),
        ({"ttl": 0}, "ttl"),
        ({"labels": {"": "x"}}, "label"),
        ({"descriptor_set": b"\xff\xff"}, "descriptor"),
    ],
)
async def test_bad_values_are_refused_with_the_field(server: RegistryServer, options: Any, words: str) -> None:
    with pytest.raises(RegistrationError, match=f"INVALID_ARGUMENT.*{words}"):
        await lease_at(server, **options).start()


async def test_a_snapshot_and_an_unknown_service(server: RegistryServer) -> None:
    async with RegistryClient(server.address) as client, lease_at(server, instance_id="c1"):
        view = await client.snapshot()
        assert [one.instance_id for one in view.instances] == ["c1"]
        with pytest.raises(RegistryError, match="SERVICE_UNKNOWN"):
            await client.resolve("nope")
        with pytest.raises(RegistryError):
            await client.get_descriptor_set("00" * 32)
