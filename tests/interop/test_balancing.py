"""Balancing over real servers: how calls are spread, and what instances that come, go, drain and die do to them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from calls import Caller
from grpc import aio
from mesh import EchoServer, Instance, Mesh, unique

CONFIG = """
services:
  first: {balancer: {policy: pick_first}}
  ring: {balancer: {policy: ring_hash, hash_on: [{metadata: x-user}]}}
"""


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh with a policy for each of three services."""
    file = tmp_path_factory.mktemp("config") / "mesh.yaml"
    file.write_text(CONFIG)
    mesh = Mesh("--config", str(file))
    yield mesh
    mesh.stop()


@asynccontextmanager
async def calling(mesh: Mesh, service: str) -> AsyncIterator[Caller]:
    """A caller on a connection of its own; nothing is left when it closes."""
    async with aio.insecure_channel(mesh.gateway.address) as channel:
        yield Caller(channel, service)
        await asyncio.to_thread(mesh.assert_idle)


def instances(service: str, count: int, declared: str) -> list[Instance]:
    return [Instance(service, (declared,)) for _ in range(count)]


async def spread(caller: Caller, calls: int) -> Counter[str]:
    """How many calls each instance answered, one after the other."""
    return Counter([await caller.instance() for _ in range(calls)])


async def test_round_robin_is_even(mesh: Mesh) -> None:
    declared = unique("interop.B")
    members = instances(unique("even-"), 3, declared)
    mesh.serve(*members)
    async with calling(mesh, declared) as caller:
        assert await spread(caller, 60) == {member.name: 20 for member in members}
        at_once = Counter(await asyncio.gather(*(caller.instance() for _ in range(60))))
        assert at_once == {member.name: 20 for member in members}


async def test_weight_zero_gets_nothing(mesh: Mesh) -> None:
    declared, service = unique("interop.B"), unique("weight-")
    resting = Instance(service, (declared,), weight=0)
    working = Instance(service, (declared,))
    server = EchoServer(mesh.registry.address, resting, working)
    mesh.servers.append(server)
    mesh.gateway.await_instances(working.name)
    async with calling(mesh, declared) as caller:
        assert await spread(caller, 10) == {working.name: 10}


async def test_pick_first_sticks(configured: Mesh) -> None:
    declared = unique("interop.B")
    members = instances("first", 3, declared)
    server = configured.serve(*members)
    async with calling(configured, declared) as caller:
        (chosen, calls), *others = (await spread(caller, 20)).items()
        assert (calls, others) == (20, [])
        # Another takes over when it leaves.
        await asyncio.to_thread(server.control, "leave", chosen)
        await asyncio.to_thread(configured.gateway.await_gone, chosen)
        assert len(await spread(caller, 10)) == 1
    configured.dismiss(server)


async def test_ring_hash_is_sticky_and_moves_few_keys(configured: Mesh) -> None:
    """One of ten leaves: its own keys move, and hardly any other (15 % in all is what the ring may cost)."""
    declared = unique("interop.B")
    members = [Instance("ring", (declared,), name=f"ring-{number}") for number in range(10)]
    server = configured.serve(*members)
    users = [f"user-{number}" for number in range(300)]

    async def owners(caller: Caller) -> dict[str, str]:
        found = await asyncio.gather(*(caller.instance([("x-user", user)]) for user in users))
        return dict(zip(users, found, strict=True))

    async with calling(configured, declared) as caller:
        before = await owners(caller)
        assert await owners(caller) == before
        assert set(before.values()) == {member.name for member in members}
        await asyncio.to_thread(server.control, "leave", "ring-3")
        await asyncio.to_thread(configured.gateway.await_gone, "ring-3")
        after = await owners(caller)
        assert "ring-3" not in after.values()
        moved = [user for user in users if before[user] != after[user]]
        assert len(moved) < 0.15 * len(users)
        assert all(before[user] == "ring-3" for user in moved)
    configured.dismiss(server)


async def pressed(caller: Caller, stop: asyncio.Event, failures: list[aio.AioRpcError]) -> int:
    """Call one after the other until told to stop; how many went well."""
    answered = 0
    while not stop.is_set():
        try:
            await caller.exchange("UnaryUnary", b"x")
            answered += 1
        except aio.AioRpcError as error:
            failures.append(error)
    return answered


async def under_pressure(caller: Caller, what: Callable[[], Any]) -> tuple[int, list[aio.AioRpcError]]:
    """Do something while eight clients call; calls answered meanwhile and after it, and failures."""
    stop = asyncio.Event()
    failures: list[aio.AioRpcError] = []
    clients = [asyncio.create_task(pressed(caller, stop, failures)) for _ in range(8)]
    await asyncio.to_thread(what)
    await asyncio.gather(*(caller.instance() for _ in range(200)), return_exceptions=True)
    stop.set()
    return sum(await asyncio.gather(*clients)), failures


