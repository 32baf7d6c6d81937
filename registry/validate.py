"""Input rules: every request is checked field by field and becomes a plain value, or a refusal that names the field."""

import re
from collections.abc import Iterable, Mapping

from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError
from meshway.registry.v1 import registry_pb2 as pb

from registry.addresses import check_address
from registry.catalog import Scope
from registry.descriptors import MAX_DESCRIPTOR_SET_BYTES, digest_of
from registry.errors import invalid, shown
from registry.model import DEFAULT_NAMESPACE, ID_BYTES, Name, ServiceKey, Spec
from registry.requests import Beat, Patch, Registration
from registry.rules import DEFAULT_DRAIN_MS

MAX_SERVICE_CHARACTERS = 253
MAX_INSTANCE_ID_CHARACTERS = 128
MAX_ADDRESSES = 8
MAX_GRPC_SERVICES = 256  # what one process serves is far less
MAX_LABELS = 64
MAX_LABEL_BYTES = 16 * 1024  # all keys and values together
MAX_WEIGHT = 65_535
MAX_REASON_CHARACTERS = 1024
MAX_REQUEST_ID_CHARACTERS = 128
MAX_BEATS = 1000
MAX_WATCHED_SERVICES = 64

UPDATABLE = ("ready", "weight", "labels", "addresses", "grpc_services", "descriptor_set")

_NAME = re.compile(r"[A-Za-z0-9._:-]+")
_GRPC_SERVICE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def registration(request: pb.RegisterRequest, peer_is_local: bool) -> Registration:
    """A wish for a lease."""
    if len(request.boot_id) != ID_BYTES:
        raise invalid("boot_id", f"{len(request.boot_id)} bytes; it must be {ID_BYTES} random ones for each start")
    if request.HasField("ttl_ms") and request.ttl_ms <= 0:
        raise invalid("ttl_ms", f"{request.ttl_ms} is no lifetime; leave it out for the default")
    _check_length("request_id", request.request_id, MAX_REQUEST_ID_CHARACTERS)
    return Registration(
        spec=_spec(request.instance, peer_is_local),
        boot_id=request.boot_id,
        descriptor_set=request.instance.descriptor_set,
        ttl_ms=request.ttl_ms if request.HasField("ttl_ms") else None,
        ready=request.ready if request.HasField("ready") else True,
        not_ready_reason=_reason("not_ready_reason", request.not_ready_reason),
    )


def beats(request: pb.KeepAliveRequest) -> list[Beat]:
    """The beats of one message. Lease ids are not checked here: a malformed one is simply not known."""
    if len(request.beats) > MAX_BEATS:
        raise invalid("beats", f"{len(request.beats)} in one message; send at most {MAX_BEATS}")
    return [
        Beat(
            beat.lease_id,
            beat.ready if beat.HasField("ready") else None,
            _reason(f"beats[{index}].not_ready_reason", beat.not_ready_reason),
        )
        for index, beat in enumerate(request.beats)
    ]


def patch(request: pb.UpdateRequest, peer_is_local: bool) -> Patch:
    """A change of a record: the named fields only."""
    if not request.fields:
        raise invalid("fields", f"names nothing to change; choose from {', '.join(UPDATABLE)}")
    for index, field in enumerate(request.fields):
        if field not in UPDATABLE:
            raise invalid(f"fields[{index}]", f"{shown(field)} cannot be changed; choose from {', '.join(UPDATABLE)}")
    wanted = frozenset(request.fields)
    instance = request.instance
    descriptor_set = _descriptor_set(instance.descriptor_set) if "descriptor_set" in wanted else None
    return Patch(
        lease_id=request.lease_id,
        addresses=_addresses(instance.addresses, peer_is_local) if "addresses" in wanted else None,
        grpc_services=_grpc_services(instance.grpc_services) if "grpc_services" in wanted else None,
        labels=_labels(instance.labels) if "labels" in wanted else None,
        weight=_weight(instance) if "weight" in wanted else None,
        descriptor_set=descriptor_set,
        descriptor_digest=digest_of(descriptor_set or b""),
        ready=request.ready if "ready" in wanted else None,
        not_ready_reason=_reason("not_ready_reason", request.not_ready_reason),
        if_revision=request.if_revision if request.HasField("if_revision") else None,
    )


def drain_deadline_ms(request: pb.DrainRequest) -> int:
    """How long open calls may take."""
    if not request.HasField("deadline_ms"):
        return DEFAULT_DRAIN_MS
    if request.deadline_ms < 0:
        raise invalid("deadline_ms", f"{request.deadline_ms} is in the past; it counts from now")
    return request.deadline_ms


def namespace(value: str) -> str:
    """A namespace; empty means the default one."""
    return _name("namespace", value or DEFAULT_NAMESPACE, MAX_SERVICE_CHARACTERS)


def resolve_key(request: pb.ResolveRequest) -> ServiceKey:
    """The service to resolve."""
    if request.HasField("min_revision") and request.min_revision < 0:
        raise invalid("min_revision", f"{request.min_revision} is no revision; they count from 0")
    return ServiceKey(namespace(request.namespace), _name("service", request.service, MAX_SERVICE_CHARACTERS))


