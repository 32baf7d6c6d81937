"""The registration in a plain ``with``: from threads, as programs without a loop use it."""

import asyncio
import threading
from typing import Any

import pytest
from fake_registry import FakeRegistry
from meshway.registry.v1 import registry_pb2 as pb

from registry.client import LeaseState, RegistrationError, SupersededError, SyncRegistration


def lease_for(fake: FakeRegistry, **options: Any) -> SyncRegistration:
    return SyncRegistration(fake.address, service="cart", address="127.0.0.1:50051", ttl=3.0, **options)


async def test_a_plain_with_registers_beats_and_deregisters(fake: FakeRegistry) -> None:
    beaten = threading.Event()

    def program() -> None:
        with lease_for(fake, instance_id="c1", labels={"v": "1"}) as lease:
            assert lease.state is LeaseState.ACTIVE
            assert (lease.instance_id, lease.incarnation, lease.ttl) == ("c1", 1, 3.0)
            assert lease.update(weight=5)
            lease.set_ready(False, "busy")
            assert beaten.wait(10)
            assert lease.drain(5.0)
            assert lease.state is LeaseState.DRAINING
        assert lease.state is LeaseState.CLOSED
        lease.close()

    running = asyncio.create_task(asyncio.to_thread(program))
    await fake.until(lambda: any(beat.not_ready_reason == "busy" for beat in fake.beats))
    beaten.set()
    await running
    assert [list(update.fields) for update in fake.updates] == [["weight"]]
    assert len(fake.deregistered) == 1
    assert not any(thread.name.startswith("lease of") for thread in threading.enumerate())


async def test_errors_reach_the_caller_and_leave_no_thread() -> None:
    def program() -> None:
        lease = SyncRegistration("127.0.0.1:1", service="cart", address="127.0.0.1:2", connect_timeout=0.3)
        with pytest.raises(RegistrationError, match="not reachable"):
            lease.start()
        with pytest.raises(RegistrationError, match="start the registration first"):
            lease.set_ready(True)
        with pytest.raises(RegistrationError, match="already started"):
            lease.start()

    await asyncio.to_thread(program)
    assert not any(thread.name.startswith("lease of") for thread in threading.enumerate())


async def test_superseded_is_raised_to_who_waits(fake: FakeRegistry) -> None:
    fake.statuses.extend([pb.LEASE_STATUS_OK, pb.LEASE_STATUS_SUPERSEDED])

    def program() -> None:
        with lease_for(fake) as lease:
            with pytest.raises(SupersededError):
                lease.wait_ended(10)
            assert lease.state is LeaseState.SUPERSEDED

    await asyncio.to_thread(program)


async def test_waiting_for_the_end_can_time_out(fake: FakeRegistry) -> None:
    def program() -> bool:
        with lease_for(fake) as lease:
            return lease.wait_ended(0.05)

    assert await asyncio.to_thread(program) is False
