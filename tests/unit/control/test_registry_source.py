"""The registry as a source: what is kept, what is dropped, what is said."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from random import Random

import pytest

from gateway.control.registry import Merger, RegistrySource
from gateway.control.view import InstanceView, MeshView
from registry.client import (
    CatalogView,
    Departure,
    Instance,
    InstanceState,
    Registration,
    RegistryError,
    RemovalReason,
    WatchTimings,
)
from registry.server import RegistryOptions, RegistryServer

FAST = WatchTimings(silence=10.0, backoff_base=0.02, backoff_cap=0.2)


def listed(
    *ids: str, warming: bool = False, departed: tuple[str, ...] = (), known: tuple[str, ...] = ()
) -> CatalogView:
    instances = tuple(Instance("default", "cart", i, ("127.0.0.1:1",)) for i in ids)
    departures = tuple(Departure("cart", i, 1, RemovalReason.EXPIRED) for i in departed)
    return CatalogView(instances, frozenset(known), warming=warming, connected=True, synced=True, departures=departures)


def ids(view: MeshView) -> list[str]:
    return [one.instance_id for one in view.instances]


def test_an_instance_is_translated_whole():
    one = Instance(
        namespace="default",
        service="cart",
        instance_id="c1",
        addresses=("a:1", "b:2"),
        grpc_services=("shop.Cart",),
        labels={"v": "1"},
        weight=3,
        incarnation=7,
        descriptor_digest="abc",
    )
    view = Merger().merge(CatalogView((one,), frozenset({"cart"}), connected=True, synced=True))
    assert view == MeshView(
        (
            InstanceView(
                service="cart",
                instance_id="c1",
                addresses=("a:1", "b:2"),
                grpc_services=("shop.Cart",),
                labels={"v": "1"},
                weight=3,
                incarnation=7,
                descriptor_digest="abc",
            ),
        ),
        frozenset({"cart"}),
        synced=True,
    )


@pytest.mark.parametrize(
    ("state", "ready", "draining"),
    [
        (InstanceState.READY, True, False),
        (InstanceState.SUSPECT, True, False),
        (InstanceState.NOT_READY, False, False),
        (InstanceState.DRAINING, False, True),
    ],
)
def test_states(state: InstanceState, ready: bool, draining: bool):
    one = Instance("default", "cart", "c1", ("a:1",), state=state)
    (seen,) = Merger().merge(CatalogView((one,), connected=True, synced=True)).instances
    assert (seen.ready, seen.draining) == (ready, draining)


def test_what_the_registry_no_longer_lists_is_dropped():
    merger = Merger()
    merger.merge(listed("a", "b"))
    assert ids(merger.merge(listed("b"))) == ["b"]


def test_a_warming_registry_adds_and_changes_but_its_silence_removes_nothing():
    merger = Merger()
    merger.merge(listed("a", "b", known=("cart", "stock")))
    assert ids(merger.merge(listed(warming=True))) == ["a", "b"]
    assert merger.kept == 2
    view = merger.merge(listed("b", "c", warming=True, known=("cart",)))
    assert sorted(ids(view)) == ["a", "b", "c"]
    assert view.known_services == {"cart", "stock"}
    assert merger.kept == 1


def test_announced_removals_count_while_warming():
    merger = Merger()
    merger.merge(listed("a", "b"))
    merger.merge(listed("a", warming=True))
    assert ids(merger.merge(listed(warming=True, departed=("a",)))) == ["b"]


def test_an_announced_removal_of_a_name_that_is_back_removes_nothing():
    merger = Merger()
    merger.merge(listed("a"))
    assert ids(merger.merge(listed("a", warming=True, departed=("a",)))) == ["a"]


def test_the_whole_list_counts_when_warming_ends():
    merger = Merger()
    merger.merge(listed("a", "b"))
    merger.merge(listed("b", warming=True))
    assert ids(merger.merge(listed("b"))) == ["b"]
    assert merger.kept == 0


class Mesh:
    """Takes views, and lets a test wait for one."""

    def __init__(self) -> None:
        self.views: list[MeshView] = []
        self.fail = False
        self._news = asyncio.Event()

    def __call__(self, view: MeshView) -> None:
        self.views.append(view)
        self._news.set()
        if self.fail:
            raise RuntimeError("a bug in the consumer")

    async def until(self, *wanted: str) -> MeshView:
        async with asyncio.timeout(15):
            while not self.views or sorted(ids(self.views[-1])) != sorted(wanted):
                self._news.clear()
                await self._news.wait()
        return self.views[-1]


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - what the source says of itself has no event
            await asyncio.sleep(0.01)


@pytest.fixture
async def server() -> AsyncIterator[RegistryServer]:
    registry = await serve("127.0.0.1:0")
    yield registry
    await registry.stop()


async def serve(listen: str) -> RegistryServer:
    registry = RegistryServer(RegistryOptions(listen=listen, min_ttl_ms=500, grace_seconds=0.0))
    await registry.start()
    return registry


def lease_at(server: RegistryServer, instance_id: str, **options: object) -> Registration:
    options = {"ttl": 1.5, "rng": Random(4), **options}
    return Registration(server.address, service="cart", address="127.0.0.1:50051", instance_id=instance_id, **options)


async def test_follows_the_registry(server: RegistryServer):
    mesh = Mesh()
    source = RegistrySource(server.address, mesh, timings=FAST)
    assert not source.status.connected
    await source.start()
    view = await mesh.until()
    assert view.synced
    async with lease_at(server, "c1") as lease:
        await mesh.until("c1")
        status = source.status
        assert (status.connected, status.synced, status.instances, status.error) == (True, True, 1, "")
        assert status.revision > 0
        assert len(status.epoch) == 32
        await lease.drain(20)
        await eventually(lambda: mesh.views[-1].instances[0].draining)
    view = await mesh.until()
    assert view.known_services == {"cart"}
    await source.stop()


async def test_keeps_the_last_view_and_says_so_once(server: RegistryServer, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "gateway.control.registry")
    mesh = Mesh()
    source = RegistrySource(server.address, mesh, timings=FAST)
    await source.start()
    lease = lease_at(server, "c1")
    await lease.start()
    await mesh.until("c1")
    await server.stop()
    await eventually(lambda: not source.status.connected)
    await asyncio.sleep(0.4)
    assert ids(mesh.views[-1]) == ["c1"]
    assert source.status.error
    assert source.status.instances == 1

    gone = lease_at(server, "c2", wait_for_registry=True, connect_timeout=0.01)
    await lease.close()
    views = len(mesh.views)
    successor = await serve(server.address)
    await eventually(lambda: source.status.connected)
    assert source.status.warming
    assert all(ids(view) == ["c1"] for view in mesh.views[views:]), "a warming registry removes nothing"
    await gone.start()
    await mesh.until("c1", "c2")
    assert source.status.kept == 1
    await gone.close()
    await mesh.until("c1")
    await source.stop()
    await successor.stop()
    said = [record.getMessage() for record in caplog.records if record.name == "gateway.control.registry"]
    assert len(said) == 2
    assert "going on with 1 instances" in said[0]
    assert "is back" in said[1]


async def test_a_registry_that_was_never_there_is_said_once(caplog: pytest.LogCaptureFixture):
    mesh = Mesh()
    source = RegistrySource("127.0.0.1:1", mesh, timings=FAST)
    await source.start()
    await asyncio.sleep(0.5)
    await source.stop()
    assert mesh.views == []
    assert not source.status.synced
    assert "127.0.0.1:1 is not reachable" in source.status.error
    said = [record.getMessage() for record in caplog.records if record.name == "gateway.control.registry"]
    assert len(said) == 1
    assert "no instances known yet" in said[0]


async def test_a_consumer_that_fails_hears_the_next_view(server: RegistryServer, caplog: pytest.LogCaptureFixture):
    mesh = Mesh()
    mesh.fail = True
    source = RegistrySource(server.address, mesh, timings=FAST)
    await source.start()
    await mesh.until()
    mesh.fail = False
    async with lease_at(server, "c1"):
        await mesh.until("c1")
    await source.stop()
    assert "could not be applied" in caplog.text


async def test_descriptor_sets_are_fetched_by_digest(server: RegistryServer):
    from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

    content = FileDescriptorSet(file=[FileDescriptorProto(name="a.proto", package="a")]).SerializeToString()
    mesh = Mesh()
    source = RegistrySource(server.address, mesh, timings=FAST)
    await source.start()
    async with lease_at(server, "c1", descriptor_set=content):
        view = await mesh.until("c1")
        fetched = await asyncio.gather(
            *(source.fetch_descriptor_set(view.instances[0].descriptor_digest) for _ in range(3))
        )
        assert fetched == [content] * 3
        with pytest.raises(RegistryError):
            await source.fetch_descriptor_set("00" * 32)
    await source.stop()


def test_a_bad_address_is_refused_at_once():
    with pytest.raises(ValueError, match="nonsense"):
        RegistrySource("nonsense", lambda view: None)


class Busy:
    """A publisher that takes 10 ms of a clock of its own for each view."""

    def __init__(self) -> None:
        self.now = 0.0
        self.views: list[MeshView] = []
        self.source = RegistrySource("127.0.0.1:1", self.take, clock=lambda: self.now)

    def take(self, view: MeshView) -> None:
        self.now += 0.01
        self.views.append(view)

    async def until(self, count: int) -> MeshView:
        async with asyncio.timeout(10):
            while len(self.views) < count:  # noqa: ASYNC110 - the source has nothing to wait for
                await asyncio.sleep(0.005)
        return self.views[-1]


async def test_views_that_come_while_the_last_one_is_paid_for_are_summed_up():
    busy = Busy()
    for view in (listed("a"), listed("a", "b"), listed("a", "b", "c"), listed("b", "c", departed=("a",))):
        busy.source._take(view)
    assert [ids(view) for view in busy.views] == [["a"]]
    assert ids(await busy.until(2)) == ["b", "c"]
    await busy.source.stop()


async def test_departures_are_summed_up_too():
    busy = Busy()
    busy.source._take(listed("a", "b"))
    busy.source._take(listed("b", warming=True, departed=("a",)))
    busy.source._take(listed(warming=True))
    assert ids(await busy.until(2)) == ["b"], "only one of them said that it leaves"
    await busy.source.stop()


async def test_a_view_of_another_epoch_is_not_summed_up_with_those_before():
    busy = Busy()
    busy.source._take(listed("a"))
    busy.source._take(replace(listed(departed=("a",)), epoch=b"1"))
    busy.source._take(replace(listed("a"), epoch=b"1"))
    busy.source._take(replace(listed(warming=True), epoch=b"2"))
    assert ids(await busy.until(3)) == ["a"], "it was back before the registry lost its past"
    await busy.source.stop()


async def test_a_stopped_source_gives_no_view_that_waited():
    busy = Busy()
    busy.source._take(listed("a"))
    busy.source._take(listed("b"))
    await busy.source.stop()
    await asyncio.sleep(0.1)
    assert len(busy.views) == 1
