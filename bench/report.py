"""The outcome of a benchmark: medians, ratios, and how they are shown and kept."""

import datetime
import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.load import SCENARIOS

YARDSTICKS = ("Envoy", "HAProxy")  # what everybody's CPU time is divided by


@dataclass(frozen=True)
class Sample:
    """One contender, scenario and round: CPU time per call and mean latency in microseconds, calls a second."""

    contender: str
    scenario: str
    round: int
    calls: int
    cpu: float
    latency: float
    rate: float


@dataclass(frozen=True)
class Row:
    """The medians of one contender in one scenario; ``ratios`` by yardstick."""

    contender: str
    rounds: int
    cpu: float
    spread: tuple[float, float]
    latency: float
    rate: float
    ratios: dict[str, float]


@dataclass(frozen=True)
class Report:
    """All samples, who took part with which version, who did not and why."""

    started: datetime.datetime
    seconds: float
    versions: dict[str, str]
    skipped: list[str]
    samples: list[Sample]


def rows(samples: list[Sample], scenario: str) -> list[Row]:
    """One row for each contender, cheapest first.

    A ratio is the median of the ratios within each round: a slow minute of a shared machine then slows both sides.
    """
    here = [sample for sample in samples if sample.scenario == scenario]
    by_round = {(sample.contender, sample.round): sample.cpu for sample in here}
    found = []
    for name in dict.fromkeys(sample.contender for sample in here):
        mine = [sample for sample in here if sample.contender == name]
        ratios = {}
        for yardstick in YARDSTICKS:
            pairs = [
                sample.cpu / by_round[yardstick, sample.round]
                for sample in mine
                if by_round.get((yardstick, sample.round), 0.0) > 0
            ]
            if pairs:
                ratios[yardstick] = statistics.median(pairs)
        costs = [sample.cpu for sample in mine]
        found.append(
            Row(
                contender=name,
                rounds=len(mine),
                cpu=statistics.median(costs),
                spread=(min(costs), max(costs)),
                latency=statistics.median(sample.latency for sample in mine),
                rate=statistics.median(sample.rate for sample in mine),
                ratios=ratios,
            )
        )
    return sorted(found, key=lambda row: row.cpu)


HEADINGS = ["contender", "CPU us/call", "lowest - highest", *(f"/ {name}" for name in YARDSTICKS), "calls/s", "mean us"]


def cells(row: Row) -> list[str]:
    ratios = [f"{row.ratios[name]:.2f}" if name in row.ratios else "-" for name in YARDSTICKS]
    spread = f"{row.spread[0]:.1f} - {row.spread[1]:.1f}"
    return [row.contender, f"{row.cpu:.1f}", spread, *ratios, f"{row.rate:.0f}", f"{row.latency:.0f}"]


def scenarios(report: Report) -> list[str]:
    return [name for name in SCENARIOS if any(sample.scenario == name for sample in report.samples)]


def show(report: Report, console: Console) -> None:
    """The tables, on a terminal."""
    for name in scenarios(report):
        table = Table(title=SCENARIOS[name].title, title_justify="left")
        for index, heading in enumerate(HEADINGS):
            table.add_column(heading, justify="left" if index == 0 else "right", no_wrap=True)
        for row in rows(report.samples, name):
            table.add_row(*cells(row), style="bold" if row.contender.startswith("meshway") else None)
        console.print(table)
    for reason in report.skipped:
        console.print(f"Left out: {reason}.")


def markdown(report: Report) -> str:
    """The tables with what is needed to judge them."""
    rounds = max((sample.round for sample in report.samples), default=-1) + 1
    lines = [
        f"# CPU time per call, {report.started:%Y-%m-%d %H:%M}",
        "",
        f"Medians of {rounds} rounds of about {report.seconds:g} s each, on {machine()}.",
        "Ratios are medians of the ratios within each round.",
    ]
    for name in scenarios(report):
        lines += ["", f"## {SCENARIOS[name].title.capitalize()}", ""]
        lines += ["| " + " | ".join(HEADINGS) + " |", "| --- |" + " ---: |" * (len(HEADINGS) - 1)]
        lines += ["| " + " | ".join(cells(row)) + " |" for row in rows(report.samples, name)]
    lines += ["", "## Who took part", ""]
    lines += [f"- {name}: {version}" for name, version in report.versions.items()]
    lines += [f"- left out: {reason}" for reason in report.skipped]
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Processor, cores and system, as the system names them."""
    processor = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
    return f"{os.cpu_count()} cores of {processor}, {platform.system()} {platform.release()}"


def save(report: Report, directory: Path) -> Path:
    """Writes DATE-summary.md and DATE-samples.json; returns the first."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = f"{report.started:%Y-%m-%d}"
    summary = directory / f"{stem}-summary.md"
    summary.write_text(markdown(report))
    content = asdict(report) | {"started": report.started.isoformat(timespec="seconds")}
    (directory / f"{stem}-samples.json").write_text(json.dumps(content, indent=1) + "\n")
    return summary
