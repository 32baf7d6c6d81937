"""Watches: what each watcher still has to be told, and when. Pure: ``now`` (monotonic seconds) is passed in.

A watcher keeps the newest change of each name and nothing older, so what it owes is bounded by the catalog however
slowly it is read, and a writer never waits for it. Each delta names the revision that the watcher was brought to
before, so a watcher can prove that it missed nothing.
"""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from registry.catalog import Catalog, Scope
from registry.errors import Reason, RegistryError
from registry.model import Batch, Change, Name, Record, ServiceKey

PROGRESS_SECONDS = 5.0  # a silence of three times this tells the client that the stream is dead
FIRST_WINDOW_SECONDS = 0.020  # a change that follows another waits this long for company ...
LAST_WINDOW_SECONDS = 0.500  # ... and under churn up to this long
CHUNK_BYTES = 256 * 1024  # of a snapshot; a quarter of the largest message, so that chunks of others get between
MAX_DELTA_BYTES = 1024 * 1024  # a delta is one message; more than this is told as a new snapshot
MAX_PENDING = 100_000  # as many names as there can be instances; more are names that came and went
MAX_WATCHERS = 10_000  # about 200 KiB of connection each is 2 GiB


class ResetReason(enum.Enum):
    """Why a watcher cannot go on from where it was."""

    COMPACTED = "too old for the history"
    FUTURE = "not happened here"
    FOREIGN_EPOCH = "of another store"


@dataclass(frozen=True)
class SnapshotPart:
    """Some of the records of a snapshot at ``revision``, from the one at index ``start`` on."""

    revision: int
    start: int
    records: tuple[Record, ...]


@dataclass(frozen=True)
class SnapshotDone:
    """The snapshot is complete, and true at this revision."""

    revision: int
    known_services: tuple[ServiceKey, ...]


@dataclass(frozen=True)
class DeltaEvent:
    """The newest change of every name that changed after ``prev_revision``, up to ``revision``."""

    prev_revision: int
    revision: int
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class ProgressEvent:
    """The watcher has everything up to this revision."""

    revision: int


@dataclass(frozen=True)
class ResetEvent:
    """What the watcher had is void; a snapshot follows."""

    reason: ResetReason


Event = SnapshotPart | SnapshotDone | DeltaEvent | ProgressEvent | ResetEvent


