from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LeaseStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEASE_STATUS_UNSPECIFIED: _ClassVar[LeaseStatus]
    LEASE_STATUS_OK: _ClassVar[LeaseStatus]
    LEASE_STATUS_UNKNOWN: _ClassVar[LeaseStatus]
    LEASE_STATUS_EXPIRED: _ClassVar[LeaseStatus]
    LEASE_STATUS_UNKNOWN_EPOCH: _ClassVar[LeaseStatus]
    LEASE_STATUS_SUPERSEDED: _ClassVar[LeaseStatus]

class Directive(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIRECTIVE_UNSPECIFIED: _ClassVar[Directive]
    DIRECTIVE_DRAIN: _ClassVar[Directive]
    DIRECTIVE_REREGISTER: _ClassVar[Directive]

class InstanceState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INSTANCE_STATE_UNSPECIFIED: _ClassVar[InstanceState]
    INSTANCE_STATE_READY: _ClassVar[InstanceState]
    INSTANCE_STATE_NOT_READY: _ClassVar[InstanceState]
    INSTANCE_STATE_DRAINING: _ClassVar[InstanceState]
    INSTANCE_STATE_SUSPECT: _ClassVar[InstanceState]

class RemovalReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REMOVAL_REASON_UNSPECIFIED: _ClassVar[RemovalReason]
    REMOVAL_REASON_DEREGISTERED: _ClassVar[RemovalReason]
    REMOVAL_REASON_EXPIRED: _ClassVar[RemovalReason]
    REMOVAL_REASON_SUPERSEDED: _ClassVar[RemovalReason]
    REMOVAL_REASON_OPERATOR: _ClassVar[RemovalReason]

class ResetReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESET_REASON_UNSPECIFIED: _ClassVar[ResetReason]
    RESET_REASON_COMPACTED: _ClassVar[ResetReason]
    RESET_REASON_FUTURE: _ClassVar[ResetReason]
    RESET_REASON_FOREIGN_EPOCH: _ClassVar[ResetReason]
LEASE_STATUS_UNSPECIFIED: LeaseStatus
LEASE_STATUS_OK: LeaseStatus
LEASE_STATUS_UNKNOWN: LeaseStatus
LEASE_STATUS_EXPIRED: LeaseStatus
LEASE_STATUS_UNKNOWN_EPOCH: LeaseStatus
LEASE_STATUS_SUPERSEDED: LeaseStatus
DIRECTIVE_UNSPECIFIED: Directive
DIRECTIVE_DRAIN: Directive
DIRECTIVE_REREGISTER: Directive
INSTANCE_STATE_UNSPECIFIED: InstanceState
INSTANCE_STATE_READY: InstanceState
INSTANCE_STATE_NOT_READY: InstanceState
INSTANCE_STATE_DRAINING: InstanceState
INSTANCE_STATE_SUSPECT: InstanceState
REMOVAL_REASON_UNSPECIFIED: RemovalReason
REMOVAL_REASON_DEREGISTERED: RemovalReason
REMOVAL_REASON_EXPIRED: RemovalReason
REMOVAL_REASON_SUPERSEDED: RemovalReason
REMOVAL_REASON_OPERATOR: RemovalReason
RESET_REASON_UNSPECIFIED: ResetReason
RESET_REASON_COMPACTED: ResetReason
RESET_REASON_FUTURE: ResetReason
RESET_REASON_FOREIGN_EPOCH: ResetReason

class InstanceSpec(_message.Message):
    __slots__ = ("namespace", "service", "instance_id", "addresses", "grpc_services", "labels", "weight", "descriptor_set")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    GRPC_SERVICES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_SET_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    service: str
    instance_id: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    grpc_services: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    weight: int
    descriptor_set: bytes
    def __init__(self, namespace: _Optional[str] = ..., service: _Optional[str] = ..., instance_id: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ..., grpc_services: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., weight: _Optional[int] = ..., descriptor_set: _Optional[bytes] = ...) -> None: ...

class Revision(_message.Message):
    __slots__ = ("epoch", "number")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    epoch: bytes
    number: int
    def __init__(self, epoch: _Optional[bytes] = ..., number: _Optional[int] = ...) -> None: ...

class RegisterRequest(_message.Message):
    __slots__ = ("instance", "boot_id", "ttl_ms", "ready", "not_ready_reason", "request_id")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    NOT_READY_REASON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    instance: InstanceSpec
    boot_id: bytes
    ttl_ms: int
    ready: bool
    not_ready_reason: str
    request_id: str
    def __init__(self, instance: _Optional[_Union[InstanceSpec, _Mapping]] = ..., boot_id: _Optional[bytes] = ..., ttl_ms: _Optional[int] = ..., ready: _Optional[bool] = ..., not_ready_reason: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RegisterResponse(_message.Message):
    __slots__ = ("lease_id", "incarnation", "granted_ttl_ms", "heartbeat_interval_ms", "revision", "ttl_clamped")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    GRANTED_TTL_MS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TTL_CLAMPED_FIELD_NUMBER: _ClassVar[int]
    lease_id: bytes
    incarnation: int
    granted_ttl_ms: int
    heartbeat_interval_ms: int
    revision: Revision
    ttl_clamped: bool
    def __init__(self, lease_id: _Optional[bytes] = ..., incarnation: _Optional[int] = ..., granted_ttl_ms: _Optional[int] = ..., heartbeat_interval_ms: _Optional[int] = ..., revision: _Optional[_Union[Revision, _Mapping]] = ..., ttl_clamped: _Optional[bool] = ...) -> None: ...

class Beat(_message.Message):
    __slots__ = ("lease_id", "ready", "not_ready_reason")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    NOT_READY_REASON_FIELD_NUMBER: _ClassVar[int]
    lease_id: bytes
    ready: bool
    not_ready_reason: str
    def __init__(self, lease_id: _Optional[bytes] = ..., ready: _Optional[bool] = ..., not_ready_reason: _Optional[str] = ...) -> None: ...

class KeepAliveRequest(_message.Message):
    __slots__ = ("beats", "epoch")
    BEATS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    beats: _containers.RepeatedCompositeFieldContainer[Beat]
    epoch: bytes
    def __init__(self, beats: _Optional[_Iterable[_Union[Beat, _Mapping]]] = ..., epoch: _Optional[bytes] = ...) -> None: ...

class BeatResult(_message.Message):
    __slots__ = ("lease_id", "status", "remaining_ms", "heartbeat_interval_ms", "directive")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REMAINING_MS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    DIRECTIVE_FIELD_NUMBER: _ClassVar[int]
    lease_id: bytes
    status: LeaseStatus
    remaining_ms: int
    heartbeat_interval_ms: int
    directive: Directive
    def __init__(self, lease_id: _Optional[bytes] = ..., status: _Optional[_Union[LeaseStatus, str]] = ..., remaining_ms: _Optional[int] = ..., heartbeat_interval_ms: _Optional[int] = ..., directive: _Optional[_Union[Directive, str]] = ...) -> None: ...

class KeepAliveResponse(_message.Message):
    __slots__ = ("results", "revision")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[BeatResult]
    revision: Revision
    def __init__(self, results: _Optional[_Iterable[_Union[BeatResult, _Mapping]]] = ..., revision: _Optional[_Union[Revision, _Mapping]] = ...) -> None: ...

class UpdateRequest(_message.Message):
    __slots__ = ("lease_id", "fields", "instance", "ready", "not_ready_reason", "if_revision")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    NOT_READY_REASON_FIELD_NUMBER: _ClassVar[int]
    IF_REVISION_FIELD_NUMBER: _ClassVar[int]
    lease_id: bytes
    fields: _containers.RepeatedScalarFieldContainer[str]
    instance: InstanceSpec
    ready: bool
    not_ready_reason: str
    if_revision: int
    def __init__(self, lease_id: _Optional[bytes] = ..., fields: _Optional[_Iterable[str]] = ..., instance: _Optional[_Union[InstanceSpec, _Mapping]] = ..., ready: _Optional[bool] = ..., not_ready_reason: _Optional[str] = ..., if_revision: _Optional[int] = ...) -> None: ...

class UpdateResponse(_message.Message):
    __slots__ = ("revision", "changed")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    revision: Revision
    changed: bool
    def __init__(self, revision: _Optional[_Union[Revision, _Mapping]] = ..., changed: _Optional[bool] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("lease_id", "deadline_ms")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    lease_id: bytes
    deadline_ms: int
    def __init__(self, lease_id: _Optional[bytes] = ..., deadline_ms: _Optional[int] = ...) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("revision", "deadline_ms")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    revision: Revision
    deadline_ms: int
    def __init__(self, revision: _Optional[_Union[Revision, _Mapping]] = ..., deadline_ms: _Optional[int] = ...) -> None: ...

class DeregisterRequest(_message.Message):
    __slots__ = ("lease_id",)
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: bytes
    def __init__(self, lease_id: _Optional[bytes] = ...) -> None: ...

class DeregisterResponse(_message.Message):
    __slots__ = ("already_gone", "revision")
    ALREADY_GONE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    already_gone: bool
    revision: Revision
    def __init__(self, already_gone: _Optional[bool] = ..., revision: _Optional[_Union[Revision, _Mapping]] = ...) -> None: ...

class Instance(_message.Message):
    __slots__ = ("namespace", "service", "instance_id", "addresses", "grpc_services", "labels", "weight", "incarnation", "state", "not_ready_reason", "revision", "descriptor_digest", "granted_ttl_ms", "drain_remaining_ms")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    GRPC_SERVICES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    NOT_READY_REASON_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_DIGEST_FIELD_NUMBER: _ClassVar[int]
    GRANTED_TTL_MS_FIELD_NUMBER: _ClassVar[int]
    DRAIN_REMAINING_MS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    service: str
    instance_id: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    grpc_services: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    weight: int
    incarnation: int
    state: InstanceState
    not_ready_reason: str
    revision: int
    descriptor_digest: str
    granted_ttl_ms: int
    drain_remaining_ms: int
    def __init__(self, namespace: _Optional[str] = ..., service: _Optional[str] = ..., instance_id: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ..., grpc_services: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., weight: _Optional[int] = ..., incarnation: _Optional[int] = ..., state: _Optional[_Union[InstanceState, str]] = ..., not_ready_reason: _Optional[str] = ..., revision: _Optional[int] = ..., descriptor_digest: _Optional[str] = ..., granted_ttl_ms: _Optional[int] = ..., drain_remaining_ms: _Optional[int] = ...) -> None: ...

class ResolveRequest(_message.Message):
    __slots__ = ("namespace", "service", "min_revision")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    MIN_REVISION_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    service: str
    min_revision: int
    def __init__(self, namespace: _Optional[str] = ..., service: _Optional[str] = ..., min_revision: _Optional[int] = ...) -> None: ...

class ResolveResponse(_message.Message):
    __slots__ = ("ready", "draining", "suspect", "not_ready", "revision", "warming", "last_seen_ms_ago")
    READY_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    SUSPECT_FIELD_NUMBER: _ClassVar[int]
    NOT_READY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    WARMING_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_MS_AGO_FIELD_NUMBER: _ClassVar[int]
    ready: _containers.RepeatedCompositeFieldContainer[Instance]
    draining: _containers.RepeatedCompositeFieldContainer[Instance]
    suspect: _containers.RepeatedCompositeFieldContainer[Instance]
    not_ready: _containers.RepeatedCompositeFieldContainer[Instance]
    revision: Revision
    warming: bool
    last_seen_ms_ago: int
    def __init__(self, ready: _Optional[_Iterable[_Union[Instance, _Mapping]]] = ..., draining: _Optional[_Iterable[_Union[Instance, _Mapping]]] = ..., suspect: _Optional[_Iterable[_Union[Instance, _Mapping]]] = ..., not_ready: _Optional[_Iterable[_Union[Instance, _Mapping]]] = ..., revision: _Optional[_Union[Revision, _Mapping]] = ..., warming: _Optional[bool] = ..., last_seen_ms_ago: _Optional[int] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("namespace", "services", "resume")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    services: _containers.RepeatedScalarFieldContainer[str]
    resume: Revision
    def __init__(self, namespace: _Optional[str] = ..., services: _Optional[_Iterable[str]] = ..., resume: _Optional[_Union[Revision, _Mapping]] = ...) -> None: ...

class Removal(_message.Message):
    __slots__ = ("namespace", "service", "instance_id", "incarnation", "reason")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    service: str
    instance_id: str
    incarnation: int
    reason: RemovalReason
    def __init__(self, namespace: _Optional[str] = ..., service: _Optional[str] = ..., instance_id: _Optional[str] = ..., incarnation: _Optional[int] = ..., reason: _Optional[_Union[RemovalReason, str]] = ...) -> None: ...

class SnapshotChunk(_message.Message):
    __slots__ = ("instances",)
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedCompositeFieldContainer[Instance]
    def __init__(self, instances: _Optional[_Iterable[_Union[Instance, _Mapping]]] = ...) -> None: ...

class SnapshotEnd(_message.Message):
    __slots__ = ("revision", "warming", "known_services")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    WARMING_FIELD_NUMBER: _ClassVar[int]
    KNOWN_SERVICES_FIELD_NUMBER: _ClassVar[int]
    revision: Revision
    warming: bool
    known_services: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, revision: _Optional[_Union[Revision, _Mapping]] = ..., warming: _Optional[bool] = ..., known_services: _Optional[_Iterable[str]] = ...) -> None: ...

class Delta(_message.Message):
    __slots__ = ("prev_revision", "revision", "upserts", "removals")
    PREV_REVISION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    UPSERTS_FIELD_NUMBER: _ClassVar[int]
    REMOVALS_FIELD_NUMBER: _ClassVar[int]
    prev_revision: int
    revision: int
    upserts: _containers.RepeatedCompositeFieldContainer[Instance]
    removals: _containers.RepeatedCompositeFieldContainer[Removal]
    def __init__(self, prev_revision: _Optional[int] = ..., revision: _Optional[int] = ..., upserts: _Optional[_Iterable[_Union[Instance, _Mapping]]] = ..., removals: _Optional[_Iterable[_Union[Removal, _Mapping]]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("revision", "warming")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    WARMING_FIELD_NUMBER: _ClassVar[int]
    revision: Revision
    warming: bool
    def __init__(self, revision: _Optional[_Union[Revision, _Mapping]] = ..., warming: _Optional[bool] = ...) -> None: ...

class Reset(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: ResetReason
    def __init__(self, reason: _Optional[_Union[ResetReason, str]] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("snapshot", "snapshot_end", "delta", "progress", "reset")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_END_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    snapshot: SnapshotChunk
    snapshot_end: SnapshotEnd
    delta: Delta
    progress: Progress
    reset: Reset
    def __init__(self, snapshot: _Optional[_Union[SnapshotChunk, _Mapping]] = ..., snapshot_end: _Optional[_Union[SnapshotEnd, _Mapping]] = ..., delta: _Optional[_Union[Delta, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., reset: _Optional[_Union[Reset, _Mapping]] = ...) -> None: ...

class ListServicesRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    def __init__(self, namespace: _Optional[str] = ...) -> None: ...

class ServiceSummary(_message.Message):
    __slots__ = ("namespace", "service", "ready", "not_ready", "draining", "suspect", "grpc_services")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    NOT_READY_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    SUSPECT_FIELD_NUMBER: _ClassVar[int]
    GRPC_SERVICES_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    service: str
    ready: int
    not_ready: int
    draining: int
    suspect: int
    grpc_services: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, namespace: _Optional[str] = ..., service: _Optional[str] = ..., ready: _Optional[int] = ..., not_ready: _Optional[int] = ..., draining: _Optional[int] = ..., suspect: _Optional[int] = ..., grpc_services: _Optional[_Iterable[str]] = ...) -> None: ...

class ListServicesResponse(_message.Message):
    __slots__ = ("services", "revision")
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    services: _containers.RepeatedCompositeFieldContainer[ServiceSummary]
    revision: Revision
    def __init__(self, services: _Optional[_Iterable[_Union[ServiceSummary, _Mapping]]] = ..., revision: _Optional[_Union[Revision, _Mapping]] = ...) -> None: ...

class GetDescriptorSetRequest(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    def __init__(self, digest: _Optional[str] = ...) -> None: ...

class GetDescriptorSetResponse(_message.Message):
    __slots__ = ("descriptor_set",)
    DESCRIPTOR_SET_FIELD_NUMBER: _ClassVar[int]
    descriptor_set: bytes
    def __init__(self, descriptor_set: _Optional[bytes] = ...) -> None: ...
