"""``meshway register`` with real children, real signals and the registry itself."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from registry.client import (
    CatalogView,
    InstanceState,
    Registration,
    RegistryClient,
    RemovalReason,
    Watcher,
    WatchTimings,
)
from registry.register_command import RegisterCommand, RegisterOptions
from registry.server import RegistryOptions, RegistryServer

# A gRPC server that writes down what happens to it. Its health follows the file HEALTH; SIGTERM ends it with code 7.
CHILD = """
import os, signal, sys, threading
from concurrent import futures
from pathlib import Path
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

port, directory, features = sys.argv[1], Path(sys.argv[2]), sys.argv[3].split(",")
server = grpc.server(futures.ThreadPoolExecutor(4))
servicer = health.HealthServicer()
names = {"NOT_SERVING": health_pb2.HealthCheckResponse.NOT_SERVING, "SERVING": health_pb2.HealthCheckResponse.SERVING}

class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/shop.Cart/Echo":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: request)

server.add_generic_rpc_handlers((Echo(),))
if "health" in features:
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
if "reflection" in features:
    reflection.enable_server_reflection(
        ("shop.Cart", "shop.Basket", reflection.SERVICE_NAME, health.SERVICE_NAME), server)
def log(word):
    with open(directory / "log", "a") as file:
        file.write(word + "\\n")
ended = threading.Event()
def on_term(number, frame):
    log(signal.Signals(number).name)
    ended.set()
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, on_term)
signal.signal(signal.SIGHUP, lambda number, frame: log("SIGHUP"))
def follow_health():
    try:
        servicer.set("", names[(directory / "health").read_text().strip()])
    except (OSError, KeyError):
        pass
follow_health()  # the servicer's own first word is SERVING
server.add_insecure_port("127.0.0.1:" + port)
server.start()
(directory / "pid").write_text(str(os.getpid()))
log("up")
while not ended.wait(0.05):
    follow_health()
server.stop(0)
sys.exit(7)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
async def server() -> AsyncIterator[RegistryServer]:
    registry = RegistryServer(RegistryOptions(listen="127.0.0.1:0", min_ttl_ms=500, grace_seconds=0.0))
    await registry.start()
    yield registry
    await registry.stop()


class Run:
    """One ``meshway register`` in a process of its own, with its child, and a watch beside them."""

    def __init__(self, registry: str, directory: Path, features: str = "health,reflection") -> None:
        self.registry = registry
        self.directory = directory
        self.features = features
        self.port = free_port()
        self.lines: list[str] = []
        self.watcher = Watcher(registry, timings=WatchTimings(backoff_base=0.02, backoff_cap=0.2))
        self.process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def __aenter__(self) -> "Run":
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            self.process.terminate()
            await asyncio.wait_for(self.process.wait(), 20)
        if self._reader is not None:
            await self._reader
        await self.watcher.aclose()

    def child(self) -> list[str]:
        return ["--", sys.executable, "-c", CHILD, str(self.port), str(self.directory), self.features]

    async def start(self, *options: str, child: bool = True) -> None:
        arguments = ["--registry", self.registry, "--service", "cart", "--address", f"127.0.0.1:{self.port}"]
        self.process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "registry",
                "register",
                *arguments,
                "--ttl",
                "1.5",
                "--instance-id",
                "c1",
                *options,
            ),
            *(self.child() if child else ()),
            stderr=asyncio.subprocess.PIPE,
        )
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode().rstrip())
            self._news.set()

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def exit_code(self) -> int:
        assert self.process is not None
        return await asyncio.wait_for(self.process.wait(), 30)

    async def said(self, words: str) -> None:
        async with asyncio.timeout(30):
            while not any(words in line for line in self.lines):
                self._news.clear()
                await self._news.wait()

    async def until(self, condition: Callable[[CatalogView], Any]) -> CatalogView:
        async with asyncio.timeout(30):
            async for view in self.watcher:
                if condition(view):
                    return view
        raise AssertionError

    def health(self, word: str) -> None:
        (self.directory / "health").write_text(word)

    def log(self) -> list[str]:
        file = self.directory / "log"
        return file.read_text().split() if file.exists() else []

    def kill_child(self) -> None:
        os.kill(int((self.directory / "pid").read_text()), signal.SIGKILL)

    async def logged(self, word: str) -> None:
        async with asyncio.timeout(30):
            while word not in self.log():  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.02)