class Watcher:
    """One watch stream's state. ``wake`` is called, at once and often, when ``next_event`` may have something new."""

    def __init__(self, catalog: Catalog, scope: Scope, wake: Callable[[], None]) -> None:
        self.scope = scope
        self.told = 0  # the revision that the watcher was brought to
        self._catalog = catalog
        self._wake = wake
        self._reset: ResetReason | None = None
        self._snapshot: list[Record] = []
        self._position = 0  # how much of the snapshot was sent
        self._snapshot_end: SnapshotDone | None = None
        self._snapshot_wanted = False
        self._pending: dict[Name, Change] = {}
        self._pending_bytes = 0
        self._urgent = False
        self._window = FIRST_WINDOW_SECONDS
        self._not_before = 0.0  # when the next delta that is not urgent may go
        self._last_delta = float("-inf")
        self._progress_at = 0.0

    @property
    def backlog(self) -> int:
        """How many changes wait to be told."""
        return len(self._pending)

    def start(self, resume: tuple[bytes, int] | None) -> None:
        """Begin with a snapshot, or after the (epoch, revision) that the watcher has, where that is possible."""
        if resume is None:
            self._snapshot_wanted = True
            return
        epoch, revision = resume
        if epoch != self._catalog.epoch:
            self._start_over(ResetReason.FOREIGN_EPOCH)
        elif revision > self._catalog.revision:
            self._start_over(ResetReason.FUTURE)
        elif not self._catalog.can_resume(revision):
            self._start_over(ResetReason.COMPACTED)
        else:
            self.told = revision
            self._add(self._catalog.since(revision, self.scope))
            self._urgent = True  # what happened while it was away has waited long enough

    def offer(self, changes: list[Change]) -> None:
        """The catalog has just applied these changes, all of them in scope."""
        if self._snapshot_wanted:
            return  # the snapshot will show it
        waiting = bool(self._pending)
        urgent = self._urgent
        self._add(changes)
        if not waiting or urgent != self._urgent or self._reset is not None:
            self._wake()

    def next_event(self, now: float) -> Event | None:
        """What to send now, or None; then ask again at ``due_at``, or when woken."""
        if self._reset is not None:
            reset, self._reset = ResetEvent(self._reset), None
            return reset
        if self._snapshot_wanted:
            self._take_snapshot()
        if self._snapshot_end is not None:
            return self._next_of_snapshot(self._snapshot_end, now)
        if self._pending and now >= min(self._delta_at(), self._progress_at):
            return self._delta(now)
        return self._progress(now) if now >= self._progress_at else None

    def due_at(self, now: float) -> float:
        """When ``next_event`` has something to say, unless woken before."""
        if self._reset is not None or self._snapshot_wanted or self._snapshot_end is not None:
            return now
        if self._pending:
            return min(self._delta_at(), self._progress_at)
        return self._progress_at

    def _add(self, changes: Iterable[Change]) -> None:
        for change in changes:
            replaced = self._pending.get(change.name)
            self._pending[change.name] = change
            self._pending_bytes += change.size - (replaced.size if replaced is not None else 0)
            if change.urgent:
                self._urgent = True
        if len(self._pending) > MAX_PENDING:
            self._start_over(ResetReason.COMPACTED)

    def _start_over(self, reason: ResetReason) -> None:
        self._reset = reason
        self._snapshot_wanted = True
        self._snapshot_end = None
        self._snapshot = []
        self._clear_pending()

    def _clear_pending(self) -> None:
        self._pending = {}
        self._pending_bytes = 0
        self._urgent = False

    def _take_snapshot(self) -> None:
        self._snapshot_wanted = False
        self._snapshot = self._catalog.records(self.scope)
        self._position = 0
        known = tuple(self._catalog.known_services(self.scope))
        self._snapshot_end = SnapshotDone(self._catalog.revision, known)

    def _next_of_snapshot(self, end: SnapshotDone, now: float) -> Event:
        if self._position == len(self._snapshot):
            self._snapshot_end = None
            self._snapshot = []
            self.told = end.revision
            self._progress_at = now + PROGRESS_SECONDS
            return end
        start = self._position
        size = 0
        while self._position < len(self._snapshot) and size < CHUNK_BYTES:
            size += self._snapshot[self._position].spec.size
            self._position += 1
        return SnapshotPart(end.revision, start, tuple(self._snapshot[start : self._position]))

    def _delta_at(self) -> float:
        return float("-inf") if self._urgent else self._not_before

    def _delta(self, now: float) -> Event | None:
        if self._pending_bytes > MAX_DELTA_BYTES:
            self._start_over(ResetReason.COMPACTED)
            return self.next_event(now)
        event = DeltaEvent(self.told, self._catalog.revision, tuple(self._pending.values()))
        self._clear_pending()
        self.told = event.revision
        # Sent as soon as its window opened: there is churn, so the next one waits longer for company.
        churning = now - self._last_delta <= 2 * self._window
        self._window = min(2 * self._window, LAST_WINDOW_SECONDS) if churning else FIRST_WINDOW_SECONDS
        self._last_delta = now
        self._not_before = now + self._window
        return event

    def _progress(self, now: float) -> Event:
        self._progress_at = now + PROGRESS_SECONDS
        self.told = self._catalog.revision
        return ProgressEvent(self.told)


class WatchHub:
    """All watchers of one catalog, grouped by what they want to hear of, so that a batch is looked through once."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._groups: dict[Scope, set[Watcher]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def open(self, scope: Scope, resume: tuple[bytes, int] | None, wake: Callable[[], None]) -> Watcher:
        """A new watcher; give it back to ``close``."""
        if self._count >= MAX_WATCHERS:
            raise RegistryError(Reason.QUOTA, f"the registry serves {MAX_WATCHERS} watches and takes no more")
        watcher = Watcher(self._catalog, scope, wake)
        watcher.start(resume)
        self._groups.setdefault(scope, set()).add(watcher)
        self._count += 1
        return watcher

    def close(self, watcher: Watcher) -> None:
        """The stream has ended."""
        group = self._groups[watcher.scope]
        group.remove(watcher)
        self._count -= 1
        if not group:
            del self._groups[watcher.scope]

    def publish(self, batch: Batch) -> None:
        """Tell every watcher that it concerns of a batch that the catalog has just applied."""
        for scope, group in self._groups.items():
            changes = [change for change in batch.changes if scope.covers(change.name.key)]
            if changes:
                for watcher in group:
                    watcher.offer(changes)
