"""From the registry's values to the messages of ``meshway.registry.v1``. Holds no rules."""

from collections.abc import Sequence

from meshway.registry.v1 import registry_pb2 as pb

from registry.engine import Engine
from registry.model import Change, LeaseEnd, Record, RemovalReason, ServiceKey, State
from registry.requests import BeatReply
from registry.watch import DeltaEvent, Event, ProgressEvent, ResetEvent, ResetReason, SnapshotDone, SnapshotPart

_STATUS_OF_END = {
    LeaseEnd.UNKNOWN: pb.LEASE_STATUS_UNKNOWN,
    LeaseEnd.DEREGISTERED: pb.LEASE_STATUS_UNKNOWN,
    LeaseEnd.EXPIRED: pb.LEASE_STATUS_EXPIRED,
    LeaseEnd.SUPERSEDED: pb.LEASE_STATUS_SUPERSEDED,
}
_STATES = {
    State.READY: pb.INSTANCE_STATE_READY,
    State.NOT_READY: pb.INSTANCE_STATE_NOT_READY,
    State.DRAINING: pb.INSTANCE_STATE_DRAINING,
    State.SUSPECT: pb.INSTANCE_STATE_SUSPECT,
}
_REMOVALS = {
    RemovalReason.DEREGISTERED: pb.REMOVAL_REASON_DEREGISTERED,
    RemovalReason.EXPIRED: pb.REMOVAL_REASON_EXPIRED,
    None: pb.REMOVAL_REASON_UNSPECIFIED,
}
_RESETS = {
    ResetReason.COMPACTED: pb.RESET_REASON_COMPACTED,
    ResetReason.FUTURE: pb.RESET_REASON_FUTURE,
    ResetReason.FOREIGN_EPOCH: pb.RESET_REASON_FOREIGN_EPOCH,
}
# Who deregistered wanted to leave, and who was superseded must not come back.
_COMES_BACK = (LeaseEnd.UNKNOWN, LeaseEnd.EXPIRED)


def revision(engine: Engine, number: int | None = None) -> pb.Revision:
    """A revision with its epoch; the newest one by default."""
    return pb.Revision(epoch=engine.catalog.epoch, number=engine.catalog.revision if number is None else number)


def instance(record: Record, now: float) -> pb.Instance:
    """What the registry says of an instance at lease time ``now``."""
    spec = record.spec
    left = 0 if record.drain_until is None else max(0, int((record.drain_until - now) * 1000.0))
    return pb.Instance(
        namespace=spec.name.namespace,
        service=spec.name.service,
        instance_id=spec.name.instance_id,
        addresses=spec.addresses,
        grpc_services=spec.grpc_services,
        labels=dict(spec.labels),
        weight=spec.weight,
        incarnation=record.incarnation,
        state=_STATES[record.state],
        not_ready_reason=record.not_ready_reason,
        revision=record.revision,
        descriptor_digest=spec.descriptor_digest,
        granted_ttl_ms=record.ttl_ms,
        drain_remaining_ms=left,
    )


def beat_result(reply: BeatReply) -> pb.BeatResult:
    """What became of one beat."""
    if reply.end is not None:
        directive = pb.DIRECTIVE_REREGISTER if reply.end in _COMES_BACK else pb.DIRECTIVE_UNSPECIFIED
        return pb.BeatResult(lease_id=reply.lease_id, status=_STATUS_OF_END[reply.end], directive=directive)
    return pb.BeatResult(
        lease_id=reply.lease_id,
        status=pb.LEASE_STATUS_OK,
        remaining_ms=reply.remaining_ms,
        heartbeat_interval_ms=reply.interval_ms,
        directive=pb.DIRECTIVE_DRAIN if reply.draining else pb.DIRECTIVE_UNSPECIFIED,
    )


def foreign_beat_result(lease_id: bytes) -> pb.BeatResult:
    """The answer to a beat for a lease of another epoch."""
    return pb.BeatResult(lease_id=lease_id, status=pb.LEASE_STATUS_UNKNOWN_EPOCH, directive=pb.DIRECTIVE_REREGISTER)


def resolved(records: Sequence[Record], engine: Engine, last_seen_ms_ago: int) -> pb.ResolveResponse:
    """The instances of a service, by state."""
    now = engine.now()
    by_state: dict[State, list[pb.Instance]] = {state: [] for state in State}
    for record in records:
        by_state[record.state].append(instance(record, now))
    return pb.ResolveResponse(
        ready=by_state[State.READY],
        draining=by_state[State.DRAINING],
        suspect=by_state[State.SUSPECT],
        not_ready=by_state[State.NOT_READY],
        revision=revision(engine),
        warming=engine.warming,
        last_seen_ms_ago=last_seen_ms_ago,
    )


def summary(key: ServiceKey, records: Sequence[Record]) -> pb.ServiceSummary:
    """A service with its counts, and what its instances serve."""
    states = [record.state for record in records]
    return pb.ServiceSummary(
        namespace=key.namespace,
        service=key.service,
        ready=states.count(State.READY),
        not_ready=states.count(State.NOT_READY),
        draining=states.count(State.DRAINING),
        suspect=states.count(State.SUSPECT),
        grpc_services=sorted({name for record in records for name in record.spec.grpc_services}),
    )


def watch_response(event: Event, engine: Engine) -> pb.WatchResponse:
    """One message of a watch stream."""
    if isinstance(event, DeltaEvent):
        return pb.WatchResponse(delta=_delta(event, engine.now()))
    if isinstance(event, ProgressEvent):
        progress = pb.Progress(revision=revision(engine, event.revision), warming=engine.warming)
        return pb.WatchResponse(progress=progress)
    if isinstance(event, SnapshotPart):
        now = engine.now()
        chunk = pb.SnapshotChunk(instances=[instance(record, now) for record in event.records])
        return pb.WatchResponse(snapshot=chunk)
    if isinstance(event, SnapshotDone):
        return pb.WatchResponse(snapshot_end=_snapshot_end(event, engine))
    return pb.WatchResponse(reset=pb.Reset(reason=_RESETS[event.reason]))


def changing_with_time(event: Event) -> bool:
    """Whether the message would be another one later: a drain's remaining time, the end of warming."""
    if isinstance(event, DeltaEvent):
        return any(change.record is not None and change.record.drain_until is not None for change in event.changes)
    if isinstance(event, SnapshotPart):
        return any(record.drain_until is not None for record in event.records)
    return not isinstance(event, ResetEvent)


def _snapshot_end(event: SnapshotDone, engine: Engine) -> pb.SnapshotEnd:
    return pb.SnapshotEnd(
        revision=revision(engine, event.revision),
        warming=engine.warming,
        known_services=[f"{key.namespace}/{key.service}" for key in event.known_services],
    )


def _delta(event: DeltaEvent, now: float) -> pb.Delta:
    return pb.Delta(
        prev_revision=event.prev_revision,
        revision=event.revision,
        upserts=[instance(change.record, now) for change in event.changes if change.record is not None],
        removals=[_removal(change) for change in event.changes if change.record is None],
    )


def _removal(change: Change) -> pb.Removal:
    return pb.Removal(
        namespace=change.name.namespace,
        service=change.name.service,
        instance_id=change.name.instance_id,
        incarnation=change.incarnation,
        reason=_REMOVALS[change.reason],
    )
