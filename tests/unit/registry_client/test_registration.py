"""Registration against a scripted registry: taking, keeping, losing and giving back a lease."""

import asyncio
import logging
from random import Random
from typing import Any

import grpc
import pytest
from fake_registry import FakeRegistry, refusal
from meshway.registry.v1 import registry_pb2 as pb

from registry.client import LeaseState, Registration, RegistrationError, SupersededError


def lease_for(fake: FakeRegistry, **options: Any) -> Registration:
    options = {"service": "cart", "address": "127.0.0.1:50051", "ttl": 3.0, "rng": Random(1), **options}
    return Registration(fake.address, **options)


class States:
    """Records states and wakes who waits for one."""

    def __init__(self) -> None:
        self.seen: list[LeaseState] = []
        self.reasons: list[str] = []
        self._news = asyncio.Event()

    def __call__(self, state: LeaseState, why: str) -> None:
        self.seen.append(state)
        self.reasons.append(why)
        self._news.set()

    async def until(self, state: LeaseState) -> None:
        async with asyncio.timeout(10):
            while state not in self.seen:
                self._news.clear()
                await self._news.wait()


async def test_registers_beats_drains_and_deregisters(fake: FakeRegistry) -> None:
    async with lease_for(
        fake, instance_id="c1", grpc_services=["shop.Cart"], labels={"version": "v2"}, weight=7, descriptor_set=b"d"
    ) as lease:
        assert lease.state is LeaseState.ACTIVE
        assert lease.instance_id == "c1"
        assert lease.incarnation == 1
        assert lease.ttl == 3.0
        await fake.until(lambda: len(fake.beats) >= 3)
    sent = fake.registered[0]
    assert sent.instance == pb.InstanceSpec(
        service="cart",
        instance_id="c1",
        addresses=["127.0.0.1:50051"],
        grpc_services=["shop.Cart"],
        labels={"version": "v2"},
        weight=7,
        descriptor_set=b"d",
    )
    assert len(sent.boot_id) == 16
    assert sent.ttl_ms == 3000
    assert len(fake.registered) == 1
    assert all(beat.ready for beat in fake.beats if beat.HasField("ready"))
    assert len(fake.drains) == 1
    assert len(fake.deregistered) == 1
    assert lease.state is LeaseState.CLOSED
    await lease.close()
    assert len(fake.deregistered) == 1


async def test_instance_id_is_made_up_once(fake: FakeRegistry) -> None:
    one, two = lease_for(fake), lease_for(fake)
    assert one.instance_id == one.instance_id
    assert one.instance_id != two.instance_id
    assert one.instance_id.startswith("cart-")


async def test_an_unreachable_registry_is_an_error_that_names_it() -> None:
    lease = Registration("127.0.0.1:1", service="cart", address="127.0.0.1:2", connect_timeout=0.4)
    with pytest.raises(RegistrationError, match=r"127\.0\.0\.1:1 is not reachable"):
        await lease.start()
    assert lease.state is LeaseState.FAILED
    await lease.close()


