import pytest
from registry_world import name

from registry.leases import (
    ENDED_LEASE_SECONDS,
    MAX_ENDED_LEASES,
    Due,
    Lease,
    LeaseClock,
    LeaseTable,
    TokenBucket,
)
from registry.model import LeaseEnd


def lease(number: int, ttl: float = 15.0, interval: float = 5.0) -> Lease:
    return Lease(number.to_bytes(16, "big"), name(f"i{number}"), ttl, interval, True, "")


class TestClock:
    def test_follows_the_clock_it_is_fed(self):
        clock = LeaseClock(50.0)
        assert clock.advance(50.1) == pytest.approx(0.1)
        assert clock.advance(50.25) == pytest.approx(0.25)
        assert clock.lag == 0.0
        assert not clock.stalled

    def test_a_stall_costs_two_ticks_and_is_counted(self):
        clock = LeaseClock(0.0)
        assert clock.advance(6.0) == pytest.approx(0.2)
        assert clock.stalled
        assert clock.lag == pytest.approx(5.8)
        assert clock.advance(6.1) == pytest.approx(0.3)
        assert not clock.stalled

    def test_reading_ahead_is_capped_too_and_moves_nothing(self):
        clock = LeaseClock(0.0)
        assert clock.read(0.05) == pytest.approx(0.05)
        assert clock.read(100.0) == pytest.approx(0.2)
        assert clock.read(0.0) == 0.0

    def test_time_that_steps_back_stands_still(self):
        clock = LeaseClock(10.0)
        clock.advance(10.1)
        assert clock.advance(9.0) == pytest.approx(0.1)
        assert clock.advance(10.2) == pytest.approx(0.2)


