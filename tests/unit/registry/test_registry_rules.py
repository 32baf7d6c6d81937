import pytest
from registry_world import World, boot, name, registration, spec

from registry.descriptors import MAX_TOTAL_BYTES, digest_of
from registry.errors import Reason, RegistryError
from registry.model import LeaseEnd, RemovalReason, State
from registry.requests import Patch
from registry.rules import FLAPPING, MAX_LEASES, MAX_LEASES_PER_SERVICE


@pytest.fixture
def world() -> World:
    return World()


def refused(reason: Reason):
    return pytest.raises(RegistryError, check=lambda error: error.reason is reason)


class TestRegister:
    def test_grants_a_lease(self, world):
        granted = world.register()
        assert len(granted.lease_id) == 16
        assert granted.incarnation == 1
        assert granted.ttl_ms == 15_000
        assert 4_500 <= granted.interval_ms <= 5_000
        assert not granted.clamped
        assert world.catalog.revision == 1
        assert world.record().state is State.READY

    def test_the_same_boot_and_content_gets_the_same_lease_and_no_revision(self, world):
        first = world.register()
        world.now += 10.0
        assert world.register() == first
        assert world.catalog.revision == 1
        world.pass_time(14.9)
        assert world.catalog.get(name()) is not None

    def test_the_same_boot_with_new_content_is_an_update(self, world):
        first = world.register()
        again = world.register(weight=5, ttl_ms=30_000)
        assert again.lease_id == first.lease_id
        assert again.incarnation == first.incarnation
        assert again.ttl_ms == 30_000
        assert world.catalog.revision == 2
        assert world.record().spec.weight == 5
        assert world.record().revision == 2
        world.pass_time(29.0)
        assert world.catalog.get(name()) is not None

    def test_intervals_are_spread(self, world):
        intervals = {world.register(f"i{number}").interval_ms for number in range(20)}
        assert len(intervals) > 10
        assert all(4_500 <= interval <= 5_000 for interval in intervals)

    @pytest.mark.parametrize(("asked", "got"), [(1, 3_000), (3_000, 3_000), (300_000, 300_000), (10**15, 300_000)])
    def test_a_lifetime_out_of_bounds_is_clamped_and_reported(self, world, asked, got):
        granted = world.register(ttl_ms=asked)
        assert granted.ttl_ms == got
        assert granted.clamped == (asked != got)

    def test_starts_not_ready_if_told_so(self, world):
        world.register(ready=False, not_ready_reason="warming up")
        assert world.record().state is State.NOT_READY
        assert world.record().not_ready_reason == "warming up"

    def test_quotas(self, world, monkeypatch):
        monkeypatch.setattr("registry.rules.MAX_LEASES_PER_SERVICE", 2)
        monkeypatch.setattr("registry.rules.MAX_LEASES", 3)
        world.register("a")
        world.register("b")
        with refused(Reason.QUOTA):
            world.register("c")
        world.register("c", service="other")
        with refused(Reason.QUOTA):
            world.register("d", service="third")
        world.register("a", by="B")  # a takeover is no further lease
        assert (MAX_LEASES, MAX_LEASES_PER_SERVICE) == (100_000, 10_000)


