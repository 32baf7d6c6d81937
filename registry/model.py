"""The registry's values: names, specs, records, changes. Immutable, and without rules.

Times are seconds of the lease clock (``leases.LeaseClock``) unless a name says otherwise; ids are raw bytes.
"""

import enum
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

DEFAULT_NAMESPACE = "default"
ID_BYTES = 16  # boot ids, lease ids and epochs: 128 bits cannot be guessed and do not collide

# What an entry of the catalog weighs on the wire beside its strings: tags, lengths, counters, digest.
RECORD_OVERHEAD_BYTES = 160


class ServiceKey(NamedTuple):
    """A service within its namespace."""

    namespace: str
    service: str


class Name(NamedTuple):
    """What an instance is called: unique in the catalog."""

    namespace: str
    service: str
    instance_id: str

    @property
    def key(self) -> ServiceKey:
        """The service it belongs to."""
        return ServiceKey(self.namespace, self.service)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.service}/{self.instance_id}"


class State(enum.Enum):
    """What gateways are told of an instance."""

    READY = "ready"
    NOT_READY = "not ready"  # holds its lease, wants no calls
    DRAINING = "draining"  # finishes open calls, wants no new ones
    SUSPECT = "suspect"  # missed a beat; still in use until its lease ends


class RemovalReason(enum.Enum):
    """Why an instance left."""

    DEREGISTERED = "deregistered"  # it said so, or its drain reached the deadline
    EXPIRED = "expired"


class LeaseEnd(enum.Enum):
    """What became of a lease that is no longer alive."""

    UNKNOWN = "unknown"  # never granted here, or ended too long ago to remember
    EXPIRED = "expired"
    DEREGISTERED = "deregistered"
    SUPERSEDED = "superseded"  # another boot took the name


@dataclass(frozen=True)
class Spec:
    """What an instance says of itself. ``labels`` are sorted pairs, so that equal content compares equal."""

    name: Name
    addresses: tuple[str, ...]
    grpc_services: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    weight: int = 1
    descriptor_digest: str = ""

    @cached_property
    def size(self) -> int:
        """About how many bytes it takes on the wire: what chunks and deltas are cut by."""
        strings = sum(len(part) for part in (*self.name, *self.addresses, *self.grpc_services))
        return RECORD_OVERHEAD_BYTES + strings + sum(len(key) + len(value) + 8 for key, value in self.labels)


@dataclass(frozen=True)
class Record:
    """One instance as the catalog and the store hold it: its spec, its lease, and what gateways are told.

    ``ready`` is what the instance claims, as far as it is published; ``state`` follows from that, from the drain and
    from missed beats. ``revision`` is that of its last change.
    """

    spec: Spec
    lease_id: bytes
    boot_id: bytes
    incarnation: int
    ttl_ms: int
    interval_ms: int
    ready: bool = True
    not_ready_reason: str = ""
    state: State = State.READY
    drain_until: float | None = None
    revision: int = 0

    @property
    def name(self) -> Name:
        """The name it holds."""
        return self.spec.name


@dataclass(frozen=True)
class Change:
    """One name's new truth: a record, or that it left (``record`` is None) with a reason and its last incarnation."""

    name: Name
    record: Record | None
    incarnation: int
    reason: RemovalReason | None = None

    @property
    def urgent(self) -> bool:
        """Whether gateways must hear of it at once: calls would go to something that leaves or left."""
        return self.record is None or self.record.state == State.DRAINING

    @property
    def size(self) -> int:
        """About how many bytes it takes on the wire."""
        if self.record is None:
            return RECORD_OVERHEAD_BYTES + sum(len(part) for part in self.name)
        return self.record.spec.size + len(self.record.not_ready_reason)


@dataclass(frozen=True)
class Batch:
    """What is committed together, under one revision. At most one change a name.

    ``time`` is when it was decided; ``descriptors`` maps the digests that it brings to their serialized sets.
    """

    revision: int
    time: float
    changes: tuple[Change, ...]
    descriptors: dict[str, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """About how many bytes its changes take on the wire."""
        return sum(change.size for change in self.changes)


def visible_state(ready: bool, draining: bool, suspect: bool) -> State:
    """What gateways are told: a wish for no calls outranks the doubt of a missed beat, which leaves it in use."""
    if draining:
        return State.DRAINING
    if not ready:
        return State.NOT_READY
    return State.SUSPECT if suspect else State.READY
