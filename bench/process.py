"""Child processes pinned to a core, and the CPU time that a whole family of processes used. Linux only."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

TICKS = os.sysconf("SC_CLK_TCK")
STOP_TIMEOUT = 10.0  # seconds between asking and killing


class BenchError(Exception):
    """The measurement cannot be made; the text says why, and what to do."""


class Process:
    """A child in a session of its own, on one core, with its output in a file. A context manager: it ends with it."""

    def __init__(self, command: list[str], core: int, log: Path, pipe: bool = False) -> None:
        self.name = Path(command[0]).name
        self.log = log
        with log.open("wb") as file:
            self._popen = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipe else file,
                stderr=file,
                start_new_session=True,
            )
        self.pid = self._popen.pid
        self.stdout = self._popen.stdout

    def check(self) -> None:
        """Raises BenchError with the process's last words if it has ended."""
        code = self._popen.poll()
        if code is not None:
            words = self.log.read_text(errors="replace").strip().splitlines()[-5:]
            raise BenchError(f"{self.name} ended with exit code {code}: " + " | ".join(words))

    def cpu_seconds(self) -> float:
        """User and system time so far of the process, its threads, and all its descendants."""
        return sum(_ticks(pid) for pid in family(self.pid)) / TICKS

    def stop(self) -> None:
        """SIGTERM to the whole session, SIGKILL to what is left of it after STOP_TIMEOUT."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.pid, number)
                self._popen.wait(STOP_TIMEOUT)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self._popen.wait()
        if self.stdout is not None:
            self.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def stat_fields(text: str) -> list[str]:
    """The fields of /proc/PID/stat from the third on; the second is a name that may hold anything."""
    return text[text.rindex(")") + 2 :].split()


def _ticks(pid: int) -> int:
    """utime and stime of all threads, ended ones too, and cutime and cstime of the children waited for."""
    try:
        fields = stat_fields(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(field) for field in fields[11:15])


def family(pid: int) -> list[int]:
    """A process and its living descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int(stat_fields((entry / "stat").read_text())[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for member in found:
        found.extend(parents.get(member, []))
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: Process, timeout: float = 15.0) -> None:
    """Until the port accepts connections. Raises BenchError when the process ends first, or the time is over."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        process.check()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise BenchError(f"{process.name} does not listen on port {port} after {timeout:.0f} s; see {process.log}")
