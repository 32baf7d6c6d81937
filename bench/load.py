"""The load: one h2load run, its output as numbers, and the check that every answer was right."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

# One gRPC message of 39 bytes: not compressed, 34 bytes of payload.
MESSAGE = b"\x00\x00\x00\x00\x22" + b"an order for two cups of tea, warm"
PATH = "/bench.Echo/Unary"

_REQUESTS = re.compile(
    r"^requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout",
    re.M,
)
_STATUS = re.compile(r"^status codes: (\d+) 2xx", re.M)
_DATA = re.compile(r"\((\d+)\) data", re.M)
_RATE = re.compile(r"^finished in [^,]+, ([\d.]+) req/s", re.M)
_LATENCY = re.compile(r"^time for request:\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)\s", re.M)
_MICROSECONDS = {"us": 1.0, "ms": 1000.0, "s": 1_000_000.0}


class WrongAnswer(Exception):  # noqa: N818  an answer is wrong, the word Error adds nothing
    """Some call did not get the right answer, so the run measured nothing."""


@dataclass(frozen=True)
class Scenario:
    """How many calls are under way at a time."""

    name: str
    title: str
    connections: int
    streams: int  # of each connection


SATURATED = Scenario("saturated", "saturated: 8 connections x 16 streams", 8, 16)
ONE_CALL = Scenario("one-call", "one call at a time: 1 connection x 1 stream", 1, 1)
SCENARIOS = {scenario.name: scenario for scenario in (SATURATED, ONE_CALL)}


@dataclass(frozen=True)
class Load:
    """What h2load saw. ``latency`` is the mean time of a call in microseconds, ``rate`` calls per second."""

    calls: int
    rate: float
    latency: float


def parse(output: str, calls: int) -> Load:
    """h2load's summary. Raises WrongAnswer unless every call got a 2xx, and the whole message back."""
    requests = _REQUESTS.search(output)
    status = _STATUS.search(output)
    data = _DATA.search(output)
    rate = _RATE.search(output)
    latency = _LATENCY.search(output)
    if requests is None or status is None or data is None or rate is None or latency is None:
        raise WrongAnswer("h2load printed no summary: " + " | ".join(output.strip().splitlines()[-5:]))
    total, done, succeeded, failed, errored, timeout = (int(number) for number in requests.groups())
    if (total, done, succeeded) != (calls, calls, calls) or int(status[1]) != calls:
        raise WrongAnswer(
            f"of {calls} calls {succeeded} succeeded ({status[1]} with a 2xx), "
            f"{failed} failed, {errored} broke off, {timeout} timed out"
        )
    if int(data[1]) != calls * len(MESSAGE):
        raise WrongAnswer(f"{calls} calls brought back {data[1]} bytes of messages, not {calls * len(MESSAGE)}")
    return Load(calls, float(rate[1]), float(latency[1]) * _MICROSECONDS[latency[2]])


def run(port: int, scenario: Scenario, calls: int, core: int, message: Path) -> Load:
    """Exactly so many calls through a port, from one thread on one core. ``message`` is a file with MESSAGE."""
    command = ["taskset", "-c", str(core), "h2load", "-t", "1", "-n", str(calls)]
    command += ["-c", str(scenario.connections), "-m", str(scenario.streams), "-d", str(message)]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers", f"http://127.0.0.1:{port}{PATH}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise WrongAnswer(f"h2load ended with exit code {done.returncode}: {done.stderr.strip()}")
    return parse(done.stdout, calls)
