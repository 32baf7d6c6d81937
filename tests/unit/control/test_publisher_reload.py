"""Reloading the config: whole or not at all, on a signal or when the file changes."""

import asyncio
import logging
import os
from pathlib import Path

import pytest

from gateway.control.file import ConfigWatch, Reload, stamp_of


class Source:
    """A config that a test sets; an exception is raised."""

    def __init__(self, value: str) -> None:
        self.value: str | Exception = value
        self.applied: list[str] = []

    def load(self) -> str:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@pytest.fixture
def source() -> Source:
    return Source("one")


@pytest.fixture
def reload(source: Source, caplog: pytest.LogCaptureFixture) -> Reload[str]:
    caplog.set_level(logging.INFO, "gateway.control.file")
    return Reload(source.load, source.applied.append, "one")


def test_a_good_config_is_applied_once(source: Source, reload: Reload[str], caplog: pytest.LogCaptureFixture) -> None:
    source.value = "two"
    assert reload.run()
    assert reload.run()
    assert source.applied == ["two"]
    assert reload.current == "two"
    assert caplog.messages == ["Config reloaded.", "Config read again: nothing in it has changed."]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("mesh.yaml:3: bad\nmesh.yaml:7: worse"), "mesh.yaml:3: bad; mesh.yaml:7: worse"),
        (FileNotFoundError(2, "No such file", "mesh.yaml"), "mesh.yaml"),
    ],
)
def test_a_bad_config_is_refused_whole(
    source: Source, reload: Reload[str], caplog: pytest.LogCaptureFixture, error: Exception, said: str
) -> None:
    source.value = error
    assert not reload.run()
    assert source.applied == []
    assert reload.current == "one"
    assert len(caplog.messages) == 1
    assert said in caplog.messages[0]
    assert "the last good one stays in force" in caplog.messages[0]
    source.value = "three"
    assert reload.run()
    assert source.applied == ["three"]


def replace_file(path: Path, text: str) -> None:
    """As editors do it: a new file takes the old one's name."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def test_check_calls_back_for_another_file_only(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text("one")
    calls: list[int] = []
    watch = ConfigWatch(path, lambda: calls.append(1))
    watch.check()
    assert calls == []
    replace_file(path, "two")
    watch.check()
    watch.check()
    assert calls == [1]
    path.unlink()
    watch.check()
    assert calls == [1]
    path.write_text("three")
    watch.check()
    assert calls == [1, 1]


def test_check_follows_links(tmp_path: Path) -> None:
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mesh.yaml").write_text(name)
    link = tmp_path / "data"
    link.symlink_to("v1")
    path = tmp_path / "mesh.yaml"
    path.symlink_to("data/mesh.yaml")
    calls: list[int] = []
    watch = ConfigWatch(path, lambda: calls.append(1))
    fresh = tmp_path / "data.new"
    fresh.symlink_to("v2")
    os.replace(fresh, link)
    watch.check()
    assert calls == [1]


def test_stamp_of_an_absent_file(tmp_path: Path) -> None:
    assert stamp_of(tmp_path / "none") is None


async def test_run_sees_a_replaced_file_and_stops(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text("one")
    changed, stop = asyncio.Event(), asyncio.Event()
    watch = ConfigWatch(path, changed.set, look_ms=100)
    task = asyncio.create_task(watch.run(stop))
    replace_file(path, "two")
    # Seen by an event, or by the look that is taken without one when the watch had not begun yet.
    await asyncio.wait_for(changed.wait(), 20)
    stop.set()
    await asyncio.wait_for(task, 10)


async def test_run_of_what_cannot_be_watched(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watch = ConfigWatch(tmp_path / "none" / "mesh.yaml", lambda: None)
    await asyncio.wait_for(watch.run(asyncio.Event()), 10)
    assert "send SIGHUP" in caplog.text