class TestTable:
    def test_a_lease_ends_at_its_term_and_not_before(self):
        table = LeaseTable()
        table.grant(lease(1, interval=100.0), 0.0)
        assert table.due(14.999, 10) == []
        [(ended, what)] = table.due(15.0, 10)
        assert ended.lease_id == lease(1).lease_id
        assert what is Due.EXPIRY

    def test_what_is_due_is_reported_until_it_is_made_true(self):
        table = LeaseTable()
        one = lease(1, interval=100.0)
        table.grant(one, 0.0)
        assert len(table.due(15.0, 10)) == 1
        assert len(table.due(15.1, 10)) == 1
        table.end(one.lease_id, LeaseEnd.EXPIRED, 15.1)
        assert table.due(15.2, 10) == []
        assert len(table) == 0

    def test_a_renewal_after_the_term_but_before_the_end_saves_the_lease(self):
        table = LeaseTable()
        one = lease(1, interval=100.0)
        table.grant(one, 0.0)
        assert table.due(15.5, 10)
        table.renew(one, 15.6)
        assert table.due(15.7, 10) == []
        assert table.due(30.5, 10) == []
        assert [what for _, what in table.due(30.6, 10)] == [Due.EXPIRY]

    def test_a_batch_is_bounded_and_the_earliest_come_first(self):
        table = LeaseTable()
        for number in range(1, 31):
            table.grant(lease(number, ttl=40.0 - number, interval=100.0), 0.0)
        first = [found.name.instance_id for found, _ in table.due(100.0, 10)]
        assert first == [f"i{number}" for number in range(30, 20, -1)]

    def test_one_missed_beat_and_the_slack_cast_doubt_once(self):
        table = LeaseTable()
        one = lease(1)
        table.grant(one, 0.0)
        assert table.due(7.4, 10) == []
        assert [what for _, what in table.due(7.5, 10)] == [Due.DOUBT]
        assert one.suspect
        assert table.due(13.0, 10) == []
        assert [what for _, what in table.due(15.0, 10)] == [Due.EXPIRY]

    def test_two_good_beats_clear_a_doubt(self):
        table = LeaseTable()
        one = lease(1)
        table.grant(one, 0.0)
        table.due(8.0, 10)
        assert not table.renew(one, 8.0)
        assert table.renew(one, 13.0)
        assert not one.suspect

    def test_a_repeated_beat_does_not_count_as_the_second(self):
        table = LeaseTable()
        one = lease(1)
        table.grant(one, 0.0)
        table.due(8.0, 10)
        assert not table.renew(one, 8.0)
        assert not table.renew(one, 8.01)
        assert one.suspect

    def test_another_missed_beat_starts_the_count_again(self):
        table = LeaseTable()
        one = lease(1)
        table.grant(one, 0.0)
        table.due(8.0, 10)
        table.renew(one, 8.0)
        table.due(16.0, 10)
        assert not table.renew(one, 16.0)
        assert table.renew(one, 21.0)

    def test_a_drain_ends_even_a_renewed_lease(self):
        table = LeaseTable()
        one = lease(1)
        table.grant(one, 0.0)
        table.drain(one, 10.0)
        table.renew(one, 6.0)
        assert table.due(9.9, 10) == []
        assert [what for _, what in table.due(10.0, 10)] == [Due.DRAINED]

    def test_a_drain_can_be_taken_back(self):
        table = LeaseTable()
        one = lease(1, interval=100.0)
        table.grant(one, 0.0)
        table.drain(one, 5.0)
        table.drain(one, None)
        assert table.due(14.9, 10) == []
        assert [what for _, what in table.due(15.0, 10)] == [Due.EXPIRY]

    def test_a_shorter_term_takes_effect(self):
        table = LeaseTable()
        one = lease(1, ttl=300.0, interval=100.0)
        table.grant(one, 0.0)
        table.retime(one, 3.0, 1.0, 10.0)
        assert [what for _, what in table.due(11.5, 10)] == [Due.DOUBT]
        assert [what for _, what in table.due(13.0, 10)] == [Due.EXPIRY]

    def test_the_heap_stays_bounded_when_leases_come_and_go(self):
        table = LeaseTable()
        for number in range(1, 20_001):
            table.grant(lease(number), 0.0)
            table.end(lease(number).lease_id, LeaseEnd.SUPERSEDED, 0.0)
        assert table.heap_size <= 65

    def test_the_heap_stays_bounded_when_drains_are_changed(self):
        table = LeaseTable()
        leases = [lease(number) for number in range(1, 101)]
        for one in leases:
            table.grant(one, 0.0)
        for turn in range(200):
            for one in leases:
                table.drain(one, 7.0 - turn / 100.0)
        assert table.heap_size <= 2 * len(leases) + 1

    def test_ended_leases_are_remembered_for_a_while(self):
        table = LeaseTable()
        one = lease(1)
        table.grant(one, 0.0)
        table.end(one.lease_id, LeaseEnd.SUPERSEDED, 0.0)
        assert table.fate(one.lease_id, ENDED_LEASE_SECONDS - 1) is LeaseEnd.SUPERSEDED
        assert table.fate(one.lease_id, ENDED_LEASE_SECONDS) is LeaseEnd.UNKNOWN
        table.sweep(ENDED_LEASE_SECONDS)
        assert table.ended_size == 0

    def test_no_more_ended_leases_are_remembered_than_the_bound(self):
        table = LeaseTable()
        for number in range(1, MAX_ENDED_LEASES + 11):
            one = lease(number)
            table.grant(one, 0.0)
            table.end(one.lease_id, LeaseEnd.EXPIRED, 0.0)
        assert table.ended_size == MAX_ENDED_LEASES

    def test_a_lease_that_was_never_granted_is_unknown(self):
        assert LeaseTable().fate(b"?" * 16, 0.0) is LeaseEnd.UNKNOWN


def test_a_token_bucket_allows_a_burst_then_a_rate():
    bucket = TokenBucket(0.0)
    assert [bucket.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert not bucket.take(11.0)
    assert bucket.take(12.0)
