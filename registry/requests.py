"""What the registry is asked and what it answers, as validated values. ``rules.py`` decides over them."""

from dataclasses import dataclass

from registry.model import LeaseEnd, Spec


@dataclass(frozen=True)
class Registration:
    """A validated wish for a lease. ``ttl_ms`` is None for the default."""

    spec: Spec
    boot_id: bytes
    descriptor_set: bytes = b""
    ttl_ms: int | None = None
    ready: bool = True
    not_ready_reason: str = ""


@dataclass(frozen=True)
class Granted:
    """The lease that a registration got or already had."""

    lease_id: bytes
    incarnation: int
    ttl_ms: int
    interval_ms: int
    clamped: bool


@dataclass(frozen=True)
class Beat:
    """A sign of life; ``ready`` None leaves readiness as it is."""

    lease_id: bytes
    ready: bool | None = None
    not_ready_reason: str = ""


@dataclass(frozen=True)
class BeatReply:
    """What became of a beat. ``end`` is None for a living lease; the rest means something only then."""

    lease_id: bytes
    end: LeaseEnd | None
    remaining_ms: int = 0
    interval_ms: int = 0
    draining: bool = False


@dataclass(frozen=True)
class Patch:
    """A validated change of a record; None leaves a field as it is. ``if_revision`` None is unconditional."""

    lease_id: bytes
    addresses: tuple[str, ...] | None = None
    grpc_services: tuple[str, ...] | None = None
    labels: tuple[tuple[str, str], ...] | None = None
    weight: int | None = None
    descriptor_set: bytes | None = None
    descriptor_digest: str = ""
    ready: bool | None = None
    not_ready_reason: str = ""
    if_revision: int | None = None
