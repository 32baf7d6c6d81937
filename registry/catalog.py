"""The catalog: what is true now, what was true lately, and under which revision. Pure: changed by ``apply`` alone.

Beside the records it keeps what outlives them: incarnations of names that left (so that the fencing token never goes
back), services that have no instance now, and the history from which a watcher resumes.
"""

import itertools
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from registry.model import Batch, Change, Name, Record, ServiceKey

HISTORY_SECONDS = 600.0
MAX_HISTORY_CHANGES = 100_000
MAX_HISTORY_BYTES = 64 * 1024 * 1024  # so many changes of usual size are half of it; one with all labels is 20 KiB
TOMBSTONE_SECONDS = 600.0
MAX_TOMBSTONES = 100_000  # as many as there can be instances
MAX_EMPTY_SERVICES = 10_000  # services without an instance: names that came and went


class Scope(NamedTuple):
    """What a watcher wants to hear of: a namespace, and some or (with an empty set) all of its services."""

    namespace: str
    services: frozenset[str] = frozenset()

    def covers(self, key: ServiceKey) -> bool:
        """Whether it takes in this service."""
        return key.namespace == self.namespace and (not self.services or key.service in self.services)


class Tombstone:
    """A name that nobody holds: its last incarnation, whose it was, and when it ended."""

    __slots__ = ("boot_id", "incarnation", "time")

    def __init__(self, incarnation: int, boot_id: bytes, time: float) -> None:
        self.incarnation = incarnation
        self.boot_id = boot_id
        self.time = time


class Catalog:
    """Records by name and service, with revision, epoch and history. ``epoch`` is 16 bytes, minted with the store."""

    def __init__(self, epoch: bytes, revision: int = 0) -> None:
        self.epoch = epoch
        self.revision = revision
        self.compacted = revision  # the newest revision whose change is no longer in the history
        self._records: dict[Name, Record] = {}
        self._services: dict[ServiceKey, dict[str, Record]] = {}
        self._empty: OrderedDict[ServiceKey, float] = OrderedDict()  # since when, oldest first
        self._tombstones: OrderedDict[Name, Tombstone] = OrderedDict()  # oldest first
        self._incarnation_floor = 0  # no forgotten name had a higher one
        self._history: deque[Batch] = deque()
        self._history_changes = 0
        self._history_bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    def get(self, name: Name) -> Record | None:
        """The record of a name, or None."""
        return self._records.get(name)

    def instances(self, key: ServiceKey) -> list[Record] | None:
        """The records of a service; empty for a known one that has none; None for one never heard of."""
        found = self._services.get(key)
        if found is not None:
            return list(found.values())
        return [] if key in self._empty else None

    def count(self, key: ServiceKey) -> int:
        """How many instances a service has."""
        return len(self._services.get(key, ()))

    def empty_since(self, key: ServiceKey) -> float | None:
        """When the last instance of a known service left, or None while it has some."""
        return self._empty.get(key)

    def known_services(self, scope: Scope) -> list[ServiceKey]:
        """All services in scope, those without an instance too, sorted."""
        return sorted(key for key in itertools.chain(self._services, self._empty) if scope.covers(key))

    def records(self, scope: Scope) -> list[Record]:
        """All records in scope."""
        if scope.services:
            keys = [ServiceKey(scope.namespace, service) for service in sorted(scope.services)]
        else:
            keys = [key for key in self._services if key.namespace == scope.namespace]
        return [record for key in keys for record in self._services.get(key, {}).values()]

    def next_incarnation(self, name: Name, boot_id: bytes) -> int:
        """The incarnation that a boot gets with a free name: one more, unless it was itself the last to hold it."""
        tombstone = self._tombstones.get(name)
        if tombstone is None:
            return self._incarnation_floor + 1
        return tombstone.incarnation if tombstone.boot_id == boot_id else tombstone.incarnation + 1

    def can_resume(self, revision: int) -> bool:
        """Whether every change after this revision is still at hand."""
        return self.compacted <= revision <= self.revision

    def since(self, revision: int, scope: Scope) -> Iterable[Change]:
        """The changes in scope after a revision that can be resumed from, oldest first."""
        skipped = revision - self.compacted
        for batch in itertools.islice(self._history, skipped, None):
            for change in batch.changes:
                if scope.covers(change.name.key):
                    yield change

    def restore(self, record: Record) -> None:
        """Take over a record that a store kept; before any batch."""
        self._put(record)

    def apply(self, batch: Batch) -> None:
        """Make a committed batch true. Its revision must be the next one."""
        if batch.revision != self.revision + 1:
            raise ValueError(f"batch {batch.revision} does not follow revision {self.revision}")
        for change in batch.changes:
            if change.record is None:
                self._remove(change.name, batch.time)
            else:
                self._put(change.record)
        self.revision = batch.revision
        # Descriptor sets are held, and dropped, with the records that refer to them.
        self._history.append(replace(batch, descriptors={}))
        self._history_changes += len(batch.changes)
        self._history_bytes += batch.size
        self.sweep(batch.time)

    def sweep(self, now: float) -> None:
        """Forget what is too old or too much: history, tombstones, services without an instance."""
        while self._history and (
            self._history_changes > MAX_HISTORY_CHANGES
            or self._history_bytes > MAX_HISTORY_BYTES
            or now - self._history[0].time >= HISTORY_SECONDS
        ):
            gone = self._history.popleft()
            self._history_changes -= len(gone.changes)
            self._history_bytes -= gone.size
            self.compacted = gone.revision
        while self._tombstones:
            name, oldest = next(iter(self._tombstones.items()))
            if len(self._tombstones) <= MAX_TOMBSTONES and now - oldest.time < TOMBSTONE_SECONDS:
                break
            del self._tombstones[name]
            self._incarnation_floor = max(self._incarnation_floor, oldest.incarnation)
        while len(self._empty) > MAX_EMPTY_SERVICES:
            self._empty.popitem(last=False)

    def _put(self, record: Record) -> None:
        name = record.name
        self._records[name] = record
        self._tombstones.pop(name, None)
        self._empty.pop(name.key, None)
        self._services.setdefault(name.key, {})[name.instance_id] = record

    def _remove(self, name: Name, now: float) -> None:
        record = self._records.pop(name)
        self._tombstones[name] = Tombstone(record.incarnation, record.boot_id, now)
        siblings = self._services[name.key]
        del siblings[name.instance_id]
        if not siblings:
            del self._services[name.key]
            self._empty[name.key] = now
