"""Fixtures of the interop tests: one mesh for each worker, parts of their own for tests that break things.

Each test ends with a look at what it left behind: no call, stream or timer in the gateway, no call at a server, no
traceback in a log. A failed test shows the logs of the processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import mesh as harness
import pytest
from calls import Caller
from grpc import aio
from mesh import UNLIMITED, Child, EchoServer, Instance, Mesh

LOG_TAIL = 6000  # characters of each log that a failed test shows
ECHO = "interop.Echo"  # what the mesh's own server declares


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Logs of all processes with every failure."""
    report = yield
    if report.failed:
        for child in harness.children:
            report.sections.append((f"{child.name} {child.pid}", (child.out + child.err)[-LOG_TAIL:]))
    return report


@pytest.fixture(autouse=True)
def _sound_logs() -> Iterator[None]:
    """No process may have been surprised."""
    yield
    harness.assert_sound()


@pytest.fixture(scope="session")
def _session_mesh() -> Iterator[tuple[Mesh, EchoServer]]:
    shared = Mesh()
    echo = shared.serve(Instance("echo", (ECHO,), name="echo-1"))
    yield shared, echo
    shared.stop()


@pytest.fixture
def mesh(_session_mesh: tuple[Mesh, EchoServer]) -> Iterator[Mesh]:
    """The worker's mesh; a test leaves it as it was."""
    shared, echo = _session_mesh
    yield shared
    try:
        shared.assert_idle()
    finally:
        for server in shared.servers[:]:
            if server is not echo:
                shared.dismiss(server)


@pytest.fixture
def echo(_session_mesh: tuple[Mesh, EchoServer], mesh: Mesh) -> EchoServer:
    """The server behind ``interop.Echo``."""
    return _session_mesh[1]


@pytest.fixture
def own_mesh() -> Iterator[Callable[..., Mesh]]:
    """Makes meshes that a test may break."""
    made: list[Mesh] = []

    def make(*options: str) -> Mesh:
        made.append(Mesh(*options))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def process() -> Iterator[Callable[[Child], Any]]:
    """Takes care of the end of a process: ``gateway = process(Gateway(...))``."""
    held: list[Child] = []

    def hold(child: Child) -> Child:
        held.append(child)
        return child

    yield hold
    for child in reversed(held):
        child.stop()


@pytest.fixture
async def channel(mesh: Mesh) -> AsyncIterator[aio.Channel]:
    """A grpc.aio channel to the worker's gateway. Nothing may be left of a call while its connection still lives."""
    async with aio.insecure_channel(mesh.gateway.address, options=UNLIMITED) as opened:
        yield opened
        await asyncio.to_thread(mesh.assert_idle)


@pytest.fixture
def sync_channel(mesh: Mesh) -> Iterator[grpc.Channel]:
    """A blocking channel to the worker's gateway."""
    options = [*UNLIMITED, ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(mesh.gateway.address, options=options) as opened:
        yield opened
        mesh.assert_idle()


@pytest.fixture
def caller(channel: aio.Channel) -> Caller:
    """Calls ``interop.Echo`` through the gateway."""
    return Caller(channel, ECHO)
