"""What the benchmark reads from h2load and /proc, and what it makes of the numbers."""

import datetime
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]

OUTPUT = """\
starting benchmark...
finished in 186.53ms, 268057.71 req/s, 17.65MB/s
requests: 500 total, 500 started, 500 done, 500 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 500 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 3.29MB (3451896) total, 97.79KB (100136) headers (space savings 94.73%), 19.04KB (19500) data
                     min         max         mean         sd        +/- sd
time for request:       87us      4.13ms      1.25ms       217us    96.96%
time for connect:      163us       970us       494us       272us    75.00%
"""


@pytest.fixture(autouse=True)
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The benchmark is not installed. It goes last on the path, so that the package under test stays what it is."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])
    yield
    for name in [name for name in sys.modules if name == "bench" or name.startswith("bench.")]:
        del sys.modules[name]


def module(name: str) -> ModuleType:
    return importlib.import_module(f"bench.{name}")


def test_h2load_output() -> None:
    load = module("load")
    assert load.parse(OUTPUT, 500) == load.Load(500, 268057.71, 1250.0)


@pytest.mark.parametrize(
    ("good", "bad", "reason"),
    [
        ("500 succeeded, 0 failed", "499 succeeded, 1 failed", "of 500 calls 499 succeeded"),
        ("500 2xx, 0 3xx, 0 4xx", "498 2xx, 0 3xx, 2 4xx", r"500 succeeded \(498 with a 2xx\)"),
        ("(19500) data", "(19461) data", "19461 bytes of messages, not 19500"),
        ("requests: ", "", "no summary"),
    ],
)
def test_wrong_answers_end_the_run(good: str, bad: str, reason: str) -> None:
    load = module("load")
    with pytest.raises(load.WrongAnswer, match=reason):
        load.parse(OUTPUT.replace(good, bad), 500)


def test_process_names_may_hold_anything() -> None:
    assert module("process").stat_fields("12 (a) b) c) S 7 12 12") == ["S", "7", "12", "12"]


def test_ratios_are_taken_within_a_round() -> None:
    report = module("report")
    costs = {"Envoy": [100.0, 200.0, 300.0], "HAProxy": [50.0, 50.0, 50.0], "meshway compiled": [20.0, 60.0, 60.0]}
    samples = [
        report.Sample(name, "saturated", number, 1000, cost, 10.0, 5000.0)
        for name, each in costs.items()
        for number, cost in enumerate(each)
    ]
    found = report.rows(samples, "saturated")
    assert [row.contender for row in found] == ["HAProxy", "meshway compiled", "Envoy"]
    assert found[1].ratios == {"Envoy": 0.2, "HAProxy": 1.2}
    assert (found[1].cpu, found[1].spread, found[1].rounds) == (60.0, (20.0, 60.0), 3)
    assert report.rows(samples, "one-call") == []


def test_without_a_yardstick_there_is_no_ratio(tmp_path: Path) -> None:
    report = module("report")
    samples = [report.Sample("nginx", "one-call", 0, 1000, 80.0, 300.0, 3000.0)]
    outcome = report.Report(datetime.datetime(2030, 1, 2), 5.0, {"nginx": "1.2"}, ["Envoy is away"], samples)
    path = report.save(outcome, tmp_path)
    assert path.name == "2030-01-02-summary.md"
    text = path.read_text()
    assert "| nginx | 80.0 | 80.0 - 80.0 | - | - | 3000 | 300 |" in text
    assert "left out: Envoy is away" in text
    assert '"cpu": 80.0' in (tmp_path / "2030-01-02-samples.json").read_text()
