"""The registry dies, and comes back without its memory: calls go on all the while."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
from calls import Caller
from grpc import aio
from mesh import PATIENCE, POLL, Child, EchoServer, Gateway, Instance, Mesh, Registry, free_port

from registry.client import RegistryClient, RegistryError

AWAY = "cannot watch the mesh"
BACK = r"the registry at \S+ is back"


async def test_calls_go_on_without_the_registry(own_mesh: Callable[..., Mesh]) -> None:
    mesh = own_mesh()
    members = [Instance("shop", ("away.Shop",), name=f"shop-{number}") for number in range(2)]
    server = mesh.serve(*members, ttl=1.0)
    async with aio.insecure_channel(mesh.gateway.address) as channel:
        caller = Caller(channel, "away.Shop")
        stream = caller.start("StreamStream", timeout=60)
        await stream.send(b"open")
        assert await stream.read() == b"open"
        address = mesh.registry.address

        mesh.registry.kill()
        await asyncio.to_thread(mesh.gateway.await_line, AWAY)
        assert Counter([await caller.instance() for _ in range(20)]) == {"shop-0": 10, "shop-1": 10}

        # It comes back at the same address, knows nobody, and hears of its instances from themselves.
        failures = await while_it_restarts(mesh, caller, address)
        assert not failures
        await asyncio.to_thread(mesh.gateway.await_instances, "shop-0", "shop-1")
        assert {await caller.instance() for _ in range(10)} == {"shop-0", "shop-1"}
        assert mesh.gateway.counters()["registry_connected"] is True
        assert mesh.gateway.err.count(AWAY) == 1
        assert len(re.findall(BACK, mesh.gateway.err)) == 1

        await stream.send(b"still")
        assert await stream.read() == b"still"
        await stream.done()
        assert await stream.rest() == []

        # The new registry is obeyed: what comes and what leaves is seen again. It must know of an instance for that:
        # what it does not list while it is warming is kept.
        await registered_again(address, "shop", "shop-0")
        added = Instance("shop", ("away.Shop",), name="shop-2")
        await asyncio.to_thread(mesh.serve, added)
        await asyncio.to_thread(server.control, "leave", "shop-0")
        await asyncio.to_thread(mesh.gateway.await_gone, "shop-0")
        assert Counter([await caller.instance() for _ in range(20)]) == {"shop-1": 10, "shop-2": 10}
        await asyncio.to_thread(mesh.assert_idle)


async def registered_again(address: str, service: str, instance: str) -> None:
    """Wait until the registry lists the instance by itself."""
    async with asyncio.timeout(PATIENCE), RegistryClient(address) as client:
        while True:
            try:
                if any(found.instance_id == instance for found in (await client.resolve(service)).ready):
                    return
            except RegistryError:
                pass  # it does not even know the service yet
            await asyncio.sleep(POLL)


async def while_it_restarts(mesh: Mesh, caller: Caller, address: str) -> list[aio.AioRpcError]:
    """Start a registry there; calls that failed between its start and the return of all instances."""
    failures: list[aio.AioRpcError] = []

    async def call() -> None:
        while not restarted.done():
            try:
                await caller.exchange("UnaryUnary", b"x")
            except aio.AioRpcError as error:
                failures.append(error)

    def restart() -> None:
        mesh.registry = Registry(address)
        mesh.gateway.await_line(BACK)

    restarted = asyncio.ensure_future(asyncio.to_thread(restart))
    await asyncio.gather(*(call() for _ in range(4)))
    await restarted
    return failures


async def test_a_gateway_that_starts_before_its_registry(process: Callable[[Child], Any]) -> None:
    """It comes up all the same, says what is missing, and works as soon as the registry is there."""
    address = f"127.0.0.1:{free_port()}"
    gateway = process(Gateway(address))
    async with aio.insecure_channel(gateway.address) as channel:
        caller = Caller(channel, "early.Shop")
        failure = await caller.start("UnaryUnary").failure()
        assert failure.code() is grpc.StatusCode.UNAVAILABLE
        assert "registry" in (failure.details() or "")
        registry = process(Registry(address))
        process(EchoServer(registry.address, Instance("shop", ("early.Shop",), name="shop")))
        await asyncio.to_thread(gateway.await_instances, "shop")
        assert await caller.instance() == "shop"
        assert gateway.err.count(AWAY) == 1
        await asyncio.to_thread(gateway.assert_idle)