async def test_a_silent_registry_is_an_error_too() -> None:
    server = await asyncio.start_server(lambda r, w: asyncio.sleep(0), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    lease = Registration(f"127.0.0.1:{port}", service="cart", address="127.0.0.1:2", connect_timeout=0.3)
    with pytest.raises(RegistrationError, match=f"127.0.0.1:{port}"):
        await lease.start()
    server.close()


async def test_wait_for_registry_keeps_trying_in_the_background(fake: FakeRegistry) -> None:
    port = fake.port
    await fake.stop()
    states = States()
    lease = Registration(
        f"127.0.0.1:{port}",
        service="cart",
        address="127.0.0.1:2",
        ttl=1.0,
        connect_timeout=0.2,
        wait_for_registry=True,
        on_state=states,
    )
    async with lease:
        assert lease.state is LeaseState.CONNECTING
        assert lease.error is not None
        await fake.start(port)
        await states.until(LeaseState.ACTIVE)
        assert lease.error is None


async def test_a_refusal_at_the_start_carries_the_registrys_reason(fake: FakeRegistry) -> None:
    fake.refusals.append(refusal(grpc.StatusCode.ALREADY_EXISTS, "INSTANCE_LIVE", "c1 is live at 10.0.0.1:1"))
    lease = lease_for(fake, instance_id="c1")
    with pytest.raises(RegistrationError, match=r"ALREADY_EXISTS/INSTANCE_LIVE: c1 is live at 10\.0\.0\.1:1") as caught:
        await lease.start()
    assert caught.value.reason == "INSTANCE_LIVE"
    assert caught.value.code is grpc.StatusCode.ALREADY_EXISTS
    assert len(fake.registered) == 1


async def test_a_passing_refusal_is_tried_again_when_the_registry_says_so(fake: FakeRegistry) -> None:
    fake.refusals.append(refusal(grpc.StatusCode.UNAVAILABLE, "NOT_READY", retry_after=0.3))
    began = asyncio.get_running_loop().time()
    async with lease_for(fake):
        assert asyncio.get_running_loop().time() - began >= 0.3
    assert len(fake.registered) == 2
    assert fake.registered[0].boot_id == fake.registered[1].boot_id


@pytest.mark.parametrize("status", [pb.LEASE_STATUS_UNKNOWN, pb.LEASE_STATUS_EXPIRED, pb.LEASE_STATUS_UNKNOWN_EPOCH])
async def test_a_lost_lease_is_registered_again_with_the_last_record(fake: FakeRegistry, status: int) -> None:
    states = States()
    async with lease_for(fake, instance_id="c1", on_state=states) as lease:
        assert await lease.update(labels={"a": "b"}, weight=3)
        fake.statuses.append(status)
        await fake.until(lambda: len(fake.registered) == 2)
        again = fake.registered[1]
        assert again.instance.instance_id == "c1"
        assert again.instance.labels == {"a": "b"}
        assert again.instance.weight == 3
        assert again.boot_id == fake.registered[0].boot_id
        beats = len(fake.beats)
        await fake.until(lambda: len(fake.beats) > beats)
        assert lease.state is LeaseState.ACTIVE
    assert LeaseState.CONNECTING in states.seen


async def test_superseded_ends_it_for_good(fake: FakeRegistry) -> None:
    states = States()
    async with lease_for(fake, on_state=states) as lease:
        fake.statuses.append(pb.LEASE_STATUS_SUPERSEDED)
        with pytest.raises(SupersededError, match="another process"):
            await asyncio.wait_for(lease.wait_ended(), 10)
        assert lease.state is LeaseState.SUPERSEDED
        streams = fake.streams
        await asyncio.sleep(0.15)
        assert fake.streams == streams
    assert len(fake.registered) == 1
    assert fake.drains == []
    assert fake.deregistered == []
    assert states.seen == [LeaseState.ACTIVE, LeaseState.SUPERSEDED]
    assert lease.state is LeaseState.SUPERSEDED


async def test_a_name_taken_while_away_is_superseded_too(fake: FakeRegistry) -> None:
    async with lease_for(fake) as lease:
        fake.refusals.append(refusal(grpc.StatusCode.ALREADY_EXISTS, "INSTANCE_LIVE"))
        fake.statuses.append(pb.LEASE_STATUS_EXPIRED)
        with pytest.raises(SupersededError):
            await asyncio.wait_for(lease.wait_ended(), 10)
    assert len(fake.registered) == 2


async def test_a_broken_stream_is_taken_up_again_with_the_same_lease(fake: FakeRegistry) -> None:
    states = States()
    async with lease_for(fake, on_state=states) as lease:
        await fake.until(lambda: len(fake.beats) >= 1)
        fake.break_streams = 1
        await states.until(LeaseState.DISCONNECTED)
        beats = len(fake.beats)
        await fake.until(lambda: len(fake.beats) >= beats + 2)
        assert lease.state is LeaseState.ACTIVE
    assert len(fake.registered) == 1
    assert fake.streams >= 2


async def test_a_registry_that_stops_answering_is_left_for_the_next(fake: FakeRegistry) -> None:
    other = await FakeRegistry().start()
    other.epoch, other.leases = fake.epoch, fake.leases
    lease = Registration([fake.address, other.address], service="cart", address="127.0.0.1:2", rng=Random(3), ttl=3)
    async with lease:
        fake.deaf = True
        await other.until(lambda: len(other.beats) >= 2)
        assert other.registered == []
    assert len(other.deregistered) == 1
    await other.stop()


async def test_a_restarted_registry_with_a_new_epoch_gets_the_registration_again(
    fake: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "registry.client")
    async with lease_for(fake) as lease:
        port = fake.port
        await fake.until(lambda: len(fake.beats) >= 1)
        await fake.stop()
        successor = await FakeRegistry().start(port)
        await successor.until(lambda: len(successor.registered) == 1)
        await successor.until(lambda: len(successor.beats) >= 2)
        assert successor.registered[0].boot_id == fake.registered[0].boot_id
        assert lease.state is LeaseState.ACTIVE
    assert len(successor.deregistered) == 1
    await successor.stop()
    assert sum("trying again" in record.message for record in caplog.records) == 1
    assert sum("registered again" in record.message for record in caplog.records) == 1


async def test_a_change_of_readiness_beats_at_once(fake: FakeRegistry) -> None:
    fake.interval_ms = 60_000
    async with lease_for(fake, ttl=180.0) as lease:
        await fake.until(lambda: fake.streams == 1)
        lease.set_ready(False, "warming its cache")
        await fake.until(lambda: len(fake.beats) == 1)
        assert not fake.beats[0].ready
        assert fake.beats[0].HasField("ready")
        assert fake.beats[0].not_ready_reason == "warming its cache"
        lease.set_ready(True)
        await fake.until(lambda: len(fake.beats) == 2)
        assert fake.beats[1].ready
        assert fake.beats[1].not_ready_reason == ""


async def test_readiness_survives_a_lost_lease(fake: FakeRegistry) -> None:
    async with lease_for(fake) as lease:
        lease.set_ready(False, "busy")
        fake.statuses.append(pb.LEASE_STATUS_EXPIRED)
        await fake.until(lambda: len(fake.registered) == 2)
        assert fake.registered[1].ready is False
        assert fake.registered[1].not_ready_reason == "busy"


async def test_the_cadence_is_the_registrys(fake: FakeRegistry) -> None:
    fake.interval_ms = 20
    async with lease_for(fake):
        await fake.until(lambda: len(fake.beats) >= 5, timeout=5)


async def test_update_sends_the_named_fields(fake: FakeRegistry) -> None:
    async with lease_for(fake, labels={"a": "1"}) as lease:
        await fake.until(lambda: fake.streams == 1)
        assert await lease.update(labels={"a": "2"})
        assert await lease.update(grpc_services=["x.Y"], addresses=["127.0.0.1:9"])
        assert await lease.update()
    assert [list(update.fields) for update in fake.updates] == [["labels"], ["addresses", "grpc_services"]]
    assert fake.updates[0].instance.labels == {"a": "2"}
    assert fake.updates[1].instance.addresses == ["127.0.0.1:9"]


async def test_a_refused_update_leaves_the_record(fake: FakeRegistry) -> None:
    async with lease_for(fake, weight=2) as lease:
        await fake.until(lambda: fake.streams == 1)
        fake.update_refusals.append(refusal(grpc.StatusCode.INVALID_ARGUMENT, "weight", "weight is above 65535"))
        with pytest.raises(RegistrationError, match="weight is above 65535"):
            await lease.update(weight=70_000)
        assert lease.record.weight == 2
        with pytest.raises(RegistrationError, match="cannot register cart/"):
            await lease.update(weight=-1)
        assert lease.record.weight == 2
        assert lease.state is LeaseState.ACTIVE


async def test_an_update_that_did_not_get_through_goes_with_the_next_register(fake: FakeRegistry) -> None:
    async with lease_for(fake) as lease:
        await fake.until(lambda: fake.streams == 1)
        fake.update_refusals.append(refusal(grpc.StatusCode.UNAVAILABLE, "NOT_READY"))
        assert await lease.update(weight=9) is False
        await fake.until(lambda: len(fake.registered) == 2)
        assert fake.registered[1].instance.weight == 9
        assert fake.registered[1].boot_id == fake.registered[0].boot_id


async def test_an_update_while_away_goes_with_the_reconnection(fake: FakeRegistry) -> None:
    states = States()
    async with lease_for(fake, on_state=states) as lease:
        port = fake.port
        await fake.stop()
        await states.until(LeaseState.DISCONNECTED)
        assert await lease.update(labels={"v": "2"}) is False
        await fake.start(port)
        await fake.until(lambda: len(fake.registered) == 2)
        assert fake.registered[1].instance.labels == {"v": "2"}


async def test_drain_tells_the_registry_and_beats_without_readiness(fake: FakeRegistry) -> None:
    async with lease_for(fake) as lease:
        await fake.until(lambda: fake.streams == 1)
        assert await lease.drain(20.0)
        assert lease.state is LeaseState.DRAINING
        beats = len(fake.beats)
        await fake.until(lambda: len(fake.beats) >= beats + 2)
        assert not fake.beats[-1].HasField("ready")
    assert 19_000 < fake.drains[0].deadline_ms <= 20_000


async def test_draining_survives_a_lost_lease(fake: FakeRegistry) -> None:
    async with lease_for(fake) as lease:
        await fake.until(lambda: fake.streams == 1)
        await lease.drain(20.0)
        fake.statuses.append(pb.LEASE_STATUS_EXPIRED)
        await fake.until(lambda: len(fake.drains) == 2)
        assert fake.registered[1].ready is False
        assert fake.drains[1].deadline_ms <= 20_000


async def test_a_lease_that_ends_with_its_drain_deadline_is_closed(fake: FakeRegistry) -> None:
    async with lease_for(fake) as lease:
        await fake.until(lambda: fake.streams == 1)
        await lease.drain(0.05)
        await asyncio.sleep(0.06)
        fake.statuses.append(pb.LEASE_STATUS_EXPIRED)
        await asyncio.wait_for(lease.wait_ended(), 10)
        assert lease.state is LeaseState.CLOSED
    assert len(fake.registered) == 1


async def test_the_drain_directive_is_heeded_once(fake: FakeRegistry) -> None:
    states = States()
    fake.directives.extend([pb.DIRECTIVE_DRAIN] * 100)
    async with lease_for(fake, on_state=states) as lease:
        await states.until(LeaseState.DRAINING)
        beats = len(fake.beats)
        await fake.until(lambda: len(fake.beats) >= beats + 3)
        assert len(fake.drains) == 1
        assert lease.state is LeaseState.DRAINING


async def test_the_reregister_directive_registers_the_same_life_again(fake: FakeRegistry) -> None:
    fake.directives.append(pb.DIRECTIVE_REREGISTER)
    async with lease_for(fake):
        await fake.until(lambda: len(fake.registered) == 2)
        assert fake.registered[0].boot_id == fake.registered[1].boot_id
        assert len(fake.leases) == 1


async def test_leaving_waits_for_the_drain_time(fake: FakeRegistry) -> None:
    lease = lease_for(fake, drain_time=0.3)
    await lease.start()
    await fake.until(lambda: fake.streams == 1)
    began = asyncio.get_running_loop().time()
    beats = len(fake.beats)
    await lease.close()
    assert 0.3 <= asyncio.get_running_loop().time() - began < 1.5
    assert len(fake.beats) > beats
    assert fake.drains[0].deadline_ms >= 600
    assert len(fake.deregistered) == 1


async def test_a_dead_instance_leaves_without_draining(fake: FakeRegistry) -> None:
    lease = lease_for(fake, drain_time=30)
    await lease.start()
    await lease.close(drain=False)
    assert fake.drains == []
    assert len(fake.deregistered) == 1


async def test_leaving_never_hangs_when_the_registry_is_away(fake: FakeRegistry) -> None:
    lease = lease_for(fake, drain_time=0.1)
    await lease.start()
    await fake.stop()
    began = asyncio.get_running_loop().time()
    await lease.close()
    assert asyncio.get_running_loop().time() - began < 5
    assert lease.state is LeaseState.CLOSED


async def test_a_failing_listener_harms_nothing(fake: FakeRegistry) -> None:
    def listener(state: LeaseState, why: str) -> None:
        raise RuntimeError("bug in the user's listener")

    async with lease_for(fake, on_state=listener) as lease:
        await fake.until(lambda: len(fake.beats) >= 1)
        assert lease.state is LeaseState.ACTIVE


async def test_starting_twice_is_refused(fake: FakeRegistry) -> None:
    async with lease_for(fake) as lease:
        with pytest.raises(RegistrationError, match="already started"):
            await lease.start()


@pytest.mark.parametrize("options", [{"weight": -1}, {"labels": {"a": 1}}, {"service": 5, "instance_id": "x"}])
async def test_values_that_fit_no_field_are_refused_before_sending(fake: FakeRegistry, options: Any) -> None:
    with pytest.raises(RegistrationError, match="cannot register"):
        await lease_for(fake, **options).start()
    assert fake.registered == []


@pytest.mark.parametrize("registry", ["", "localhost", "a:b", "::1:7500", "host:0", "host:70000", ":7500"])
def test_a_bad_registry_address_is_named(registry: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Registration(registry, service="cart", address="127.0.0.1:1")
