"""Real processes for the interop tests: registry, gateway and echo servers, their output, and their ends.

Every process writes to files, so that nothing blocks on a pipe and a failed test can show what was said. Whatever is
waited for is a line, a counter or an exit, within a bound.
"""

from __future__ import annotations

import asyncio
import atexit
import http.client
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc

MESHWAY = str(Path(sys.executable).parent / "meshway")
ECHO_SERVER = Path(__file__).with_name("echo_server.py")
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
# Seconds that anything may take on a busy machine before a test gives up on it.
PATIENCE = 20.0
# Seconds for what is over to be gone: fewer than any deadline that the tests give their calls, so that a timer that
# was left behind does not end by itself in time.
SETTLING = 8.0
POLL = 0.01
# A gateway without calls has none of these, whatever connections it keeps.
IDLE = ("calls", "downstream_streams", "upstream_streams", "waiting_for_a_link", "timers")
# What a log must never hold.
BROKEN = re.compile(r"Traceback|Exception in callback|never retrieved|CRITICAL")

T = TypeVar("T")

children: list[Child] = []  # all that run, or ran in this test


def wait_for(what: str, probe: Callable[[], T], patience: float = PATIENCE) -> T:
    """The first true answer of the probe; AssertionError naming ``what`` and the last answer when it takes too long."""
    deadline = time.monotonic() + patience
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"{what} did not happen within {patience:g} s; last seen: {answer!r}"
        time.sleep(POLL)
    return answer


