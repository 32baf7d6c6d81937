"""The gateway's own services on their unix socket, asked by real grpcio clients and grpcurl about real servers."""

from __future__ import annotations

import asyncio
import shutil
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from gateway.admin.learn import V1, V1ALPHA, LearnError, learn
from gateway.admin.services import OwnServices
from gateway.balancing.picker import Picker
from gateway.control.view import InstanceView, MeshView
from gateway.model import READY, TRANSIENT_FAILURE, Endpoint
from gateway.proxy.snapshot import Snapshot, Target
from gateway.routing.table import RouteTable

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
NO_PROXY = [("grpc.enable_http_proxy", 0)]


class Mesh:
    """Own services over a view that the test changes, and real servers to learn from."""

    def __init__(self) -> None:
        self.view = MeshView(synced=True)
        self.endpoints: dict[str, Endpoint] = {}
        self.sets: dict[str, bytes] = {}
        self.own = OwnServices(lambda: self.view, lambda: self.snapshot, self.fetch)
        self.address = ""
        self._servers: list[aio.Server] = []
        self.set()

    async def fetch(self, digest: str) -> bytes:
        return self.sets[digest]

    def set(self, *instances: InstanceView, synced: bool = True) -> None:
        targets: dict[str, Target] = {}
        for one in instances:
            endpoint = self.endpoints.setdefault(
                one.instance_id, Endpoint(one.service, one.instance_id, one.addresses[0], {})
            )
            target = targets.setdefault(one.service, Target(one.service, one.service, Picker(), []))
            if one.ready and not one.draining:
                target.endpoints.append(endpoint)
        self.view = MeshView(instances, frozenset(targets), synced)
        self.snapshot = Snapshot(1, RouteTable([]), targets, {}, {}, synced)
        self.own.notify()

    async def serve(self, *handlers: Any) -> str:
        server = aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers(handlers)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._servers.append(server)
        return f"127.0.0.1:{port}"

    async def stop(self) -> None:
        await self.own.stop()
        for server in self._servers:
            await server.stop(0)


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    running = Mesh()
    running.address = await running.own.start()
    yield running
    await running.stop()


@pytest.fixture
async def channel(mesh: Mesh) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(mesh.address, options=NO_PROXY) as opened:
        yield opened


def files_of(service: str, field: str) -> list[descriptor_pb2.FileDescriptorProto]:
    """shop.<service> in its own file, over a common.proto whose one field differs from service to service."""
    common = descriptor_pb2.FileDescriptorProto(name="common.proto", package="shop", syntax="proto3")
    common.message_type.add(name="Money").field.add(
        name=field,
        number=1,
        type=descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
        label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
    )
    own = descriptor_pb2.FileDescriptorProto(
        name=f"{service.lower()}.proto", package="shop", syntax="proto3", dependency=["common.proto"]
    )
    own.service.add(name=service).method.add(name="Pay", input_type=".shop.Money", output_type=".shop.Money")
    return [common, own]


def reflecting(version: str, service: str, field: str) -> Any:
    """grpcio's own reflection of such a service, under either version's name."""
    pool = descriptor_pool.DescriptorPool()
    for file in files_of(service, field):
        pool.Add(file)  # type: ignore[no-untyped-call]
    servicer = ReflectionServicer([f"shop.{service}", V1ALPHA], pool=pool)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(version, {"ServerReflectionInfo": handler})


def instance(address: str, service: str, *grpc_services: str, **values: Any) -> InstanceView:
    return InstanceView(service, f"{service}-1", (address,), grpc_services, **values)


# Health.


