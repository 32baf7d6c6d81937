"""``make bench``: CPU time per call of the gateway beside HAProxy, nginx and Envoy, in one run."""

import argparse
import datetime
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from bench import load
from bench.contenders import Contender, Place, all_contenders, check_with_grpcio, start_upstream
from bench.load import SCENARIOS, Scenario
from bench.process import BenchError
from bench.report import Report, Sample, save, show

HERE = Path(__file__).parent
WARM_UP_CALLS = {"saturated": 5000, "one-call": 500}  # fills tables and caches, and tells how many calls make a second


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="each with every contender (default: 5)")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="of each measurement (default: 5)")
    parser.add_argument("--only", default="", metavar="A,B", help="contenders whose name contains one of these")
    parser.add_argument("--scenario", choices=list(SCENARIOS), help="only this one")
    parser.add_argument(
        "--compiled", default=".venv-compiled/bin/meshway", metavar="COMMAND", help="the compiled package"
    )
    parser.add_argument("--interpreted", default=".venv/bin/meshway", metavar="COMMAND", help="the interpreted package")
    parser.add_argument("--proxy-core", type=int, default=0, metavar="N", help="the contender's core (default: 0)")
    parser.add_argument("--load-core", type=int, default=1, metavar="N", help="for load and upstream (default: 1)")
    parser.add_argument(
        "--results", type=Path, default=HERE / "results", metavar="DIR", help="where to keep the outcome"
    )
    options = parser.parse_args(argv)
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be above 0")
    return options


def check_machine(options: argparse.Namespace) -> None:
    """Raises BenchError when this machine cannot measure."""
    if shutil.which("h2load") is None:
        raise BenchError("h2load is not on this machine: apt-get install nghttp2-client")
    if shutil.which("taskset") is None:
        raise BenchError("taskset is not on this machine: apt-get install util-linux")
    cores = os.sched_getaffinity(0)
    for core in (options.proxy_core, options.load_core):
        if core not in cores:
            raise BenchError(f"core {core} is not among those that may be used here ({sorted(cores)}); see --help")


def choose(options: argparse.Namespace) -> tuple[list[Contender], list[str]]:
    """Who takes part, and who does not and why."""
    wanted = [part.strip().lower() for part in options.only.split(",") if part.strip()]
    present = []
    skipped = []
    for contender in all_contenders(options.compiled, options.interpreted):
        if wanted and not any(part in contender.name.lower() for part in wanted):
            continue
        reason = contender.missing()
        if reason:
            skipped.append(reason)
        else:
            present.append(contender)
    if not present:
        raise BenchError("nobody to measure: " + ("; ".join(skipped) or f"--only {options.only} names no contender"))
    return present, skipped


class Bench:
    """One run: the upstream is up, contenders take turns."""

    def __init__(self, options: argparse.Namespace, directory: Path, upstream: int, console: Console) -> None:
        self._options = options
        self._directory = directory
        self._upstream = upstream
        self._console = console
        self._message = directory / "message"
        self._message.write_bytes(load.MESSAGE)
        self._scenarios = [SCENARIOS[options.scenario]] if options.scenario else list(SCENARIOS.values())

    def turn(self, contender: Contender, number: int) -> list[Sample]:
        """Starts a contender, measures every scenario, stops it."""
        directory = self._directory / f"{number}-{contender.name.replace(' ', '-')}"
        directory.mkdir()
        place = Place(self._upstream, self._options.proxy_core, self._options.load_core, directory)
        with ExitStack() as stack:
            try:
                running = contender.start(place, stack)
                check_with_grpcio(running)
                samples = []
                for scenario in self._scenarios:
                    calls = self._calls_for(running.port, scenario)
                    before = running.process.cpu_seconds()
                    seen = self._load(running.port, scenario, calls)
                    cpu = (running.process.cpu_seconds() - before) / calls * 1e6
                    sample = Sample(contender.name, scenario.name, number, calls, cpu, seen.latency, seen.rate)
                    samples.append(sample)
                    self._tell(sample)
            except (BenchError, load.WrongAnswer) as error:
                raise BenchError(f"{contender.name}: {error}") from error
        return samples

    def _calls_for(self, port: int, scenario: Scenario) -> int:
        """How many calls take the seconds wished for, by the speed of the second warm-up."""
        self._load(port, scenario, WARM_UP_CALLS[scenario.name])
        rate = self._load(port, scenario, WARM_UP_CALLS[scenario.name]).rate
        return max(int(rate * self._options.seconds), scenario.connections * scenario.streams)

    def _load(self, port: int, scenario: Scenario, calls: int) -> load.Load:
        return load.run(port, scenario, calls, self._options.load_core, self._message)

    def _tell(self, sample: Sample) -> None:
        self._console.print(
            f"round {sample.round + 1}  {sample.contender:20} {sample.scenario:10} {sample.cpu:7.1f} us CPU a call, "
            f"{sample.calls} calls, {sample.rate:.0f} a second",
            highlight=False,
        )


def measure(options: argparse.Namespace, console: Console) -> Report:
    """All rounds. The order turns by one each round, so that nobody always follows the same neighbour."""
    check_machine(options)
    present, skipped = choose(options)
    for reason in skipped:
        console.print(f"Left out: {reason}.")
    report = Report(
        started=datetime.datetime.now().astimezone(),
        seconds=options.seconds,
        versions={contender.name: contender.version() for contender in present},
        skipped=skipped,
        samples=[],
    )
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meshway-bench-")))
        upstream = start_upstream(directory, options.load_core, stack)
        bench = Bench(options, directory, upstream, console)
        for number in range(options.rounds):
            shift = number % len(present)
            for contender in present[shift:] + present[:shift]:
                report.samples.extend(bench.turn(contender, number))
    return report


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 1 a measurement failed, 2 wrong use (argparse)."""
    options = arguments(argv)
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        report = measure(options, console)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: stopped; nothing was kept", file=sys.stderr)
        return 1
    show(report, console)
    console.print(f"Kept in {save(report, options.results)}.", highlight=False)
    return 0
