"""What the registry decides: who gets a lease, who takes a name over, what a beat changes, who has to leave.

Pure: ``now`` (lease time) is passed in, ids and randomness come from the outside. A decision returns the batch that
makes it true, or None when nothing changes; ``apply`` is the one place where a committed batch takes effect.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from registry.catalog import Catalog
from registry.descriptors import DescriptorSets
from registry.errors import Reason, RegistryError
from registry.leases import (
    CONFLICT_HOLD_SECONDS,
    CONFLICT_TAKEOVERS,
    CONFLICT_WINDOW_SECONDS,
    MAX_TAKEOVERS_KEPT,
    Due,
    Lease,
    LeaseTable,
    Takeover,
    TokenBucket,
)
from registry.model import (
    Batch,
    Change,
    LeaseEnd,
    Name,
    Record,
    RemovalReason,
    Spec,
    visible_state,
)
from registry.requests import Beat, BeatReply, Granted, Patch, Registration

DEFAULT_TTL_MS = 15_000
MIN_TTL_MS = 3_000
MAX_TTL_MS = 300_000
BEATS_PER_TERM = 3  # two may be lost before the third is too late
INTERVAL_JITTER = 0.1  # taken off the interval, so that instances that start together drift apart

DEFAULT_DRAIN_MS = 30_000
MAX_DRAIN_MS = 3_600_000  # longer than any call worth waiting for; more is shortened, and the reply says so

MAX_LEASES = 100_000
MAX_LEASES_PER_SERVICE = 10_000

FLAPPING = "flapping: readiness changed more than 5 times in a minute, so it is held not ready"


class Rules:
    """Decides over catalog, leases and descriptor sets. ``new_id`` mints 16 random bytes, unlike any before."""

    def __init__(
        self,
        catalog: Catalog,
        rng: random.Random,
        new_id: Callable[[], bytes],
        min_ttl_ms: int = MIN_TTL_MS,
        max_ttl_ms: int = MAX_TTL_MS,
    ) -> None:
        self.catalog = catalog
        self.leases = LeaseTable()
        self.descriptors = DescriptorSets()
        self.identity_conflicts = 0  # registrations refused because two boots fight for one name
        self._rng = rng
        self._new_id = new_id
        self._min_ttl_ms = min_ttl_ms
        self._max_ttl_ms = max_ttl_ms

    def register(self, wish: Registration, now: float) -> tuple[Batch | None, Granted]:
        """Grant a lease, renew the one that this boot has, or refuse (INSTANCE_LIVE, QUOTA)."""
        self._check_descriptor_room(wish.spec.descriptor_digest, wish.descriptor_set)
        holder = self.catalog.get(wish.spec.name)
        if holder is not None and holder.boot_id == wish.boot_id:
            record = self._renewed(holder, wish, now)
        elif holder is not None:
            self._check_takeover(holder, wish, now)
            record = self._fresh(wish, holder.incarnation + 1)
        else:
            self._check_quota(wish.spec.name)
            record = self._fresh(wish, self.catalog.next_incarnation(wish.spec.name, wish.boot_id))
        batch = self._batch([(holder, record)], now, wish.spec.descriptor_digest, wish.descriptor_set)
        clamped = wish.ttl_ms is not None and wish.ttl_ms != record.ttl_ms
        return batch, Granted(record.lease_id, record.incarnation, record.ttl_ms, record.interval_ms, clamped)

    def beat(self, beat: Beat, now: float) -> tuple[BeatReply, Name | None]:
        """Renew a lease. The name comes back if its record may have to change: pass it to ``settle``."""
        lease = self.leases.get(beat.lease_id)
        if lease is None:
            return BeatReply(beat.lease_id, self.leases.fate(beat.lease_id, now)), None
        cleared = self.leases.renew(lease, now)
        if beat.ready is not None:
            lease.claims_ready = beat.ready
            lease.not_ready_reason = "" if beat.ready else beat.not_ready_reason
        record = self._record_of(lease)
        draining = record.drain_until is not None
        reply = BeatReply(beat.lease_id, None, _ms(lease.deadline - now), record.interval_ms, draining)
        return reply, lease.name if cleared or _claims_otherwise(lease, record) else None

    def settle(self, names: Iterable[Name], now: float) -> Batch | None:
        """Publish what the leases of these names claim by now, where it differs from what is published."""
        pairs = []
        for name in dict.fromkeys(names):
            record = self.catalog.get(name)
            if record is not None:
                pairs.append((record, self._settled(record, self._lease_of(record), now)))
        return self._batch(pairs, now)

    def update(self, patch: Patch, now: float) -> Batch | None:
        """Change the record behind a lease; taking ``ready`` also ends a drain."""
        lease = self._living(patch.lease_id, now)
        record = self._record_of(lease)
        if patch.if_revision is not None and patch.if_revision != record.revision:
            raise RegistryError(
                Reason.REVISION_CONFLICT,
                f"{record.name} was last changed at revision {record.revision}, not {patch.if_revision}; "
                "read it again, then decide anew",
                metadata={"revision": str(record.revision)},
            )
        if patch.descriptor_set is not None:
            self._check_descriptor_room(patch.descriptor_digest, patch.descriptor_set)
        changed = replace(record, spec=_patched(record.spec, patch))
        if patch.ready is not None:
            lease.claims_ready = patch.ready
            lease.not_ready_reason = "" if patch.ready else patch.not_ready_reason
            if patch.ready:
                changed = replace(changed, drain_until=None)
        changed = self._settled(changed, lease, now)
        return self._batch([(record, changed)], now, patch.descriptor_digest, patch.descriptor_set or b"")

    def drain(self, lease_id: bytes, deadline_ms: int, now: float) -> tuple[Batch | None, int]:
        """Stop new calls. A drain under way is never prolonged. Returns what is left of it, in ms."""
        lease = self._living(lease_id, now)
        record = self._record_of(lease)
        until = now + min(deadline_ms, MAX_DRAIN_MS) / 1000.0
        if record.drain_until is not None:
            until = min(until, record.drain_until)
        changed = self._settled(replace(record, drain_until=until), lease, now)
        return self._batch([(record, changed)], now), _ms(until - now)

    def deregister(self, lease_id: bytes, now: float) -> Batch | None:
        """End a lease; None when it is known to be gone already. Never touches a successor."""
        lease = self.leases.get(lease_id)
        if lease is not None:
            change = _removal(self._record_of(lease), RemovalReason.DEREGISTERED)
            return Batch(self.catalog.revision + 1, now, (change,))
        if self.leases.fate(lease_id, now) is LeaseEnd.UNKNOWN:
            raise _lease_error(LeaseEnd.UNKNOWN)
        return None

    def reap(self, now: float, limit: int) -> tuple[Batch | None, int]:
        """Doubt who missed a beat, remove whose term or drain is over; at most ``limit`` leases, and says how many."""
        due = self.leases.due(now, limit)
        changes = []
        for lease, what in due:
            record = self._record_of(lease)
            if what is Due.DOUBT:
                doubted = self._settled(record, lease, now)
                if doubted != record:
                    changes.append(self._change(doubted))
            else:
                reason = RemovalReason.EXPIRED if what is Due.EXPIRY else RemovalReason.DEREGISTERED
                changes.append(_removal(record, reason))
        if not changes:
            return None, len(due)
        return Batch(self.catalog.revision + 1, now, tuple(changes)), len(due)

    def apply(self, batch: Batch, now: float) -> None:
        """Make a committed batch true: in the catalog, the leases and the descriptor sets together."""
        before = [self.catalog.get(change.name) for change in batch.changes]
        self.catalog.apply(batch)
        for old, change in zip(before, batch.changes, strict=True):
            new = change.record
            self._apply_to_lease(old, change, now)
            self.descriptors.replace(
                old.spec.descriptor_digest if old is not None else "",
                new.spec.descriptor_digest if new is not None else "",
                batch.descriptors,
            )

    def restore(self, records: Iterable[Record], descriptors: dict[str, bytes], now: float) -> None:
        """Take over what a store kept: every lease gets a full term from now, under its old id."""
        for record in records:
            self.catalog.restore(record)
            self.leases.grant(_lease_for(record), now)
            self.descriptors.replace("", record.spec.descriptor_digest, descriptors)

    def _apply_to_lease(self, old: Record | None, change: Change, now: float) -> None:
        new = change.record
        if new is None:
            if old is not None:
                end = LeaseEnd.EXPIRED if change.reason is RemovalReason.EXPIRED else LeaseEnd.DEREGISTERED
                self.leases.end(old.lease_id, end, now)
            return
        if old is None or old.lease_id != new.lease_id:
            lease = _lease_for(new)
            if old is not None:
                boots = frozenset((old.boot_id, new.boot_id))
                history = (*self._lease_of(old).takeovers, Takeover(boots, now))
                lease.takeovers = history[-MAX_TAKEOVERS_KEPT:]
                self.leases.end(old.lease_id, LeaseEnd.SUPERSEDED, now)
            self.leases.grant(lease, now)
            return
        lease = self._lease_of(new)
        if new.ttl_ms != old.ttl_ms:
            self.leases.retime(lease, new.ttl_ms / 1000.0, new.interval_ms / 1000.0, now)
        if new.drain_until != old.drain_until:
            self.leases.drain(lease, new.drain_until)

    def _fresh(self, wish: Registration, incarnation: int) -> Record:
        ttl_ms = self._granted_ttl(wish.ttl_ms)
        return Record(
            spec=wish.spec,
            lease_id=self._new_id(),
            boot_id=wish.boot_id,
            incarnation=incarnation,
            ttl_ms=ttl_ms,
            interval_ms=self._interval(ttl_ms),
            ready=wish.ready,
            not_ready_reason="" if wish.ready else wish.not_ready_reason,
            state=visible_state(wish.ready, draining=False, suspect=False),
        )

    def _renewed(self, holder: Record, wish: Registration, now: float) -> Record:
        """The same boot again: a renewal, and an update where it says something new. A drain goes on."""
        lease = self._lease_of(holder)
        self.leases.renew(lease, now)
        lease.claims_ready = wish.ready
        lease.not_ready_reason = "" if wish.ready else wish.not_ready_reason
        ttl_ms = self._granted_ttl(wish.ttl_ms)
        interval_ms = holder.interval_ms if ttl_ms == holder.ttl_ms else self._interval(ttl_ms)
        record = replace(holder, spec=wish.spec, ttl_ms=ttl_ms, interval_ms=interval_ms)
        return self._settled(record, lease, now)

    def _check_takeover(self, holder: Record, wish: Registration, now: float) -> None:
        """Refuse another boot, unless the holder restarted in place, or is doubted or leaving."""
        lease = self._lease_of(holder)
        if lease.blocked_until > now:
            self.identity_conflicts += 1
            raise _instance_live(holder, _ms(lease.blocked_until - now), "two processes are fighting for it")
        shared = set(holder.spec.addresses) & set(wish.spec.addresses)
        if not (shared or lease.suspect or holder.drain_until is not None):
            raise _instance_live(holder, _ms(max(lease.doubt_at - now, 0.0)), "its holder is alive at another address")
        boots = frozenset((holder.boot_id, wish.boot_id))
        recent = [t for t in lease.takeovers if t.boots == boots and now - t.time < CONFLICT_WINDOW_SECONDS]
        if len(recent) >= CONFLICT_TAKEOVERS:
            lease.blocked_until = now + CONFLICT_HOLD_SECONDS
            self.identity_conflicts += 1
            raise _instance_live(holder, _ms(CONFLICT_HOLD_SECONDS), "two processes are fighting for it")

    def _check_quota(self, name: Name) -> None:
        if len(self.leases) >= MAX_LEASES:
            raise RegistryError(Reason.QUOTA, f"the registry holds {MAX_LEASES} leases and takes no more")
        if self.catalog.count(name.key) >= MAX_LEASES_PER_SERVICE:
            raise RegistryError(
                Reason.QUOTA,
                f"service {name.namespace}/{name.service} has {MAX_LEASES_PER_SERVICE} instances and takes no more",
            )

    def _check_descriptor_room(self, digest: str, descriptor_set: bytes) -> None:
        if not self.descriptors.has_room(digest, descriptor_set):
            raise RegistryError(
                Reason.QUOTA, "the registry's room for descriptor sets is used up; register without one"
            )

    def _settled(self, record: Record, lease: Lease, now: float) -> Record:
        """The record with the readiness and state that follow from its lease."""
        ready, reason = record.ready, record.not_ready_reason
        if record.drain_until is None and _claims_otherwise(lease, record):
            ready, reason = self._gated_claim(record, lease, now)
        state = visible_state(ready, record.drain_until is not None, lease.suspect)
        return replace(record, ready=ready, not_ready_reason=reason, state=state)

    def _gated_claim(self, record: Record, lease: Lease, now: float) -> tuple[bool, str]:
        """What to publish of a changed claim. Too many changes hold it not ready; stepping back always passes.

        News of the reason alone have their own budget: who reports progress while it starts is not flapping.
        """
        if lease.claims_ready == record.ready:
            lease.reasons = lease.reasons or TokenBucket(now)
            return record.ready, lease.not_ready_reason if lease.reasons.take(now) else record.not_ready_reason
        lease.bucket = lease.bucket or TokenBucket(now)
        allowed = lease.bucket.take(now)
        if lease.claims_ready and not allowed:
            return False, FLAPPING
        return lease.claims_ready, lease.not_ready_reason

    def _living(self, lease_id: bytes, now: float) -> Lease:
        lease = self.leases.get(lease_id)
        if lease is None:
            raise _lease_error(self.leases.fate(lease_id, now))
        return lease

    def _lease_of(self, record: Record) -> Lease:
        lease = self.leases.get(record.lease_id)
        if lease is None:
            raise LookupError(f"record {record.name} has no lease")
        return lease

    def _record_of(self, lease: Lease) -> Record:
        record = self.catalog.get(lease.name)
        if record is None:
            raise LookupError(f"the lease of {lease.name} has no record")
        return record

    def _granted_ttl(self, ttl_ms: int | None) -> int:
        return min(max(DEFAULT_TTL_MS if ttl_ms is None else ttl_ms, self._min_ttl_ms), self._max_ttl_ms)

    def _interval(self, ttl_ms: int) -> int:
        return max(1, int(ttl_ms / BEATS_PER_TERM * (1.0 - INTERVAL_JITTER * self._rng.random())))

    def _batch(
        self,
        pairs: Sequence[tuple[Record | None, Record]],
        now: float,
        digest: str = "",
        descriptor_set: bytes = b"",
    ) -> Batch | None:
        """One revision for every pair that differs; None when none does."""
        changes = tuple(self._change(new) for old, new in pairs if old != new)
        if not changes:
            return None
        brought = {digest: descriptor_set} if digest and self.descriptors.get(digest) is None else {}
        return Batch(self.catalog.revision + 1, now, changes, brought)

    def _change(self, record: Record) -> Change:
        return Change(record.name, replace(record, revision=self.catalog.revision + 1), record.incarnation)


def _removal(record: Record, reason: RemovalReason) -> Change:
    return Change(record.name, None, record.incarnation, reason)


def _lease_for(record: Record) -> Lease:
    lease = Lease(
        record.lease_id,
        record.name,
        record.ttl_ms / 1000.0,
        record.interval_ms / 1000.0,
        record.ready,
        record.not_ready_reason,
    )
    lease.drain_until = record.drain_until
    return lease


def _claims_otherwise(lease: Lease, record: Record) -> bool:
    if lease.claims_ready != record.ready:
        return True
    return not lease.claims_ready and lease.not_ready_reason != record.not_ready_reason


def _patched(spec: Spec, patch: Patch) -> Spec:
    return Spec(
        name=spec.name,
        addresses=spec.addresses if patch.addresses is None else patch.addresses,
        grpc_services=spec.grpc_services if patch.grpc_services is None else patch.grpc_services,
        labels=spec.labels if patch.labels is None else patch.labels,
        weight=spec.weight if patch.weight is None else patch.weight,
        descriptor_digest=spec.descriptor_digest if patch.descriptor_set is None else patch.descriptor_digest,
    )


def _lease_error(end: LeaseEnd) -> RegistryError:
    if end is LeaseEnd.SUPERSEDED:
        return RegistryError(Reason.SUPERSEDED, "the lease was superseded: another process took its name over; stop")
    if end is LeaseEnd.EXPIRED:
        return RegistryError(Reason.LEASE_EXPIRED, "the lease expired; register again")
    return RegistryError(Reason.LEASE_UNKNOWN, "the lease is not known here; register again")


def _instance_live(holder: Record, retry_after_ms: int, why: str) -> RegistryError:
    return RegistryError(
        Reason.INSTANCE_LIVE,
        f"instance {holder.name} is taken: {why}; stop that process or choose another instance id",
        retry_after_ms=retry_after_ms,
        metadata={"incarnation": str(holder.incarnation)},
    )


def _ms(seconds: float) -> int:
    return int(seconds * 1000.0)
