"""The mesh as a watcher sees it: immutable views, and the fold that makes them of the registry's messages.

Knows no stream, clock or task: messages in, views out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from meshway.registry.v1 import registry_pb2 as pb

# Twice what one registry holds at most (100,000 leases): beyond it something is wrong, and memory is at stake.
MAX_INSTANCES: Final = 200_000


class InstanceState(StrEnum):
    """What the registry says of an instance."""

    READY = "ready"
    NOT_READY = "not_ready"  # holds its lease, wants no calls
    DRAINING = "draining"  # finishes open calls, wants no new ones
    SUSPECT = "suspect"  # missed a beat; still in use until its lease ends


class RemovalReason(StrEnum):
    """Why the registry removed an instance."""

    UNSPECIFIED = "unspecified"
    DEREGISTERED = "deregistered"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    OPERATOR = "operator"


_STATES: Final = {
    pb.INSTANCE_STATE_NOT_READY: InstanceState.NOT_READY,
    pb.INSTANCE_STATE_DRAINING: InstanceState.DRAINING,
    pb.INSTANCE_STATE_SUSPECT: InstanceState.SUSPECT,
}
_REASONS: Final = {
    pb.REMOVAL_REASON_DEREGISTERED: RemovalReason.DEREGISTERED,
    pb.REMOVAL_REASON_EXPIRED: RemovalReason.EXPIRED,
    pb.REMOVAL_REASON_SUPERSEDED: RemovalReason.SUPERSEDED,
    pb.REMOVAL_REASON_OPERATOR: RemovalReason.OPERATOR,
}

Key = tuple[str, str]  # service, instance_id


@dataclass(frozen=True)
class Instance:
    """One instance as listed. Times are seconds; ``drain_remaining`` was true when the registry sent it."""

    namespace: str
    service: str
    instance_id: str
    addresses: tuple[str, ...]
    grpc_services: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    weight: int = 1
    incarnation: int = 0
    state: InstanceState = InstanceState.READY
    not_ready_reason: str = ""
    revision: int = 0
    descriptor_digest: str = ""
    ttl: float = 0.0
    drain_remaining: float = 0.0

    @property
    def key(self) -> Key:
        """What names it within its namespace."""
        return (self.service, self.instance_id)

    @classmethod
    def of(cls, message: pb.Instance) -> "Instance":
        """The instance in a message; a state that this client does not know counts as ready."""
        return cls(
            namespace=message.namespace,
            service=message.service,
            instance_id=message.instance_id,
            addresses=tuple(message.addresses),
            grpc_services=tuple(message.grpc_services),
            labels=MappingProxyType(dict(message.labels)),
            weight=message.weight,
            incarnation=message.incarnation,
            state=_STATES.get(message.state, InstanceState.READY),
            not_ready_reason=message.not_ready_reason,
            revision=message.revision,
            descriptor_digest=message.descriptor_digest,
            ttl=message.granted_ttl_ms / 1000,
            drain_remaining=message.drain_remaining_ms / 1000,
        )


@dataclass(frozen=True)
class Departure:
    """An instance that the registry removed, and why."""

    service: str
    instance_id: str
    incarnation: int
    reason: RemovalReason


@dataclass(frozen=True)
class CatalogView:
    """The whole watched state at one revision.

    ``synced`` is false until the first complete answer. ``connected`` is false while the registry is away: the rest is
    then the last that was known. ``warming``: the registry started without its past, so absence proves nothing yet.
    ``departures`` are the removals that the registry announced since the view before this one; an instance that is
    gone without being among them was left out of a new snapshot.
    """

    instances: tuple[Instance, ...] = ()
    known_services: frozenset[str] = frozenset()  # also those without an instance now
    revision: int = 0
    epoch: bytes = b""
    warming: bool = False
    connected: bool = False
    synced: bool = False
    departures: tuple[Departure, ...] = ()


class WatchChainError(Exception):
    """The registry's messages do not follow from one another: the state cannot be trusted any more."""


