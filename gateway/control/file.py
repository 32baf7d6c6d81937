"""The config file after start: when to read it again, and what to do when it is bad."""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from watchfiles import awatch

logger = logging.getLogger(__name__)

T = TypeVar("T")

# An editor's save is several events; those this close together (milliseconds) are one.
DEBOUNCE_MS = 200

# How often the file is looked at without an event (milliseconds). Network file systems report no events, and a change
# made while the watch was being set up is seen so, too. A look is one stat.
LOOK_MS = 5000

# What identifies a version of the file: inode, size and modification time in ns; None while it is absent.
Stamp = tuple[int, int, int] | None


class Reload(Generic[T]):
    """Reads the config again and applies it whole, or refuses it whole and keeps the last good one.

    ``load`` returns a new config; it raises ValueError (its text names file and line) or OSError for one that must not
    be used. ``apply`` puts a config in force. A config equal to the one in force is not applied again.
    """

    def __init__(self, load: Callable[[], T], apply: Callable[[T], None], current: T) -> None:
        self._load = load
        self._apply = apply
        self._current = current

    @property
    def current(self) -> T:
        """The config in force."""
        return self._current

    def run(self) -> bool:
        """Reload now; whether the file is good. Says in the log what came of it, in one sentence."""
        try:
            config = self._load()
        except (ValueError, OSError) as error:
            problems = "; ".join(str(error).splitlines())
            logger.error("Config refused, the last good one stays in force: %s", problems)
            return False
        if config == self._current:
            logger.info("Config read again: nothing in it has changed.")
            return True
        self._apply(config)
        self._current = config
        logger.info("Config reloaded.")
        return True


class ConfigWatch:
    """Calls back whenever a file's content may be another, until cancelled.

    Watches the directory, since editors and Kubernetes replace a file rather than write into it; the stamp of what the
    path leads to, links followed, then says whether the event was about this file. ``look_ms`` as LOOK_MS.
    """

    def __init__(self, path: str | Path, changed: Callable[[], object], look_ms: int = LOOK_MS) -> None:
        self._path = Path(path)
        self._look_ms = look_ms
        self._changed = changed
        self._stamp = stamp_of(self._path)

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until ``stop`` is set. If watching is impossible, says so once and returns: SIGHUP still works."""
        directory = self._path.absolute().parent
        try:
            async for _changes in awatch(
                directory,
                watch_filter=None,
                debounce=DEBOUNCE_MS,
                stop_event=stop,
                recursive=False,
                rust_timeout=self._look_ms,
                yield_on_timeout=True,
            ):
                self.check()
        except (OSError, RuntimeError) as error:
            logger.warning("Cannot watch %s for changes (%s): send SIGHUP after changing the config.", directory, error)

    def check(self) -> None:
        """Call back if the file is another one now. An absent file is no news: it is being replaced."""
        stamp = stamp_of(self._path)
        if stamp is not None and stamp != self._stamp:
            self._stamp = stamp
            self._changed()


def stamp_of(path: Path) -> Stamp:
    """The stamp of what a path leads to now."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