def state(view: CatalogView) -> InstanceState | None:
    return view.instances[0].state if view.instances else None


async def test_registers_what_serves_and_drains_before_it_stops(server: RegistryServer, tmp_path: Path) -> None:
    async with Run(server.address, tmp_path) as run:
        run.health("NOT_SERVING")
        await run.start("--label", "version=v2", "--weight", "3", "--drain-time", "3")
        await run.logged("up")
        async with RegistryClient(server.address) as client:
            assert await client.list_services() == (), "not before its health check says SERVING"
        run.health("SERVING")
        (one,) = (await run.until(lambda view: view.instances)).instances
        assert one.addresses == (f"127.0.0.1:{run.port}",)
        assert one.grpc_services == ("shop.Basket", "shop.Cart")
        assert dict(one.labels) == {"version": "v2"}
        assert (one.instance_id, one.weight, one.ttl) == ("c1", 3, 1.5)
        await run.said("registered cart/c1 at")

        run.send(signal.SIGHUP)
        await run.logged("SIGHUP")

        run.send(signal.SIGTERM)
        await run.until(lambda view: state(view) is InstanceState.DRAINING)
        assert "SIGTERM" not in run.log(), "the drain comes first"
        view = await run.until(lambda view: not view.instances)
        assert [departure.reason for departure in view.departures] == [RemovalReason.DEREGISTERED]
        assert run.log() == ["up", "SIGHUP", "SIGTERM"]
        assert await run.exit_code() == 7
        assert any("deregistered" in line and "exit code 7" in line for line in run.lines)


async def test_a_child_that_dies_is_deregistered_at_once(server: RegistryServer, tmp_path: Path) -> None:
    async with Run(server.address, tmp_path) as run:
        await run.start("--ttl", "60", "--drain-time", "30")
        await run.until(lambda view: view.instances)
        await run.said("registered")
        run.kill_child()
        view = await run.until(lambda view: not view.instances)
        assert [departure.reason for departure in view.departures] == [RemovalReason.DEREGISTERED]
        assert await run.exit_code() == 128 + signal.SIGKILL


async def test_a_second_signal_is_passed_at_once(server: RegistryServer, tmp_path: Path) -> None:
    async with Run(server.address, tmp_path) as run:
        await run.start("--drain-time", "120")
        await run.said("registered")
        run.send(signal.SIGTERM)
        await run.until(lambda view: state(view) is InstanceState.DRAINING)
        run.send(signal.SIGINT)
        assert await run.exit_code() == 7
        assert run.log() == ["up", "SIGINT"]


async def test_a_registry_that_hangs_delays_no_hurried_end_and_is_not_said_to_know_of_it(tmp_path: Path) -> None:
    arguments = (sys.executable, "-m", "registry", "registry", "--listen", "127.0.0.1:0")
    registry = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    try:
        assert registry.stdout is not None
        address = (await registry.stdout.readline()).decode().split()[-1]
        async with Run(address, tmp_path) as run:
            await run.start("--drain-time", "120")
            await run.said("registered")
            registry.send_signal(signal.SIGSTOP)
            run.send(signal.SIGTERM)
            run.send(signal.SIGINT)
            assert await run.exit_code() == 7
            await run.said("the registry is away, so the lease ends by itself")
            assert run.log() == ["up", "SIGINT"]
    finally:
        registry.kill()
        await registry.wait()


async def test_health_after_registration_makes_it_ready_or_not(server: RegistryServer, tmp_path: Path) -> None:
    async with Run(server.address, tmp_path) as run:
        await run.start()
        await run.until(lambda view: state(view) is InstanceState.READY)
        run.health("NOT_SERVING")
        view = await run.until(lambda view: state(view) is InstanceState.NOT_READY)
        assert "NOT_SERVING" in view.instances[0].not_ready_reason
        run.health("SERVING")
        await run.until(lambda view: state(view) is InstanceState.READY)
        await run.said("ready again")


async def test_without_health_or_reflection(server: RegistryServer, tmp_path: Path) -> None:
    async with Run(server.address, tmp_path, features="none") as run:
        await run.start("--grpc-service", "shop.Cart", "--grpc-service", "shop.Other")
        (one,) = (await run.until(lambda view: view.instances)).instances
        assert one.grpc_services == ("shop.Cart", "shop.Other")