class CatalogFold:
    """Folds watch messages into views. ``apply`` returns the next view, or None when there is nothing new to see."""

    def __init__(self) -> None:
        self.view = CatalogView()
        self._instances: dict[Key, Instance] = {}
        self._staged: dict[Key, Instance] | None = None
        self._chain = 0  # the revision of the last snapshot or delta
        self._resumable = False

    def resume(self) -> pb.Revision | None:
        """Where a new stream should go on; None when it has to start with a snapshot."""
        if not self._resumable:
            return None
        return pb.Revision(epoch=self.view.epoch, number=self.view.revision)

    def forget(self) -> None:
        """The chain broke: the next stream starts with a snapshot. The last view stays until then."""
        self._resumable = False

    def disconnected(self) -> CatalogView | None:
        """The stream ended; half a snapshot is dropped. The next view, or None if it was disconnected already."""
        self._staged = None
        if not self.view.connected:
            return None
        self.view = replace(self.view, connected=False, departures=())
        return self.view

    def apply(self, message: pb.WatchResponse) -> CatalogView | None:
        """Take one message in; WatchChainError if it cannot follow the ones before it."""
        kind = message.WhichOneof("event")
        if kind == "delta":
            return self._delta(message.delta)
        if kind == "progress":
            return self._progress(message.progress)
        if kind == "snapshot":
            self._stage(message.snapshot)
        elif kind == "snapshot_end":
            return self._snapshot_end(message.snapshot_end)
        elif kind == "reset":
            self._staged = {}
            self._resumable = False
        # An event that this client does not know yet carries nothing that it could miss.
        return None

    def _stage(self, chunk: pb.SnapshotChunk) -> None:
        if self._staged is None:
            self._staged = {}
        for message in chunk.instances:
            instance = Instance.of(message)
            self._staged[instance.key] = instance
        self._check_size(self._staged)

    def _snapshot_end(self, end: pb.SnapshotEnd) -> CatalogView:
        self._instances = self._staged or {}
        self._staged = None
        self._chain = end.revision.number
        self._resumable = True
        known = {name.rpartition("/")[2] for name in end.known_services}
        known.update(service for service, instance_id in self._instances)
        self.view = CatalogView(
            instances=tuple(self._instances.values()),
            known_services=frozenset(known),
            revision=end.revision.number,
            epoch=end.revision.epoch,
            warming=end.warming,
            connected=True,
            synced=True,
        )
        return self.view

    def _delta(self, delta: pb.Delta) -> CatalogView:
        self._expect_state("a delta")
        # The chain holds with the last delta, or with a progress since then that said there was nothing between.
        if delta.prev_revision not in (self._chain, self.view.revision) or delta.revision < self.view.revision:
            raise WatchChainError(
                f"delta {delta.prev_revision}..{delta.revision} does not follow revision {self.view.revision}"
            )
        departures = tuple(self._remove(removal) for removal in delta.removals)
        for message in delta.upserts:
            instance = Instance.of(message)
            self._instances[instance.key] = instance
        self._check_size(self._instances)
        self._chain = delta.revision
        new_services = {message.service for message in delta.upserts} - self.view.known_services
        self.view = replace(
            self.view,
            instances=tuple(self._instances.values()),
            known_services=self.view.known_services | new_services if new_services else self.view.known_services,
            revision=delta.revision,
            connected=True,
            departures=departures,
        )
        return self.view

    def _remove(self, removal: pb.Removal) -> Departure:
        key = (removal.service, removal.instance_id)
        held = self._instances.get(key)
        # A removal of an earlier life says nothing of the one that holds the name now.
        if held is not None and held.incarnation <= removal.incarnation:
            del self._instances[key]
        reason = _REASONS.get(removal.reason, RemovalReason.UNSPECIFIED)
        return Departure(removal.service, removal.instance_id, removal.incarnation, reason)

    def _progress(self, progress: pb.Progress) -> CatalogView | None:
        self._expect_state("progress")
        revision = progress.revision
        if revision.epoch != self.view.epoch or revision.number < self.view.revision:
            raise WatchChainError(f"progress to {revision.number} does not follow revision {self.view.revision}")
        before = self.view
        self.view = replace(before, revision=revision.number, warming=progress.warming, connected=True, departures=())
        changed = before.warming != progress.warming or not before.connected
        return self.view if changed else None

    def _expect_state(self, what: str) -> None:
        if self._staged is not None or not self._resumable:
            raise WatchChainError(f"the registry sent {what} where a snapshot has to be completed first")

    @staticmethod
    def _check_size(instances: dict[Key, Instance]) -> None:
        if len(instances) > MAX_INSTANCES:
            raise WatchChainError(f"the registry lists more than {MAX_INSTANCES} instances")