async def test_check_and_list(mesh: Mesh, channel: aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    mesh.set(instance("127.0.0.1:1", "cart", "shop.Cart"), instance("127.0.0.1:2", "orders", ready=False))
    for name, status in (("", SERVING), ("cart", SERVING), ("shop.Cart", SERVING), ("orders", NOT_SERVING)):
        assert (await health.Check(health_pb2.HealthCheckRequest(service=name))).status == status, name
    with pytest.raises(aio.AioRpcError, match="'nobody'") as caught:
        await health.Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    listed = (await health.List(health_pb2.HealthListRequest())).statuses
    assert {name: listed[name].status for name in listed} == {
        "": SERVING,
        **dict.fromkeys(OwnServices.OWN_SERVICES, SERVING),
        "cart": SERVING,
        "shop.Cart": SERVING,
        "orders": NOT_SERVING,
    }
    mesh.set(*(instance(f"127.0.0.1:{number}", f"s{number}") for number in range(1, 98)))
    with pytest.raises(aio.AioRpcError, match="101 names") as caught:
        await health.List(health_pb2.HealthListRequest())
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_watch_follows_the_mesh_and_the_endpoint(mesh: Mesh, channel: aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    watch = health.Watch(health_pb2.HealthCheckRequest(service="cart"))
    async with asyncio.timeout(10):
        assert (await watch.read()).status == SERVICE_UNKNOWN
        mesh.set(instance("127.0.0.1:1", "cart"))
        assert (await watch.read()).status == SERVING
        mesh.set(instance("127.0.0.1:1", "cart", draining=True))
        assert (await watch.read()).status == NOT_SERVING
        mesh.set(instance("127.0.0.1:1", "cart"))
        assert (await watch.read()).status == SERVING
        # Nobody notifies of this one: the watcher looks for itself.
        mesh.endpoints["cart-1"].state = TRANSIENT_FAILURE
        assert (await watch.read()).status == NOT_SERVING
        mesh.endpoints["cart-1"].state = READY
        mesh.own.notify()
        assert (await watch.read()).status == SERVING
        mesh.own.drain()
        assert (await watch.read()).status == NOT_SERVING
    mesh.set(instance("127.0.0.1:1", "cart"))
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING
    watch.cancel()


async def test_the_gateway_itself_serves_once_it_is_synced(mesh: Mesh, channel: aio.Channel) -> None:
    mesh.set(synced=False)
    health = health_pb2_grpc.HealthStub(channel)
    watch = health.Watch(health_pb2.HealthCheckRequest())
    async with asyncio.timeout(10):
        assert (await watch.read()).status == NOT_SERVING
        mesh.set()
        assert (await watch.read()).status == SERVING
    watch.cancel()


async def test_the_socket_is_private_and_goes_away(mesh: Mesh) -> None:
    directory = Path(mesh.address.removeprefix("unix:")).parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    await mesh.own.stop()
    assert not directory.exists()
    await mesh.own.stop()


# Reflection.


class Reflection:
    """One reflection stream of a version, question by question."""

    def __init__(self, channel: aio.Channel, version: str) -> None:
        self.call: Any = channel.stream_stream(
            f"/{version}/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )()

    async def ask(self, **question: str) -> Any:
        async with asyncio.timeout(10):
            await self.call.write(reflection_pb2.ServerReflectionRequest(**question))
            return await self.call.read()

    async def names(self) -> list[str]:
        answer = await self.ask(list_services="")
        return [service.name for service in answer.list_services_response.service]

    async def file(self, symbol: str) -> dict[str, descriptor_pb2.FileDescriptorProto]:
        answer = await self.ask(file_containing_symbol=symbol)
        assert not answer.HasField("error_response"), answer.error_response
        files = map(
            descriptor_pb2.FileDescriptorProto.FromString, answer.file_descriptor_response.file_descriptor_proto
        )
        return {file.name: file for file in files}


@pytest.mark.parametrize("version", [V1, V1ALPHA])
async def test_reflection_is_merged_over_old_and_new_servers(mesh: Mesh, channel: aio.Channel, version: str) -> None:
    old = await mesh.serve(reflecting(V1ALPHA, "Cart", "cents"))
    new = await mesh.serve(reflecting(V1, "Orders", "pennies"))
    mute = await mesh.serve()
    mesh.sets["abc"] = descriptor_pb2.FileDescriptorSet(file=files_of("Stock", "pounds")).SerializeToString()
    mesh.set(
        instance(old, "cart", "shop.Cart"),
        instance(new, "orders"),
        instance(mute, "stock", "shop.Stock", descriptor_digest="abc"),
        instance(mute, "mute", "shop.Mute"),
    )
    stream = Reflection(channel, version)
    expected = ["shop.Cart", "shop.Mute", "shop.Orders", "shop.Stock"]
    assert await stream.names() == sorted([*OwnServices.OWN_SERVICES, *expected])
    for service, field in (("Cart", "cents"), ("Orders", "pennies"), ("Stock", "pounds")):
        files = await stream.file(f"shop.{service}")
        assert set(files) == {f"{service.lower()}.proto", "common.proto"}
        assert files["common.proto"].message_type[0].field[0].name == field
    assert set(await stream.file("grpc.health.v1.Health")) == {"grpc_health/v1/health.proto"}
    error = (await stream.ask(file_containing_symbol="shop.Mute")).error_response
    assert error.error_code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert "'mute' has neither reflection nor a descriptor set" in error.error_message

    # This stream stays with what it saw; the next one sees the mesh as it is then.
    mesh.set(instance(new, "orders"))
    assert "shop.Cart" in await stream.names()
    later = Reflection(channel, version)
    assert await later.names() == sorted([*OwnServices.OWN_SERVICES, "shop.Orders"])
    stream.call.cancel()
    later.call.cancel()


async def test_grpcio_s_own_client_understands_it(mesh: Mesh) -> None:
    address = await mesh.serve(reflecting(V1ALPHA, "Cart", "cents"))
    mesh.set(instance(address, "cart"))

    def look() -> tuple[list[str], str]:
        with grpc.insecure_channel(mesh.address, options=NO_PROXY) as blocking:
            database = ProtoReflectionDescriptorDatabase(blocking)
            pool = descriptor_pool.DescriptorPool(database)
            found = pool.FindServiceByName("shop.Cart")  # type: ignore[no-untyped-call]
            return list(database.get_services()), found.methods[0].input_type.full_name

    services, request_type = await asyncio.to_thread(look)
    assert "shop.Cart" in services
    assert request_type == "shop.Money"


async def test_an_instance_that_cannot_be_reached_is_told(mesh: Mesh, channel: aio.Channel) -> None:
    mesh.set(instance("127.0.0.1:1", "cart", "shop.Cart"))
    stream = Reflection(channel, V1)
    assert "shop.Cart" in await stream.names()
    error = (await stream.ask(file_containing_symbol="shop.Cart")).error_response
    assert "'cart' could not be asked at 127.0.0.1:1" in error.error_message
    stream.call.cancel()


async def test_an_instance_that_never_answers_is_left(mesh: Mesh) -> None:
    async def silent(requests: Any, context: Any) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield

    handler = grpc.stream_stream_rpc_method_handler(silent)
    address = await mesh.serve(grpc.method_handlers_generic_handler(V1, {"ServerReflectionInfo": handler}))
    with pytest.raises(LearnError, match=r"within 0\.1 s"):
        await learn(address, [], timeout=0.1)


async def test_extensions_are_learned_too(mesh: Mesh, channel: aio.Channel) -> None:
    pool = descriptor_pool.DescriptorPool()
    base = descriptor_pb2.FileDescriptorProto(name="base.proto", package="shop", syntax="proto2")
    base.message_type.add(name="Money").extension_range.add(start=100, end=200)
    base.service.add(name="Cart").method.add(name="Pay", input_type=".shop.Money", output_type=".shop.Money")
    more = descriptor_pb2.FileDescriptorProto(
        name="more.proto", package="shop", syntax="proto2", dependency=["base.proto"]
    )
    more.extension.add(
        name="note",
        number=100,
        extendee=".shop.Money",
        type=descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
        label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
    )
    for file in (base, more):
        pool.Add(file)  # type: ignore[no-untyped-call]
    # A pool knows the extensions of the files that it has built.
    pool.FindFileByName("more.proto")  # type: ignore[no-untyped-call]
    servicer = ReflectionServicer(["shop.Cart"], pool=pool)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    address = await mesh.serve(grpc.method_handlers_generic_handler(V1, {"ServerReflectionInfo": handler}))
    mesh.set(instance(address, "cart"))
    stream = Reflection(channel, V1)
    numbers = (await stream.ask(all_extension_numbers_of_type="shop.Money")).all_extension_numbers_response
    assert list(numbers.extension_number) == [100]
    assert set(await stream.file("shop.note")) == {"more.proto", "base.proto"}
    stream.call.cancel()


@pytest.mark.skipif(
    not shutil.which("grpcurl"),
    reason="no grpcurl on PATH: go install github.com/fullstorydev/grpcurl/cmd/grpcurl@latest",
)
async def test_grpcurl_lists_describes_and_checks(mesh: Mesh) -> None:
    address = await mesh.serve(reflecting(V1ALPHA, "Cart", "cents"))
    mesh.set(instance(address, "cart"), instance(await mesh.serve(), "mute", "shop.Mute"))
    socket = mesh.address.removeprefix("unix:")

    async def grpcurl(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            "grpcurl", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        async with asyncio.timeout(20):
            output, _nothing = await process.communicate()
        return process.returncode or 0, output.decode()

    code, listed = await grpcurl("-plaintext", "-unix", socket, "list")
    assert code == 0, listed
    assert listed.split() == sorted([*OwnServices.OWN_SERVICES, "shop.Cart", "shop.Mute"])
    code, described = await grpcurl("-plaintext", "-unix", socket, "describe", "shop.Cart")
    assert "rpc Pay ( .shop.Money ) returns ( .shop.Money );" in described
    code, described = await grpcurl("-plaintext", "-unix", socket, "describe", "shop.Mute")
    assert code != 0
    assert "shop.Mute" in described
    code, checked = await grpcurl(
        "-plaintext", "-unix", "-d", '{"service": "cart"}', socket, "grpc.health.v1.Health/Check"
    )
    assert '"status": "SERVING"' in checked, checked