class TestTakeover:
    def test_a_restart_in_place_takes_over(self, world):
        first = world.register(by="A")
        second = world.register(by="B")
        assert second.incarnation == 2
        assert second.lease_id != first.lease_id
        assert world.rules.leases.fate(first.lease_id, world.now) is LeaseEnd.SUPERSEDED

    def test_another_address_is_refused_while_the_holder_lives(self, world):
        world.register(by="A")
        with refused(Reason.INSTANCE_LIVE) as caught:
            world.register(by="B", address="10.0.0.2:80")
        assert caught.value.retry_after_ms
        assert world.record().boot_id == boot("A")
        assert world.catalog.revision == 1

    def test_another_address_takes_over_from_a_suspect(self, world):
        world.register(by="A")
        world.pass_time(8.0)
        assert world.record().state is State.SUSPECT
        assert world.register(by="B", address="10.0.0.2:80").incarnation == 2
        assert world.record().state is State.READY

    def test_another_address_takes_over_from_one_that_is_not_ready_and_suspect(self, world):
        world.register(by="A", ready=False)
        world.pass_time(8.0)
        assert world.record().state is State.NOT_READY
        assert world.register(by="B", address="10.0.0.2:80").incarnation == 2

    def test_another_address_takes_over_from_one_that_drains(self, world):
        world.drain(world.register(by="A").lease_id)
        assert world.register(by="B", address="10.0.0.2:80").incarnation == 2
        assert world.record().state is State.READY
        world.pass_time(6.0)

    def test_a_superseded_lease_changes_nothing_ever_again(self, world):
        first = world.register(by="A")
        second = world.register(by="B")
        before, revision = world.record(), world.catalog.revision
        assert world.beat(first.lease_id, ready=False).end is LeaseEnd.SUPERSEDED
        assert world.deregister(first.lease_id)
        for attempt in (
            lambda: world.drain(first.lease_id),
            lambda: world.rules.update(Patch(first.lease_id, weight=9), world.now),
        ):
            with refused(Reason.SUPERSEDED):
                attempt()
        assert world.record() == before
        assert world.catalog.revision == revision
        assert world.beat(second.lease_id).end is None
        world.now += 599.0
        assert world.beat(first.lease_id).end is LeaseEnd.SUPERSEDED
        world.now += 2.0
        assert world.beat(first.lease_id).end is LeaseEnd.UNKNOWN

    def test_two_boots_fighting_for_a_name_leave_it_with_the_holder(self, world):
        for by in ("A", "B", "A", "B"):
            world.now += 1.0
            held = world.register(by=by)
        world.now += 1.0
        with refused(Reason.INSTANCE_LIVE) as caught:
            world.register(by="A")
        assert caught.value.retry_after_ms == 60_000
        assert world.rules.identity_conflicts == 1
        with refused(Reason.INSTANCE_LIVE):
            world.register(by="C")
        assert world.beat(held.lease_id).end is None
        for _ in range(12):
            world.now += 5.0
            world.beat(held.lease_id)
        assert world.register(by="A").incarnation == held.incarnation + 1

    def test_restarts_in_a_row_are_no_fight(self, world):
        for number, by in enumerate("ABCDEFGH", start=1):
            world.now += 1.0
            assert world.register(by=by).incarnation == number

    def test_a_free_name_keeps_its_incarnation_for_the_same_boot_and_raises_it_for_another(self, world):
        world.deregister(world.register(by="A").lease_id)
        assert world.register(by="A").incarnation == 1
        world.deregister(world.register(by="A").lease_id)
        assert world.register(by="B").incarnation == 2

    def test_an_incarnation_does_not_go_back_after_its_tombstone_is_gone(self, world):
        for by in "ABC":
            lease_id = world.register(by=by).lease_id
        world.deregister(lease_id)
        world.now += 700.0
        world.register("other")
        assert world.register(by="D").incarnation > 3


class TestBeats:
    def test_keep_a_lease_alive(self, world):
        granted = world.register()
        for _ in range(10):
            world.pass_time(4.5)
            assert world.beat(granted.lease_id).remaining_ms == 15_000
        assert world.catalog.revision == 1

    def test_a_repeated_readiness_is_no_event(self, world):
        granted = world.register()
        world.beat(granted.lease_id, ready=True)
        assert world.catalog.revision == 1
        world.beat(granted.lease_id, ready=False, reason="db away")
        world.beat(granted.lease_id, ready=False, reason="db away")
        assert world.catalog.revision == 2
        assert world.record().state is State.NOT_READY
        assert world.record().not_ready_reason == "db away"

    def test_flapping_is_held_not_ready_until_it_has_been_calm(self, world):
        granted = world.register()
        for ready in (False, True, False, True, False):
            world.beat(granted.lease_id, ready=ready)
        revision = world.catalog.revision
        world.beat(granted.lease_id, ready=True)
        assert world.record().state is State.NOT_READY
        assert world.record().not_ready_reason == FLAPPING
        assert world.catalog.revision == revision + 1
        for _ in range(5):
            world.beat(granted.lease_id, ready=True)
        assert world.catalog.revision == revision + 1
        world.now += 12.0
        world.beat(granted.lease_id)
        assert world.record().state is State.READY
        assert world.record().not_ready_reason == ""

    def test_who_reports_progress_while_it_starts_is_not_flapping(self, world):
        granted = world.register(ready=False, not_ready_reason="loading")
        for percent in range(0, 100, 10):
            world.beat(granted.lease_id, ready=False, reason=f"loaded {percent} %")
        assert world.record().not_ready_reason == "loaded 40 %"
        world.beat(granted.lease_id, ready=True)
        assert world.record().state is State.READY

    def test_stepping_back_always_passes(self, world):
        granted = world.register()
        for ready in (False, True, False, True, False):
            world.beat(granted.lease_id, ready=ready)
        world.now += 12.0
        world.beat(granted.lease_id, ready=True)
        assert world.record().state is State.READY
        world.beat(granted.lease_id, ready=False, reason="really")
        assert world.record().state is State.NOT_READY

    def test_a_suspect_clears_after_two_beats(self, world):
        granted = world.register()
        [batch] = world.pass_time(8.0)
        assert batch.changes[0].record.state is State.SUSPECT
        world.beat(granted.lease_id)
        assert world.record().state is State.SUSPECT
        world.pass_time(4.0)
        world.beat(granted.lease_id)
        assert world.record().state is State.READY

    def test_readiness_during_a_drain_is_kept_for_later(self, world):
        granted = world.register()
        world.drain(granted.lease_id)
        revision = world.catalog.revision
        assert world.beat(granted.lease_id, ready=False).draining
        assert world.record().state is State.DRAINING
        assert world.catalog.revision == revision


