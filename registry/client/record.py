"""What an instance says of itself, and what the registry granted it: plain values, and their wire form."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshway.registry.v1 import registry_pb2 as pb


@dataclass(frozen=True)
class InstanceRecord:
    """The record of one instance. Addresses are in order of preference; ``weight`` 0 means no calls."""

    namespace: str
    service: str
    instance_id: str
    addresses: tuple[str, ...]
    grpc_services: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    weight: int = 1
    descriptor_set: bytes = b""

    def __str__(self) -> str:
        return f"{self.service}/{self.instance_id}"

    def spec(self) -> pb.InstanceSpec:
        """The record as the registry takes it; TypeError or ValueError if a value does not fit its field."""
        return pb.InstanceSpec(
            namespace=self.namespace,
            service=self.service,
            instance_id=self.instance_id,
            addresses=self.addresses,
            grpc_services=self.grpc_services,
            labels=dict(self.labels),
            weight=self.weight,
            descriptor_set=self.descriptor_set,
        )


@dataclass(frozen=True)
class Grant:
    """A lease as granted. Times are seconds; ``lease_id`` is a secret: whoever has it can end the lease."""

    lease_id: bytes
    incarnation: int
    ttl: float
    interval: float
    epoch: bytes
    revision: int

    @classmethod
    def of(cls, response: pb.RegisterResponse) -> "Grant":
        """The grant in the registry's answer."""
        return cls(
            lease_id=response.lease_id,
            incarnation=response.incarnation,
            ttl=response.granted_ttl_ms / 1000,
            interval=response.heartbeat_interval_ms / 1000,
            epoch=response.revision.epoch,
            revision=response.revision.number,
        )
