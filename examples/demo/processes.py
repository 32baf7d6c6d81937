"""Child processes that say where they listen, and that end with this one."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections import deque
from collections.abc import Mapping, Sequence

# What is kept of a child's output, to be shown when it fails.
KEPT_LINES = 20
# How long a child may take to start and to end after SIGTERM, in seconds; a loaded machine is slow at both.
START_SECONDS = 30.0
STOP_SECONDS = 8.0

_LISTENING = re.compile(r"listening on (\S+:\d+)")


class StartError(Exception):
    """A child did not come up; the text says which one, how it ended and what it printed last."""


def preferred_port(port: int) -> int:
    """This TCP port of 127.0.0.1 when nobody uses it, else 0: any free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
        return port


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now, for a child that must be told its port by number."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Guard:
    """Our end of the pipe to ``examples.demo.guard``, which outlives us and ends what we have left."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, before any child."""
        argv = (sys.executable, "-m", "examples.demo.guard")
        self._process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.PIPE, start_new_session=True
        )

    def begun(self, group: int) -> None:
        """A process group has begun."""
        self._send(f"+{group}\n")

    def ended(self, group: int) -> None:
        """A process group has ended."""
        self._send(f"-{group}\n")

    async def stop(self) -> None:
        """Let it end; it finds nothing left to do."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()

    def _send(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(line.encode())


class Child:
    """One child process, in a session of its own so that Ctrl-C reaches it only through us."""

    def __init__(self, guard: Guard, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._guard = guard
        self.name = name
        self.address = ""
        self._argv = argv
        self._env = {**os.environ, **(env or {}), "PYTHONUNBUFFERED": "1"}
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._listening = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Start it and wait until it says where it listens; returns that address."""
        self._process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._env,
            start_new_session=True,
        )
        self._guard.begun(self._process.pid)
        self._reader = asyncio.create_task(self._read(self._process))
        try:
            await asyncio.wait_for(self._listening.wait(), START_SECONDS)
        except TimeoutError:
            raise StartError(self._report(f"did not listen within {START_SECONDS:.0f} s")) from None
        if not self.address:
            raise StartError(self._report(f"ended with exit code {await self._process.wait()} before it listened"))
        return self.address

    def failure(self) -> str:
        """What to say when it ended although nobody asked it to; empty while it runs."""
        code = self._process.returncode if self._process else None
        return "" if code is None else self._report(f"ended by itself with exit code {code}")

    def kill(self) -> None:
        """SIGKILL, at once."""
        self._signal_group(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL for whatever is left of its process group."""
        if self._process is None or self._reader is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        self._signal_group(signal.SIGKILL)
        await self._process.wait()
        await self._reader
        self._guard.ended(self._process.pid)

    def _signal_group(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self._lines.append(line)
            found = _LISTENING.search(line)
            if found and not self.address:
                self.address = found[1]
                self._listening.set()
        self._listening.set()  # its output ended: nothing more to wait for

    def _report(self, what: str) -> str:
        return "\n".join([f"{self.name} {what}", *(f"  {self.name}| {line}" for line in self._lines)])