class TestEnds:
    def test_expiry_removes_with_its_reason(self, world):
        granted = world.register()
        world.pass_time(14.9)
        assert world.catalog.get(name()) is not None
        [batch] = world.pass_time(0.2)
        [change] = batch.changes
        assert change.record is None
        assert change.reason is RemovalReason.EXPIRED
        assert change.incarnation == 1
        assert world.beat(granted.lease_id).end is LeaseEnd.EXPIRED
        assert world.deregister(granted.lease_id)
        with refused(Reason.LEASE_EXPIRED):
            world.drain(granted.lease_id)

    def test_many_that_end_together_share_a_revision(self, world):
        for number in range(100):
            world.register(f"i{number}", ready=False)
        batches = world.pass_time(20.0)
        assert len(batches) == 1
        assert len(batches[0].changes) == 100

    def test_deregister_is_known_for_a_while(self, world):
        granted = world.register()
        assert not world.deregister(granted.lease_id)
        assert world.deregister(granted.lease_id)
        assert world.catalog.revision == 2
        assert world.beat(granted.lease_id).end is LeaseEnd.DEREGISTERED
        with refused(Reason.LEASE_UNKNOWN):
            world.deregister(b"?" * 16)

    def test_a_drain_ends_by_its_deadline(self, world):
        granted = world.register()
        assert world.drain(granted.lease_id, 5_000) == 5_000
        assert world.record().state is State.DRAINING
        world.pass_time(4.5)
        world.beat(granted.lease_id)
        [batch] = world.pass_time(0.6)
        assert batch.changes[0].reason is RemovalReason.DEREGISTERED

    def test_a_drain_ends_by_expiry_before_its_deadline(self, world):
        granted = world.register()
        world.drain(granted.lease_id, 60_000)
        batches = world.pass_time(15.1)
        assert [change.reason for batch in batches for change in batch.changes] == [RemovalReason.EXPIRED]

    def test_a_repeated_drain_prolongs_nothing(self, world):
        granted = world.register()
        world.drain(granted.lease_id, 10_000)
        world.now += 4.0
        assert world.drain(granted.lease_id, 10_000) == 6_000
        assert world.catalog.revision == 2
        assert world.drain(granted.lease_id, 1_000) == 1_000
        assert world.catalog.revision == 3

    def test_only_an_update_of_readiness_undoes_a_drain(self, world):
        granted = world.register()
        world.drain(granted.lease_id, 3_000)
        world.register()
        world.register(weight=3)
        world.beat(granted.lease_id, ready=True)
        assert world.record().state is State.DRAINING
        world.commit(world.rules.update(Patch(granted.lease_id, ready=True), world.now))
        assert world.record().state is State.READY
        world.pass_time(10.0)
        assert world.catalog.get(name()) is not None


class TestUpdate:
    def test_changes_the_named_fields_only(self, world):
        granted = world.register(labels=(("v", "1"),))
        world.commit(world.rules.update(Patch(granted.lease_id, weight=0, addresses=("10.0.0.9:1",)), world.now))
        assert world.record().spec == spec(labels=(("v", "1"),), weight=0, addresses=("10.0.0.9:1",))
        assert world.record().revision == world.catalog.revision == 2

    def test_what_changes_nothing_is_no_event(self, world):
        granted = world.register()
        assert world.rules.update(Patch(granted.lease_id, weight=1, ready=True), world.now) is None

    def test_holds_only_at_the_revision_it_names(self, world):
        granted = world.register()
        world.register("other")
        world.commit(world.rules.update(Patch(granted.lease_id, weight=2, if_revision=1), world.now))
        with refused(Reason.REVISION_CONFLICT):
            world.rules.update(Patch(granted.lease_id, weight=3, if_revision=1), world.now)
        assert world.record().spec.weight == 2


class TestDescriptors:
    def test_live_as_long_as_an_instance_refers_to_them(self, world):
        sets, content = world.rules.descriptors, b"descriptors"
        digest = digest_of(content)
        leases = []
        for instance_id in "ab":
            wish = registration(instance_id, descriptor_set=content, spec=spec(instance_id, descriptor_digest=digest))
            batch, granted = world.rules.register(wish, world.now)
            world.commit(batch)
            leases.append(granted.lease_id)
        assert sets.get(digest) == content
        assert len(sets) == 1
        world.deregister(leases[0])
        assert sets.get(digest) == content
        other = b"others"
        patch = Patch(leases[1], descriptor_set=other, descriptor_digest=digest_of(other))
        world.commit(world.rules.update(patch, world.now))
        assert sets.get(digest) is None
        assert sets.get(digest_of(other)) == other
        world.pass_time(20.0)
        assert len(sets) == 0

    def test_have_a_bound_in_all(self, world, monkeypatch):
        monkeypatch.setattr("registry.descriptors.MAX_TOTAL_BYTES", 10)
        wish = registration(descriptor_set=b"x" * 11, spec=spec(descriptor_digest=digest_of(b"x" * 11)))
        with refused(Reason.QUOTA):
            world.rules.register(wish, world.now)
        assert MAX_TOTAL_BYTES == 256 * 1024 * 1024
