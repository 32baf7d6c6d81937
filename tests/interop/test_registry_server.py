"""The registry as a whole: streams, health, reflection, and a real process that is stopped and ended by signals."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from meshway.registry.v1 import registry_pb2 as pb
from meshway.registry.v1 import registry_pb2_grpc

from registry.errors import ListenError
from registry.server import RegistryOptions, RegistryServer

SERVICE = "meshway.registry.v1.Registry"

PROGRAM = """
import asyncio, sys
from registry.server import RegistryOptions, serve_registry
options = RegistryOptions(listen=sys.argv[1], min_ttl_ms=1000)
sys.exit(asyncio.run(serve_registry(options, ready=lambda address: print(address, flush=True))))
"""


@pytest.fixture
async def server() -> AsyncIterator[RegistryServer]:
    server = RegistryServer(RegistryOptions(listen="127.0.0.1:0", min_ttl_ms=1000))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def channel(server: RegistryServer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> registry_pb2_grpc.RegistryStub:
    return registry_pb2_grpc.RegistryStub(channel)


def registration(instance_id: str = "a", by: str = "A", service: str = "cart", **fields) -> pb.RegisterRequest:
    spec = pb.InstanceSpec(service=service, instance_id=instance_id, addresses=["127.0.0.1:80"], **fields)
    return pb.RegisterRequest(instance=spec, boot_id=by.encode() * 16)


async def test_the_life_of_an_instance_as_a_watcher_sees_it(stub):
    watch = stub.Watch(pb.WatchRequest())
    end = (await watch.read()).snapshot_end
    assert end.revision.number == 0
    assert len(end.revision.epoch) == 16
    assert end.warming
    request = registration(labels={"v": "2"}, grpc_services=["shop.Cart"], weight=3)
    granted = await stub.Register(request)
    delta = (await watch.read()).delta
    [instance] = delta.upserts
    assert (delta.prev_revision, delta.revision) == (0, 1)
    assert instance.namespace == "default"
    assert instance.labels == {"v": "2"}
    assert instance.grpc_services == ["shop.Cart"]
    assert (instance.weight, instance.incarnation, instance.revision) == (3, 1, 1)
    assert instance.state == pb.INSTANCE_STATE_READY
    update = pb.UpdateRequest(lease_id=granted.lease_id, fields=["ready"], not_ready_reason="db away")
    assert (await stub.Update(update)).changed
    assert not (await stub.Update(update)).changed
    [instance] = (await watch.read()).delta.upserts
    assert (instance.state, instance.not_ready_reason) == (pb.INSTANCE_STATE_NOT_READY, "db away")
    drained = await stub.Drain(pb.DrainRequest(lease_id=granted.lease_id, deadline_ms=5000))
    assert 4900 <= drained.deadline_ms <= 5000
    [instance] = (await watch.read()).delta.upserts
    assert instance.state == pb.INSTANCE_STATE_DRAINING
    assert 4000 < instance.drain_remaining_ms <= 5000
    assert not (await stub.Deregister(pb.DeregisterRequest(lease_id=granted.lease_id))).already_gone
    delta = (await watch.read()).delta
    [removal] = delta.removals
    assert (removal.instance_id, removal.incarnation) == ("a", 1)
    assert removal.reason == pb.REMOVAL_REASON_DEREGISTERED
    assert delta.revision == 4
    watch.cancel()


async def test_a_watch_resumes_where_it_stopped(stub):
    await stub.Register(registration("a"))
    second = await stub.Register(registration("b"))
    resume = pb.Revision(epoch=second.revision.epoch, number=1)
    watch = stub.Watch(pb.WatchRequest(resume=resume))
    delta = (await watch.read()).delta
    assert (delta.prev_revision, delta.revision) == (1, 2)
    assert [instance.instance_id for instance in delta.upserts] == ["b"]
    assert (await watch.read()).progress.revision.number == 2
    watch.cancel()


async def test_a_watch_that_cannot_resume_is_reset_on_the_same_stream(stub):
    granted = await stub.Register(registration("a"))
    resumes = {
        pb.RESET_REASON_FUTURE: pb.Revision(epoch=granted.revision.epoch, number=99),
        pb.RESET_REASON_FOREIGN_EPOCH: pb.Revision(epoch=b"x" * 16, number=1),
    }
    for reason, resume in resumes.items():
        watch = stub.Watch(pb.WatchRequest(resume=resume))
        assert (await watch.read()).reset.reason == reason
        assert [instance.instance_id for instance in (await watch.read()).snapshot.instances] == ["a"]
        assert (await watch.read()).snapshot_end.known_services == ["default/cart"]
        watch.cancel()


async def test_a_filtered_watch_and_the_end_of_a_watch(server, stub):
    await stub.Register(registration("a", service="cart"))
    await stub.Register(registration("b", service="mail"))
    watch = stub.Watch(pb.WatchRequest(services=["mail"]))
    assert [instance.service for instance in (await watch.read()).snapshot.instances] == ["mail"]
    assert (await watch.read()).snapshot_end.known_services == ["default/mail"]
    assert server.stats().watchers == 1
    watch.cancel()
    for _ in range(100):
        if server.stats().watchers == 0:
            break
        await asyncio.sleep(0.01)
    assert server.stats().watchers == 0


async def test_a_thousand_leases_in_one_message_and_lost_ones_among_them(stub):
    granted = [await stub.Register(registration(f"i{number}")) for number in range(10)]
    await stub.Deregister(pb.DeregisterRequest(lease_id=granted[3].lease_id))
    ids = [granted[number % 10].lease_id for number in range(1000)]
    stream = stub.KeepAlive()
    for _ in range(2):  # a lost lease does not end the stream
        await stream.write(pb.KeepAliveRequest(beats=[pb.Beat(lease_id=lease_id) for lease_id in ids]))
        reply = await stream.read()
        assert [result.lease_id for result in reply.results] == ids
        for number, result in enumerate(reply.results):
            lost = number % 10 == 3
            assert result.status == (pb.LEASE_STATUS_UNKNOWN if lost else pb.LEASE_STATUS_OK)
            assert (result.remaining_ms > 14_000) != lost
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK


async def test_a_draining_lease_is_told_so(stub):
    granted = await stub.Register(registration())
    await stub.Drain(pb.DrainRequest(lease_id=granted.lease_id))
    reply = await stub.KeepAliveOnce(pb.KeepAliveRequest(beats=[pb.Beat(lease_id=granted.lease_id)]))
    assert reply.results[0].directive == pb.DIRECTIVE_DRAIN


async def test_resolve_waits_for_the_revision_it_is_told(stub):
    granted = await stub.Register(registration("a"))
    waiting = stub.Resolve(pb.ResolveRequest(service="cart", min_revision=2), timeout=5.0)
    lease = (await stub.Register(registration("b"))).lease_id
    answer = await waiting
    assert sorted(instance.instance_id for instance in answer.ready) == ["a", "b"]
    await stub.Drain(pb.DrainRequest(lease_id=lease))
    await stub.KeepAliveOnce(pb.KeepAliveRequest(beats=[pb.Beat(lease_id=granted.lease_id, ready=False)]))
    answer = await stub.Resolve(pb.ResolveRequest(service="cart", min_revision=4))
    assert [instance.instance_id for instance in answer.draining] == ["b"]
    assert [instance.instance_id for instance in answer.not_ready] == ["a"]
    assert answer.warming


async def test_services_are_listed_with_counts_also_when_empty(stub):
    await stub.Register(registration("a", grpc_services=["shop.Cart"]))
    lease = (await stub.Register(registration("b", service="mail"))).lease_id
    await stub.Deregister(pb.DeregisterRequest(lease_id=lease))
    answer = await stub.ListServices(pb.ListServicesRequest())
    assert [(s.service, s.ready, list(s.grpc_services)) for s in answer.services] == [
        ("cart", 1, ["shop.Cart"]),
        ("mail", 0, []),
    ]
    answer = await stub.Resolve(pb.ResolveRequest(service="mail"))
    assert answer.last_seen_ms_ago > 0
    assert not answer.ready


async def test_a_descriptor_set_comes_back_by_its_digest(stub):
    serialized = descriptor_pb2.FileDescriptorSet(file=[{"name": "a.proto"}]).SerializeToString()
    await stub.Register(registration(descriptor_set=serialized))
    [instance] = (await stub.Resolve(pb.ResolveRequest(service="cart"))).ready
    answer = await stub.GetDescriptorSet(pb.GetDescriptorSetRequest(digest=instance.descriptor_digest))
    assert answer.descriptor_set == serialized


async def test_health(server, channel):
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", SERVICE):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    stopping = asyncio.create_task(server.stop())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()
    await stopping


@pytest.mark.parametrize("version", ["v1alpha", "v1"])
async def test_reflection(channel, version):
    method = f"grpc.reflection.{version}.ServerReflection"
    call = channel.stream_stream(
        f"/{method}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    names = [service.name for service in (await call.read()).list_services_response.service]
    assert names == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        SERVICE,
    ]
    for name in names:  # every listed service can be described
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name))
        [serialized] = (await call.read()).file_descriptor_response.file_descriptor_proto
        file = descriptor_pb2.FileDescriptorProto.FromString(serialized)
        assert name in [f"{file.package}.{service.name}" for service in file.service]
    await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.Such"))
    assert (await call.read()).error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_an_address_in_use_is_named(server):
    with pytest.raises(ListenError, match=rf"{server.address}.*in use"):
        await RegistryServer(RegistryOptions(listen=server.address)).start()


@pytest.mark.parametrize("listen", ["", "7500", "127.0.0.1", "127.0.0.1:99999", "::1:7500", "host.invalid:7500"])
async def test_an_address_that_cannot_be_had_is_named(listen):
    with pytest.raises(ListenError, match=f"cannot listen on {listen}"):
        await RegistryServer(RegistryOptions(listen=listen)).start()


async def test_a_server_can_be_stopped_twice_or_before_it_started():
    server = RegistryServer(RegistryOptions(listen="127.0.0.1:0"))
    await server.stop()
    await server.start()
    await server.stop()
    await server.stop()


def test_options_that_contradict_themselves():
    with pytest.raises(ValueError, match="min_ttl_ms"):
        RegistryOptions(min_ttl_ms=2000, max_ttl_ms=1000)


class Process:
    """A registry in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.process, self.address = process, address

    @classmethod
    async def start(cls) -> "Process":
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, "127.0.0.1:0", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        return cls(process, (await process.stdout.readline()).decode().strip())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_process_cleanly(number):
    registry = await Process.start()
    async with grpc.aio.insecure_channel(registry.address) as channel:
        watch = registry_pb2_grpc.RegistryStub(channel).Watch(pb.WatchRequest())
        await watch.read()
        registry.process.send_signal(number)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    _, errors = await asyncio.wait_for(registry.process.communicate(), 5.0)
    assert registry.process.returncode == 0
    assert errors == b""
    host, port = registry.address.split(":")
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0