async def test_a_restarted_registry_gets_it_back(server: RegistryServer, tmp_path: Path) -> None:
    async with Run(server.address, tmp_path) as run:
        await run.start()
        await run.said("registered")
        await server.stop()
        successor = RegistryServer(RegistryOptions(listen=server.address, min_ttl_ms=500, grace_seconds=0.0))
        await successor.start()
        await run.said("registered again")
        async with RegistryClient(successor.address) as client:
            assert [one.instance_id for one in (await client.resolve("cart")).ready] == ["c1"]
        run.send(signal.SIGTERM)
        assert await run.exit_code() == 7
        await successor.stop()


async def test_without_a_command_it_holds_the_lease_until_a_signal(server: RegistryServer, tmp_path: Path) -> None:
    async with Run(server.address, tmp_path) as run:
        service = await asyncio.create_subprocess_exec(*run.child()[1:])
        try:
            await run.start("--drain-time", "0.1", child=False)
            await run.until(lambda view: view.instances)
            await run.said("registered")
            run.send(signal.SIGINT)
            await run.until(lambda view: not view.instances)
            assert await run.exit_code() == 0
            assert service.returncode is None
        finally:
            service.kill()
            await service.wait()


async def test_without_a_command_being_superseded_ends_it(server: RegistryServer, tmp_path: Path) -> None:
    async with Run(server.address, tmp_path) as run:
        service = await asyncio.create_subprocess_exec(*run.child()[1:])
        try:
            await run.start(child=False)
            await run.said("registered")
            place = f"127.0.0.1:{run.port}"
            async with Registration(server.address, service="cart", address=place, instance_id="c1"):
                assert await run.exit_code() == 1
                await run.said("another process has registered cart/c1")
        finally:
            service.kill()
            await service.wait()


async def refused(**changes: Any) -> tuple[int, str]:
    """What a run in this process ends with, and the last thing it said."""
    said: list[str] = []
    port = free_port()
    options = {"registry": "127.0.0.1:1", "service": "cart", "address": f"127.0.0.1:{port}", "start_timeout": 0.5}
    command = tuple(part.replace("PORT", str(port)) for part in changes.pop("command", ()))
    code = await RegisterCommand(RegisterOptions(**{**options, **changes, "command": command}), said.append).run()
    return code, said[-1] if said else ""


LISTENER = "import socket,sys,time; s = socket.create_server(('127.0.0.1', PORT)); time.sleep(60)"


async def test_a_command_that_cannot_be_started_is_wrong_use() -> None:
    assert await refused(command=("/no/such/program",)) == (
        2,
        "cannot start '/no/such/program': No such file or directory.",
    )


async def test_a_command_that_exits_early_gives_its_code() -> None:
    code, said = await refused(command=(sys.executable, "-c", "raise SystemExit(5)"), start_timeout=20.0)
    assert code == 5
    assert "exited before cart was registered" in said


async def test_a_service_that_never_comes_up_is_a_failure_that_stops_it() -> None:
    code, said = await refused(command=(sys.executable, "-c", "import time; time.sleep(60)"))
    assert code == 1
    assert "did not come up in 0.5 s: nothing accepts connections there" in said


async def test_a_server_that_is_no_grpc_server_does_not_come_up() -> None:
    code, said = await refused(command=(sys.executable, "-c", LISTENER), start_timeout=5.0)
    assert code == 1
    assert "its health check fails" in said


async def test_an_absent_registry_is_a_failure_that_stops_the_command(tmp_path: Path) -> None:
    command = (sys.executable, "-c", CHILD, "PORT", str(tmp_path), "health,reflection")
    code, said = await refused(command=command, start_timeout=30.0)
    assert code == 1
    assert "the registry at 127.0.0.1:1 is not reachable" in said
    assert (tmp_path / "log").read_text().split() == ["up", "SIGTERM"]


async def test_a_refused_record_is_wrong_use(server: RegistryServer, tmp_path: Path) -> None:
    command = (sys.executable, "-c", CHILD, "PORT", str(tmp_path), "none")
    code, said = await refused(registry=server.address, command=command, start_timeout=30.0, service="bad name")
    assert code == 2
    assert "INVALID_ARGUMENT" in said
