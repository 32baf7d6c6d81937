"""Every bad input and state against a real server, with a real client: the code, and the reason in the details."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status.rpc_status import from_call
from meshway.registry.v1 import registry_pb2 as pb
from meshway.registry.v1 import registry_pb2_grpc

from registry.model import Batch
from registry.server import RegistryOptions, RegistryServer
from registry.store.base import StoreFullError
from registry.store.memory import MemoryStore

Code = grpc.StatusCode


class FailingStore(MemoryStore):
    """Fails with ``error`` while it is set."""

    def __init__(self) -> None:
        super().__init__(b"e" * 16)
        self.error: Exception | None = None

    async def commit(self, batch: Batch) -> None:
        if self.error is not None:
            raise self.error


@pytest.fixture
def store() -> FailingStore:
    return FailingStore()


@pytest.fixture
async def server(store: FailingStore) -> AsyncIterator[RegistryServer]:
    options = RegistryOptions(listen="127.0.0.1:0", min_ttl_ms=1000, write_progress_seconds=0.3, grace_seconds=0.5)
    server = RegistryServer(options, store)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def stub(server: RegistryServer) -> AsyncIterator[registry_pb2_grpc.RegistryStub]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield registry_pb2_grpc.RegistryStub(channel)


def registration(instance_id: str = "a", by: str = "A", address: str = "127.0.0.1:80", **fields) -> pb.RegisterRequest:
    spec = pb.InstanceSpec(service="cart", instance_id=instance_id, addresses=[address])
    return pb.RegisterRequest(instance=spec, boot_id=by.encode() * 16, **fields)


class Refusal:
    """What a client sees of a failed call."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code, self.text = error.code(), error.details()
        status = from_call(_AsCall(error))
        assert status is not None, f"no details with {self.code} {self.text}"
        self.details: dict[str, object] = {}
        for packed in status.details:
            detail = getattr(error_details_pb2, packed.TypeName().rpartition(".")[2])()
            assert packed.Unpack(detail)
            self.details[packed.TypeName().rpartition(".")[2]] = detail
        info = self.details["ErrorInfo"]
        assert info.domain == "meshway.registry"
        self.reason, self.metadata = info.reason, dict(info.metadata)

    @property
    def field(self) -> str:
        return self.details["BadRequest"].field_violations[0].field

    @property
    def retry_ms(self) -> int:
        return self.details["RetryInfo"].retry_delay.ToMilliseconds()


