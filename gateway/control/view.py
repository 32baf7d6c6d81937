"""What a source of discovery knows of the mesh, in plain values: the input of the publisher."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class InstanceView:
    """One instance of a service, as its source lists it. Addresses are in order of preference."""

    service: str
    instance_id: str
    addresses: tuple[str, ...]
    grpc_services: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    weight: int = 1
    incarnation: int = 0
    ready: bool = True
    draining: bool = False
    descriptor_digest: str = ""


@dataclass(frozen=True)
class MeshView:
    """Everything a source lists. ``synced`` is false until its first complete answer."""

    instances: tuple[InstanceView, ...] = ()
    known_services: frozenset[str] = frozenset()  # also those without an instance now
    synced: bool = False