async def test_calls_go_on_when_an_instance_is_killed(mesh: Mesh) -> None:
    """Only those that it was working on fail: a refused connection is no answer, and is tried elsewhere."""
    declared, service = unique("interop.B"), unique("killed-")
    doomed, other = Instance(service, (declared,)), Instance(service, (declared,))
    server = mesh.serve(doomed)
    mesh.serve(other)
    async with calling(mesh, declared) as caller:
        assert set(await spread(caller, 10)) == {doomed.name, other.name}
        answered, failures = await under_pressure(caller, server.kill)
        assert answered > 0
        assert len(failures) <= 8
        for failure in failures:
            assert failure.code() is grpc.StatusCode.UNAVAILABLE
            assert "lost" in (failure.details() or "")
        # From here on there is not one.
        assert await spread(caller, 200) == {other.name: 200}
        # Back at the same address, as the same instance, it gets calls again.
        port = int(server.addresses[doomed.name].rpartition(":")[2])
        back = Instance(service, (declared,), port=port, name=doomed.name)
        await asyncio.to_thread(mesh.serve, back)
        assert (await spread(caller, 40))[doomed.name] > 0


async def test_a_new_instance_joins_in_without_a_failure(mesh: Mesh) -> None:
    declared, service = unique("interop.B"), unique("grow-")
    mesh.serve(Instance(service, (declared,)))
    added = Instance(service, (declared,))
    async with calling(mesh, declared) as caller:
        _, failures = await under_pressure(caller, lambda: mesh.serve(added))
        assert not failures
        assert (await spread(caller, 20))[added.name] == 10


async def test_leaving_costs_no_call(mesh: Mesh) -> None:
    """An instance that drains, and then deregisters, while clients call it all the time."""
    declared, service = unique("interop.B"), unique("leave-")
    leaving, staying = instances(service, 2, declared)
    server = mesh.serve(leaving, staying)

    def leave() -> None:
        server.control("drain", leaving.name)
        mesh.gateway.await_gone(leaving.name)
        server.control("leave", leaving.name)

    async with calling(mesh, declared) as caller:
        _, failures = await under_pressure(caller, leave)
        assert not failures
        assert await spread(caller, 10) == {staying.name: 10}


async def test_a_draining_instance_finishes_its_stream_and_gets_nothing_new(mesh: Mesh) -> None:
    declared, service = unique("interop.B"), unique("drain-")
    draining, staying = instances(service, 2, declared)
    server = mesh.serve(draining, staying)
    async with calling(mesh, declared) as caller:
        streams = [caller.start("StreamStream") for _ in range(2)]
        where = {}
        for stream in streams:
            await stream.send(b"open")
            assert await stream.read() == b"open"
            where[(await stream.headers())["x-instance"]] = stream
        held = where[draining.name]
        await asyncio.to_thread(server.control, "drain", draining.name)
        await asyncio.to_thread(mesh.gateway.await_gone, draining.name)
        assert await spread(caller, 20) == {staying.name: 20}
        for number in range(20):
            await held.send(b"%d" % number)
            assert await held.read() == b"%d" % number
        # Even when it has left altogether, what runs may end.
        await asyncio.to_thread(server.control, "leave", draining.name)
        await held.send(b"last")
        assert await held.read() == b"last"
        for stream in streams:
            await stream.done()
            assert await stream.rest() == []


async def test_all_instances_gone_and_back(mesh: Mesh) -> None:
    declared, service = unique("interop.B"), unique("back-")
    server = mesh.serve(Instance(service, (declared,)))
    async with calling(mesh, declared) as caller:
        await caller.exchange("UnaryUnary", b"x")
        await asyncio.to_thread(mesh.dismiss, server)
        failure = await caller.start("UnaryUnary").failure()
        assert failure.code() is grpc.StatusCode.UNAVAILABLE
        assert f"service {service} has no live instance" in (failure.details() or "")
        back = Instance(service, (declared,))
        await asyncio.to_thread(mesh.serve, back)
        assert await caller.instance() == back.name


async def test_a_dead_instance_is_forgotten_when_its_lease_ends(mesh: Mesh) -> None:
    declared = unique("interop.B")
    doomed = Instance(unique("silent-"), (declared,))
    server = mesh.serve(doomed, ttl=1.0)
    server.kill()
    await asyncio.to_thread(mesh.gateway.await_gone, doomed.name)
    async with calling(mesh, declared) as caller:
        failure = await caller.start("UnaryUnary").failure()
        assert failure.code() is grpc.StatusCode.UNAVAILABLE
        assert "no live instance" in (failure.details() or "")