class _AsCall:
    """grpc_status reads a call; an error of grpc.aio has the same three facts."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code, self.details, self.trailing_metadata = error.code, error.details, error.trailing_metadata


async def refused(call) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return Refusal(caught.value)


async def ended(stream) -> Refusal:
    """Read a stream to its end, which is a refusal."""
    return await refused(_to_the_end(stream))


async def _to_the_end(stream) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.RegisterRequest(), "boot_id"),
        (registration(instance_id=""), "instance.instance_id"),
        (registration(instance_id="i" * 129), "instance.instance_id"),
        (registration(instance_id="a b"), "instance.instance_id"),
        (registration(address="10.0.0.1:0"), "instance.addresses[0]"),
        (registration(address="10.0.0.1:65536"), "instance.addresses[0]"),
        (registration(address="0.0.0.0:80"), "instance.addresses[0]"),
        (registration(address="[ff02::1]:80"), "instance.addresses[0]"),
        (registration(ttl_ms=0), "ttl_ms"),
        (registration(ttl_ms=-5), "ttl_ms"),
    ],
)
async def test_a_bad_field(stub, request_, field):
    refusal = await refused(stub.Register(request_))
    assert (refusal.code, refusal.reason, refusal.field) == (Code.INVALID_ARGUMENT, "INVALID_FIELD", field)
    assert field in refusal.text


async def test_bad_fields_of_the_other_calls(stub):
    for call in (
        stub.Update(pb.UpdateRequest(lease_id=b"l" * 16)),
        stub.Drain(pb.DrainRequest(lease_id=b"l" * 16, deadline_ms=-1)),
        stub.KeepAliveOnce(pb.KeepAliveRequest(beats=[pb.Beat()] * 1001)),
        stub.Resolve(pb.ResolveRequest()),
        stub.Resolve(pb.ResolveRequest(service="a", min_revision=-1)),
        stub.ListServices(pb.ListServicesRequest(namespace="a/b")),
        stub.GetDescriptorSet(pb.GetDescriptorSetRequest(digest="short")),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
        assert refusal.field
    refusal = await ended(stub.Watch(pb.WatchRequest(services=[f"s{n}" for n in range(65)])))
    assert (refusal.code, refusal.field) == (Code.INVALID_ARGUMENT, "services")


async def test_too_many_beats_end_the_stream(stub):
    stream = stub.KeepAlive()
    await stream.write(pb.KeepAliveRequest(beats=[pb.Beat()] * 1001))
    refusal = await ended(stream)
    assert (refusal.code, refusal.field) == (Code.INVALID_ARGUMENT, "beats")


async def test_a_local_address_of_a_remote_peer(stub, monkeypatch):
    monkeypatch.setattr("registry.servicer.is_local_peer", lambda peer: False)
    refusal = await refused(stub.Register(registration()))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "ADDRESS_NOT_REACHABLE")
    assert refusal.field == "instance.addresses[0]"


async def test_a_reused_request_id(stub):
    first = await stub.Register(registration("a", request_id="one"))
    assert await stub.Register(registration("a", request_id="one")) == first
    refusal = await refused(stub.Register(registration("b", request_id="one")))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "REQUEST_ID_REUSED")


async def test_a_message_over_size(stub):
    too_large = pb.RegisterRequest(instance=pb.InstanceSpec(descriptor_set=b"x" * 1_100_000))
    refusal = await refused(stub.Register(too_large))
    assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Register(pb.RegisterRequest(instance=pb.InstanceSpec(descriptor_set=b"x" * 5_000_000)))
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("method", ["Register", "Update", "Resolve", "ListServices", "KeepAliveOnce"])
async def test_bytes_that_are_no_message(server, method):
    async with grpc.aio.insecure_channel(server.address) as channel:
        call = channel.unary_unary(f"/meshway.registry.v1.Registry/{method}")
        refusal = await refused(call(b"\xff\xff\xff"))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "MALFORMED_MESSAGE")


async def test_a_method_that_does_not_exist(server):
    async with grpc.aio.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/meshway.registry.v1.Registry/Nothing")(b"")
    assert caught.value.code() is Code.UNIMPLEMENTED


@pytest.mark.parametrize("lease_id", [b"", b"short", b"?" * 16, b"x" * 1000])
async def test_a_lease_that_nobody_granted(stub, lease_id):
    for call in (
        stub.Update(pb.UpdateRequest(lease_id=lease_id, fields=["ready"])),
        stub.Drain(pb.DrainRequest(lease_id=lease_id)),
        stub.Deregister(pb.DeregisterRequest(lease_id=lease_id)),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (Code.NOT_FOUND, "LEASE_UNKNOWN")
    reply = await stub.KeepAliveOnce(pb.KeepAliveRequest(beats=[pb.Beat(lease_id=lease_id)]))
    assert [(r.status, r.directive) for r in reply.results] == [(pb.LEASE_STATUS_UNKNOWN, pb.DIRECTIVE_REREGISTER)]


async def test_a_lease_of_another_epoch(stub):
    granted = await stub.Register(registration())
    beats = [pb.Beat(lease_id=granted.lease_id)]
    reply = await stub.KeepAliveOnce(pb.KeepAliveRequest(beats=beats, epoch=b"x" * 16))
    assert [result.status for result in reply.results] == [pb.LEASE_STATUS_UNKNOWN_EPOCH]
    reply = await stub.KeepAliveOnce(pb.KeepAliveRequest(beats=beats, epoch=granted.revision.epoch))
    assert [result.status for result in reply.results] == [pb.LEASE_STATUS_OK]


async def test_an_expired_lease(stub):
    watch = stub.Watch(pb.WatchRequest())
    granted = await stub.Register(registration(ttl_ms=1000))
    while not (message := await watch.read()).delta.removals:
        pass
    assert [removal.reason for removal in message.delta.removals] == [pb.REMOVAL_REASON_EXPIRED]
    refusal = await refused(stub.Drain(pb.DrainRequest(lease_id=granted.lease_id)))
    assert (refusal.code, refusal.reason) == (Code.NOT_FOUND, "LEASE_EXPIRED")
    reply = await stub.KeepAliveOnce(pb.KeepAliveRequest(beats=[pb.Beat(lease_id=granted.lease_id)]))
    assert reply.results[0].status == pb.LEASE_STATUS_EXPIRED
    assert (await stub.Deregister(pb.DeregisterRequest(lease_id=granted.lease_id))).already_gone
    watch.cancel()


async def test_a_lease_that_was_taken_over(stub):
    old = await stub.Register(registration(by="A"))
    new = await stub.Register(registration(by="B"))
    assert new.incarnation == old.incarnation + 1
    refusal = await refused(stub.Update(pb.UpdateRequest(lease_id=old.lease_id, fields=["ready"])))
    assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, "SUPERSEDED")
    reply = await stub.KeepAliveOnce(pb.KeepAliveRequest(beats=[pb.Beat(lease_id=old.lease_id)]))
    assert (reply.results[0].status, reply.results[0].directive) == (pb.LEASE_STATUS_SUPERSEDED, 0)
    assert (await stub.Deregister(pb.DeregisterRequest(lease_id=old.lease_id))).already_gone
    assert len((await stub.Resolve(pb.ResolveRequest(service="cart"))).ready) == 1


async def test_a_live_duplicate(stub):
    await stub.Register(registration(by="A"))
    refusal = await refused(stub.Register(registration(by="B", address="127.0.0.1:81")))
    assert (refusal.code, refusal.reason) == (Code.ALREADY_EXISTS, "INSTANCE_LIVE")
    assert refusal.retry_ms > 0


async def test_a_revision_conflict(stub):
    granted = await stub.Register(registration())
    request = pb.UpdateRequest(lease_id=granted.lease_id, fields=["ready"], if_revision=99)
    refusal = await refused(stub.Update(request))
    assert (refusal.code, refusal.reason) == (Code.ABORTED, "REVISION_CONFLICT")
    assert refusal.metadata == {"revision": "1"}


async def test_an_unknown_service_and_descriptor_set(stub):
    refusal = await refused(stub.Resolve(pb.ResolveRequest(service="nothing")))
    assert (refusal.code, refusal.reason) == (Code.NOT_FOUND, "SERVICE_UNKNOWN")
    assert "nothing" in refusal.text
    refusal = await refused(stub.GetDescriptorSet(pb.GetDescriptorSetRequest(digest="0" * 64)))
    assert (refusal.code, refusal.reason) == (Code.NOT_FOUND, "DESCRIPTOR_UNKNOWN")


async def test_a_revision_that_is_not_reached_in_time(stub):
    refusal = await refused(stub.Resolve(pb.ResolveRequest(service="cart", min_revision=99), timeout=0.5))
    assert (refusal.code, refusal.reason) == (Code.DEADLINE_EXCEEDED, "REVISION_NOT_REACHED")


async def test_a_quota(stub, monkeypatch):
    monkeypatch.setattr("registry.rules.MAX_LEASES_PER_SERVICE", 1)
    await stub.Register(registration("a"))
    refusal = await refused(stub.Register(registration("b")))
    assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, "QUOTA")


async def test_a_full_store(stub, store):
    granted = await stub.Register(registration())
    store.error = StoreFullError("disk full")
    refusal = await refused(stub.Register(registration("b")))
    assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, "STORE_FULL")
    reply = await stub.KeepAliveOnce(pb.KeepAliveRequest(beats=[pb.Beat(lease_id=granted.lease_id, ready=False)]))
    assert reply.results[0].status == pb.LEASE_STATUS_OK
    assert len((await stub.Resolve(pb.ResolveRequest(service="cart"))).ready) == 1


async def test_a_bug_is_internal_and_tells_nothing(stub, store, caplog):
    store.error = RuntimeError("secret detail")
    refusal = await refused(stub.Register(registration()))
    assert (refusal.code, refusal.reason) == (Code.INTERNAL, "INTERNAL")
    assert "secret" not in refusal.text
    assert "Traceback" not in refusal.text
    assert "secret detail" in caplog.text
    store.error = None
    await stub.Register(registration())


async def test_shutting_down(server, stub):
    granted = await stub.Register(registration())
    beats, watch = stub.KeepAlive(), stub.Watch(pb.WatchRequest())
    await beats.write(pb.KeepAliveRequest(beats=[pb.Beat(lease_id=granted.lease_id)]))
    await beats.read()
    await watch.read()
    stopping = asyncio.create_task(server.stop())
    for stream in (beats, watch):
        refusal = await ended(stream)
        assert (refusal.code, refusal.reason) == (Code.UNAVAILABLE, "NOT_READY")
        assert refusal.retry_ms > 0
    await stopping


async def test_a_watcher_that_does_not_read(server, stub):
    async with grpc.aio.insecure_channel(server.address, options=[("grpc.http2.lookahead_bytes", 65_536)]) as channel:
        slow = registry_pb2_grpc.RegistryStub(channel).Watch(pb.WatchRequest())
        await slow.read()
        rng = random.Random(3)
        for number in itertools.count():
            request = registration(f"i{number % 200}")
            request.instance.labels["k"] = f"{rng.getrandbits(50_000):x}"
            await stub.Register(request)
            if server.stats().watchers == 0:
                break
            assert number < 20_000
        refusal = await ended(slow)
    assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, "SLOW_CONSUMER")