def watch_scope(request: pb.WatchRequest) -> Scope:
    """What a watcher wants to hear of."""
    if len(request.services) > MAX_WATCHED_SERVICES:
        raise invalid("services", f"{len(request.services)}; name at most {MAX_WATCHED_SERVICES}, or none for all")
    services = frozenset(
        _name(f"services[{index}]", service, MAX_SERVICE_CHARACTERS) for index, service in enumerate(request.services)
    )
    return Scope(namespace(request.namespace), services)


def watch_resume(request: pb.WatchRequest) -> tuple[bytes, int] | None:
    """Where a watcher goes on from, as (epoch, revision). Whether that is possible is not decided here."""
    if not request.HasField("resume"):
        return None
    if request.resume.number < 0:
        raise invalid("resume.number", f"{request.resume.number} is no revision; they count from 0")
    return request.resume.epoch, request.resume.number


def descriptor_digest(request: pb.GetDescriptorSetRequest) -> str:
    """The digest of a descriptor set."""
    if not _DIGEST.fullmatch(request.digest):
        raise invalid("digest", "is not a SHA-256 in lower-case hexadecimal; take it from Instance.descriptor_digest")
    return request.digest


def _spec(instance: pb.InstanceSpec, peer_is_local: bool) -> Spec:
    name = Name(
        _name("instance.namespace", instance.namespace or DEFAULT_NAMESPACE, MAX_SERVICE_CHARACTERS),
        _name("instance.service", instance.service, MAX_SERVICE_CHARACTERS),
        _name("instance.instance_id", instance.instance_id, MAX_INSTANCE_ID_CHARACTERS),
    )
    return Spec(
        name=name,
        addresses=_addresses(instance.addresses, peer_is_local),
        grpc_services=_grpc_services(instance.grpc_services),
        labels=_labels(instance.labels),
        weight=_weight(instance),
        descriptor_digest=digest_of(_descriptor_set(instance.descriptor_set)),
    )


def _name(field: str, value: str, limit: int) -> str:
    _check_length(field, value, limit)
    if not _NAME.fullmatch(value):
        raise invalid(field, f"{shown(value)} must be 1 to {limit} characters of A-Z a-z 0-9 . _ : -")
    return value


def _addresses(addresses: Iterable[str], peer_is_local: bool) -> tuple[str, ...]:
    distinct = tuple(dict.fromkeys(addresses))
    if not 1 <= len(distinct) <= MAX_ADDRESSES:
        raise invalid("instance.addresses", f"{len(distinct)}; give 1 to {MAX_ADDRESSES}, in order of preference")
    for index, address in enumerate(distinct):
        check_address(address, f"instance.addresses[{index}]", peer_is_local)
    return distinct


def _grpc_services(services: Iterable[str]) -> tuple[str, ...]:
    distinct = tuple(dict.fromkeys(services))
    if len(distinct) > MAX_GRPC_SERVICES:
        raise invalid("instance.grpc_services", f"{len(distinct)}; give at most {MAX_GRPC_SERVICES}")
    for index, service in enumerate(distinct):
        field = f"instance.grpc_services[{index}]"
        _check_length(field, service, MAX_SERVICE_CHARACTERS)
        if not _GRPC_SERVICE.fullmatch(service):
            raise invalid(field, f'{shown(service)} is no full name of a gRPC service, like "pkg.Service"')
    return distinct


def _labels(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    if len(labels) > MAX_LABELS:
        raise invalid("instance.labels", f"{len(labels)} pairs; give at most {MAX_LABELS}")
    if "" in labels:
        raise invalid("instance.labels", "a key is empty")
    pairs = tuple(sorted(labels.items()))
    size = sum(len(key.encode()) + len(value.encode()) for key, value in pairs)
    if size > MAX_LABEL_BYTES:
        raise invalid("instance.labels", f"{size} bytes; keys and values may be {MAX_LABEL_BYTES} together")
    return pairs


def _weight(instance: pb.InstanceSpec) -> int:
    weight = instance.weight if instance.HasField("weight") else 1
    if weight > MAX_WEIGHT:
        raise invalid("instance.weight", f"{weight}; it must be 0 to {MAX_WEIGHT}")
    return weight


def _descriptor_set(serialized: bytes) -> bytes:
    field = "instance.descriptor_set"
    if len(serialized) > MAX_DESCRIPTOR_SET_BYTES:
        raise invalid(field, f"{len(serialized)} bytes; it may be {MAX_DESCRIPTOR_SET_BYTES}")
    if serialized:
        try:
            parsed = descriptor_pb2.FileDescriptorSet.FromString(serialized)
        except DecodeError:
            raise invalid(field, "is no serialized google.protobuf.FileDescriptorSet") from None
        if not parsed.file:
            raise invalid(field, "describes no file; leave it out, or give a FileDescriptorSet")
    return serialized


def _reason(field: str, text: str) -> str:
    _check_length(field, text, MAX_REASON_CHARACTERS)
    return text


def _check_length(field: str, text: str, limit: int) -> None:
    if len(text) > limit:
        raise invalid(field, f"{len(text)} characters; it may have {limit}")