async def test_a_stopped_process_loses_no_live_lease():
    """Stop the registry for twice the lifetime of its leases: whoever still beats keeps them, whoever died loses."""
    registry = await Process.start()
    try:
        async with grpc.aio.insecure_channel(registry.address) as channel:
            stub = registry_pb2_grpc.RegistryStub(channel)
            request = registration("live")
            request.ttl_ms = 1000
            live = await stub.Register(request)
            request.instance.instance_id = "dead"
            await stub.Register(request)
            beat = pb.KeepAliveRequest(beats=[pb.Beat(lease_id=live.lease_id)])
            registry.process.send_signal(signal.SIGSTOP)
            waiting = asyncio.ensure_future(stub.KeepAliveOnce(beat))
            await asyncio.sleep(2.0)
            registry.process.send_signal(signal.SIGCONT)
            assert (await waiting).results[0].status == pb.LEASE_STATUS_OK
            for _ in range(50):
                assert (await stub.KeepAliveOnce(beat)).results[0].status == pb.LEASE_STATUS_OK
                answer = await stub.Resolve(pb.ResolveRequest(service="cart"))
                left = [instance.instance_id for instance in (*answer.ready, *answer.suspect)]
                assert "live" in left
                if left == ["live"]:
                    break
                await asyncio.sleep(0.1)
            assert left == ["live"]
    finally:
        registry.process.kill()
        await registry.process.communicate()