class Child:
    """A process, its output in files."""

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._directory = Path(tempfile.mkdtemp(prefix=f"meshway-{name}-"))
        self._out = self._directory / "stdout"
        self._err = self._directory / "stderr"
        # The tests' own settings of exporters and colours are none of the children's business.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env={**inherited, **(env or {})}
            )
        self.pid = self._process.pid
        self._read = 0
        children.append(self)

    @property
    def out(self) -> str:
        """All that it wrote to stdout."""
        return self._out.read_text("utf-8", "replace")

    @property
    def err(self) -> str:
        """All that it wrote to stderr."""
        return self._err.read_text("utf-8", "replace")

    def unread_err(self) -> str:
        """What it wrote to stderr since the last such look."""
        text = self.err
        start, self._read = self._read, len(text)
        return text[start:]

    def await_line(self, pattern: str, patience: float = PATIENCE) -> re.Match[str]:
        """Wait until a line of its output matches; its match. AssertionError if it ends before."""

        def look() -> re.Match[str] | None:
            ended = self._process.poll()
            found = re.search(pattern, self.out + self.err, re.MULTILINE)
            assert found or ended is None, f"{self.name} ended with {ended} before {pattern!r}: {self.out}{self.err}"
            return found

        return wait_for(f"{pattern!r} from {self.name}", look, patience)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def wait(self, patience: float = PATIENCE) -> int:
        """Its exit code, once it has ended."""
        return self._process.wait(patience)

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def stop(self) -> int:
        """SIGTERM if it still runs; its exit code. What does not end by itself is killed, and that is a failure."""
        if self.running():
            self._process.terminate()
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {PATIENCE:g} s of SIGTERM") from None

    def discard(self) -> None:
        """Remove its output."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def rss(self) -> int:
        """Its resident memory in bytes."""
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        found = re.search(r"^Rss:\s+(\d+) kB$", rollup, re.MULTILINE)
        assert found
        return int(found[1]) * 1024


def run_meshway(*arguments: str, patience: float = PATIENCE) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run([MESHWAY, *arguments], capture_output=True, text=True, timeout=patience, check=False)


class Registry(Child):
    """``meshway registry``."""

    def __init__(self, listen: str = "127.0.0.1:0", min_ttl: float = 1.0) -> None:
        super().__init__("registry", [MESHWAY, "registry", "--listen", listen, "--min-ttl", str(min_ttl)])
        self.address = self.await_line(r"^registry listening on (\S+)$")[1]


class Gateway(Child):
    """``meshway gateway`` with its admin endpoint."""

    def __init__(
        self, registry: str, *options: str, listen: str = "127.0.0.1:0", env: Mapping[str, str] | None = None
    ) -> None:
        argv = [MESHWAY, "gateway", "--listen", listen, "--registry", registry, "--admin", "127.0.0.1:0", *options]
        super().__init__("gateway", argv, env)
        self.address = self.await_line(r"^gateway listening on (\S+)$")[1]
        self._admin = self.await_line(r"^admin on (\S+)$")[1]

    def page(self, path: str) -> Any:
        """A page of the admin endpoint."""
        connection = http.client.HTTPConnection(self._admin, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def counters(self) -> dict[str, Any]:
        """What is under way, and what has been."""
        counters: dict[str, Any] = self.page("/counters")
        return counters

    def endpoints(self) -> dict[str, dict[str, Any]]:
        """Where calls may go, by instance."""
        return {row["instance"]: row for row in self.page("/endpoints")}

    def await_instances(self, *instances: str) -> None:
        """Wait until calls may go to all of these."""
        wanted = set(instances)
        wait_for(f"endpoints {sorted(wanted)}", lambda: wanted <= self.endpoints().keys())

    def await_gone(self, *instances: str) -> None:
        """Wait until new calls go to none of these."""
        wait_for(f"leave of {instances}", lambda: not set(instances) & self.endpoints().keys())

    def await_counter(self, name: str, value: int) -> None:
        """Wait until a counter has this value."""
        wait_for(f"{name} = {value}", lambda: self.counters()[name] == value)

    def assert_idle(self) -> None:
        """Wait, within a bound, until no call, stream, waiting attempt or timer is left."""

        def left() -> dict[str, int]:
            counters = self.counters()
            return {name: counters[name] for name in IDLE if counters[name]}

        deadline = time.monotonic() + SETTLING
        while remains := left():
            assert time.monotonic() < deadline, f"the gateway is left with {remains}"
            time.sleep(POLL)


@dataclass(frozen=True)
class Instance:
    """An instance to be served; what is not given is made up."""

    service: str
    grpc_services: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    weight: int = 1
    stack: str = "grpcio"
    port: int = 0
    name: str = field(default_factory=lambda: f"i-{secrets.token_hex(4)}")

    def spec(self) -> dict[str, Any]:
        """As the echo server takes it."""
        return {
            "service": self.service,
            "instance": self.name,
            "grpc_services": list(self.grpc_services),
            "labels": dict(self.labels),
            "weight": self.weight,
            "stack": self.stack,
            "port": self.port,
        }


class EchoServer(Child):
    """``echo_server.py`` with some instances."""

    def __init__(self, registry: str | None, *instances: Instance, ttl: float = 5.0) -> None:
        self.instances = instances
        plan = {"registry": registry, "ttl": ttl, "instances": [instance.spec() for instance in instances]}
        super().__init__("echo", [sys.executable, str(ECHO_SERVER), json.dumps(plan)])
        found = self.await_line(r"^echo listening (\{.*\})$")
        self.addresses: dict[str, str] = json.loads(found[1])
        self._control = self.addresses.pop("control")

    def control(self, order: str, argument: Any = None) -> dict[str, Any]:
        """Give an order, past the gateway; what the server's calls have come to. Blocks until it is done."""
        with grpc.insecure_channel(self._control, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            ask = channel.unary_unary("/interop.Control/Do")
            return dict(json.loads(ask(json.dumps({order: argument}).encode(), timeout=PATIENCE, wait_for_ready=True)))

    async def saw(self, call: str, event: str) -> None:
        """Wait until a call has come to this: started, cancelled, finished, ended, or a mark of its script."""
        await asyncio.to_thread(self.control, "await", [call, event])

    async def release(self, call: str) -> None:
        """Let a held call go on."""
        await asyncio.to_thread(self.control, "release", call)

    def calls(self) -> dict[str, int]:
        """How many calls each instance has had."""
        return dict(self.control("look")["calls"])

    def assert_idle(self) -> None:
        """Wait until no call is left."""
        wait_for(f"the end of all calls at {self.name}", lambda: self.control("look")["active"] == 0, SETTLING)


class Mesh:
    """A registry, a gateway, and the servers behind them."""

    def __init__(self, *options: str) -> None:
        self.registry = Registry()
        self.gateway = Gateway(self.registry.address, *options)
        self.servers: list[EchoServer] = []

    def serve(self, *instances: Instance, ttl: float = 5.0) -> EchoServer:
        """Run these in one process; returns when the gateway knows them."""
        server = EchoServer(self.registry.address, *instances, ttl=ttl)
        self.servers.append(server)
        self.gateway.await_instances(*(instance.name for instance in instances))
        return server

    def assert_idle(self) -> None:
        """Nothing is under way, at the gateway and at every server that lives."""
        self.gateway.assert_idle()
        for server in self.servers:
            if server.running():
                server.assert_idle()

    def dismiss(self, server: EchoServer) -> None:
        """End a server, and wait until the gateway has forgotten it if it could say goodbye."""
        self.servers.remove(server)
        if server.running():
            server.stop()
            self.gateway.await_gone(*(instance.name for instance in server.instances))

    def stop(self) -> None:
        """End everything; what still ran must end well, and without a word of surprise."""
        for child in [*self.servers, self.gateway, self.registry]:
            expected = 0 if child.running() else child.wait()
            assert child.stop() == expected, f"{child.name} ended with {child.wait()}: {child.err}"
        assert_sound()


def unique(prefix: str) -> str:
    """A name that no other test uses."""
    return f"{prefix}{secrets.token_hex(4)}"


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def assert_sound() -> None:
    """No process was surprised since the last look; those that ended are forgotten, and their output is removed."""
    broken = [f"{child.name}:\n{text}" for child in children if BROKEN.search(text := child.unread_err())]
    for child in children[:]:
        if not child.running():
            children.remove(child)
            child.discard()
    assert not broken, "\n".join(broken)


@atexit.register
def _leave_nothing_behind() -> None:
    for child in children:
        if child.running():
            child.kill()
        child.discard()
