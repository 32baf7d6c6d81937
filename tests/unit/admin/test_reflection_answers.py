"""Descriptor pools, the library that fills them, and the answers of one reflection stream; nothing is dialled."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2

from gateway.admin import library as library_module
from gateway.admin.descriptors import FilePool, FileProto, extendable_messages, missing_imports
from gateway.admin.learn import V1, V1ALPHA, Learned, LearnError
from gateway.admin.library import RELEARN_AFTER_S, Entry, Library
from gateway.admin.reflection import HEALTH, OWN_SERVICES, MeshReflection, own_pool
from gateway.control.view import InstanceView, MeshView

Request = reflection_pb2.ServerReflectionRequest
OPTIONAL = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
INT32 = descriptor_pb2.FieldDescriptorProto.TYPE_INT32


def money(field: str) -> FileProto:
    file = FileProto(name="common.proto", package="shop", syntax="proto2")
    message = file.message_type.add(name="Money")
    message.field.add(name=field, number=1, type=INT32, label=OPTIONAL)
    message.extension_range.add(start=100, end=200)
    message.nested_type.add(name="Part").enum_type.add(name="Kind").value.add(name="ROUND", number=0)
    message.oneof_decl.add(name="choice")
    return file


def api(service: str, number: int = 100) -> FileProto:
    file = FileProto(name=f"{service.lower()}.proto", package="shop", syntax="proto2", dependency=["common.proto"])
    file.service.add(name=service).method.add(name="Pay", input_type=".shop.Money", output_type=".shop.Money")
    file.extension.add(
        name=f"{service.lower()}_note", number=number, extendee=".shop.Money", type=INT32, label=OPTIONAL
    )
    return file


def entry(service: str, grpc_service: str, field: str) -> Entry:
    return Entry(service, [f"shop.{grpc_service}"], FilePool(service, [api(grpc_service), money(field)]), "")


def names(response: Any) -> list[str]:
    return [FileProto.FromString(content).name for content in response.file_descriptor_response.file_descriptor_proto]


def money_field(response: Any) -> str:
    files = [FileProto.FromString(content) for content in response.file_descriptor_response.file_descriptor_proto]
    return next(file for file in files if file.name == "common.proto").message_type[0].field[0].name


def test_pool_indexes_every_kind_of_symbol() -> None:
    pool = FilePool("cart", [api("Cart"), money("cents")])
    for symbol in ("shop.Cart", "shop.Cart.Pay", "shop.cart_note"):
        assert pool.file_of_symbol(symbol) == "cart.proto"
    for symbol in ("Money", "Money.cents", "Money.Part", "Money.Part.Kind", "Money.Part.ROUND", "Money.choice"):
        assert pool.file_of_symbol(f"shop.{symbol}") == "common.proto"
    assert pool.file_of_symbol("shop.Nothing") is None
    assert pool.services == ["shop.Cart"]
    assert pool.file_of_extension("shop.Money", 100) == "cart.proto"
    assert pool.extension_numbers("shop.Money") == [100]
    assert pool.extension_numbers("shop.Money.Part") == []
    assert pool.extension_numbers("shop.Nothing") is None
    assert pool.size == len(api("Cart").SerializeToString()) + len(money("cents").SerializeToString())


def test_imports_come_along_once_and_cycles_end() -> None:
    loop = [FileProto(name="a", dependency=["b", "gone"]), FileProto(name="b", dependency=["a"])]
    assert [FileProto.FromString(content).name for content in FilePool("x", loop).with_imports("a")] == ["a", "b"]
    assert missing_imports(loop, ["a", "b"]) == ["gone"]


def test_only_extendable_messages_of_others_are_asked_for() -> None:
    options = FileProto(name="google/protobuf/descriptor.proto", package="google.protobuf")
    options.message_type.add(name="MethodOptions").extension_range.add(start=1000, end=2000)
    assert extendable_messages([money("x"), options]) == ["shop.Money"]


def test_list_merges_and_names_the_gateway_s_own() -> None:
    mesh = MeshReflection(own_pool(), [entry("cart", "Cart", "cents"), Entry("dumb", ["shop.Dumb"], None, "is mute")])
    listed = mesh.answer(Request(list_services="*")).list_services_response.service
    assert [service.name for service in listed] == sorted([*OWN_SERVICES, "shop.Cart", "shop.Dumb"])


def test_each_stream_stays_with_the_pool_it_got_an_answer_from() -> None:
    entries = [entry("cart", "Cart", "cents"), entry("orders", "Orders", "pennies")]
    mesh = MeshReflection(own_pool(), entries)
    first = mesh.answer(Request(file_containing_symbol="shop.Orders", host="gw"))
    assert names(first) == ["orders.proto", "common.proto"]
    assert money_field(first) == "pennies"
    assert first.valid_host == "gw"
    assert first.original_request.file_containing_symbol == "shop.Orders"
    assert money_field(mesh.answer(Request(file_by_filename="common.proto"))) == "pennies"
    assert money_field(mesh.answer(Request(file_containing_symbol="shop.Money"))) == "pennies"
    assert money_field(mesh.answer(Request(file_containing_symbol=".shop.Cart.Pay"))) == "cents"
    assert money_field(mesh.answer(Request(file_by_filename="common.proto"))) == "cents"


def test_a_service_that_serves_a_symbol_outranks_one_that_only_has_its_file() -> None:
    both = FilePool("aaa", [api("Cart"), api("Orders"), money("stale")])
    entries = [Entry("aaa", ["shop.Orders"], both, ""), entry("cart", "Cart", "cents")]
    answer = MeshReflection(own_pool(), entries).answer(Request(file_containing_symbol="shop.Cart"))
    assert money_field(answer) == "cents"


def test_extensions() -> None:
    mesh = MeshReflection(own_pool(), [entry("cart", "Cart", "cents")])
    wanted = reflection_pb2.ExtensionRequest(containing_type="shop.Money", extension_number=100)
    assert names(mesh.answer(Request(file_containing_extension=wanted))) == ["cart.proto", "common.proto"]
    numbers = mesh.answer(Request(all_extension_numbers_of_type="shop.Money")).all_extension_numbers_response
    assert (numbers.base_type_name, list(numbers.extension_number)) == ("shop.Money", [100])
    wanted.extension_number = 5
    assert "number 5" in mesh.answer(Request(file_containing_extension=wanted)).error_response.error_message


@pytest.mark.parametrize(
    "request_",
    [
        Request(file_containing_symbol="no.Such"),
        Request(file_by_filename="no.proto"),
        Request(all_extension_numbers_of_type="no.Such"),
    ],
)
def test_what_is_unknown_is_not_found(request_: Any) -> None:
    error = MeshReflection(own_pool(), []).answer(request_).error_response
    assert error.error_code == 5
    assert "no" in error.error_message


def test_an_empty_request_is_invalid() -> None:
    assert MeshReflection(own_pool(), []).answer(Request(host="x")).error_response.error_code == 3


def test_a_service_without_descriptors_is_named_with_what_to_do() -> None:
    mesh = MeshReflection(own_pool(), [Entry("dumb", ["shop.Dumb"], None, "has neither reflection nor a set")])
    for symbol in ("shop.Dumb", "shop.Dumb.Say"):
        error = mesh.answer(Request(file_containing_symbol=symbol)).error_response
        assert error.error_code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
        assert "Service 'dumb' has neither reflection" in error.error_message
        assert "--descriptor_set_out" in error.error_message


@pytest.mark.parametrize("symbol", [*OWN_SERVICES, "grpc.reflection.v1.ServerReflectionRequest"])
def test_own_files_are_complete(symbol: str) -> None:
    answer = MeshReflection(own_pool(), []).answer(Request(file_containing_symbol=symbol))
    pool = descriptor_pool.DescriptorPool()
    for content in reversed(answer.file_descriptor_response.file_descriptor_proto):
        pool.AddSerializedFile(content)
    assert pool.FindFileContainingSymbol(symbol).package == symbol.rpartition(".")[0]


def test_version_1_is_version_1alpha_under_another_name() -> None:
    own = own_pool()
    old = own.with_imports(own.file_of_symbol(V1ALPHA) or "")[0]
    new = own.with_imports(own.file_of_symbol(V1) or "")[0]
    renamed = FileProto.FromString(old)
    renamed.ClearField("options")
    text = str(renamed).replace("grpc_reflection/v1alpha", "grpc/reflection/v1").replace("v1alpha", "v1")
    assert str(FileProto.FromString(new)) == text
    assert HEALTH in own.services


# The library.


class Teacher:
    """Stands for the instances: answers by address, counts who was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, Learned | LearnError] = {}
        self.hold: asyncio.Event | None = None

    async def learn(self, address: str, skip: Collection[str]) -> Learned:
        assert HEALTH in skip
        self.asked.append(address)
        if self.hold is not None:
            await self.hold.wait()
        answer = self.answers.get(address, LearnError("has neither reflection nor a descriptor set"))
        if isinstance(answer, LearnError):
            raise answer
        return answer


class Setup:
    def __init__(self, fetch: Callable[[str], Awaitable[bytes]] | None = None) -> None:
        self.teacher = Teacher()
        self.view = MeshView()
        self.now = 0.0
        self.library = Library(lambda: self.view, OWN_SERVICES, fetch, lambda: self.now, self.teacher.learn)

    def set(self, *instances: InstanceView) -> None:
        self.view = MeshView(instances, synced=True)


def instance(address: str, service: str = "cart", **values: Any) -> InstanceView:
    return InstanceView(service, address, (address,), **values)


CART = Learned(["shop.Cart"], [api("Cart"), money("cents")])


async def test_learns_once_and_again_when_the_instances_change() -> None:
    setup = Setup()
    setup.teacher.answers = {"a:1": CART, "b:1": CART}
    setup.set(instance("a:1", grpc_services=("shop.Cart", "shop.Old")))
    (first,) = await setup.library.entries()
    assert first.grpc_services == {"shop.Cart", "shop.Old"}
    assert first.pool is not None
    assert (await setup.library.entries())[0] is first
    assert setup.teacher.asked == ["a:1"]
    setup.set(instance("a:1", incarnation=2))
    await setup.library.entries()
    setup.set(instance("a:1", incarnation=2), instance("b:1"))
    await setup.library.entries()
    assert setup.teacher.asked == ["a:1", "a:1", "a:1"]
    setup.set()
    assert await setup.library.entries() == []
    setup.set(instance("a:1", incarnation=2), instance("b:1"))
    await setup.library.entries()
    assert len(setup.teacher.asked) == 4


async def test_unhealthy_instances_are_neither_asked_nor_listed() -> None:
    setup = Setup()
    setup.set(instance("a:1", ready=False), instance("b:1", draining=True))
    assert await setup.library.entries() == []
    assert setup.teacher.asked == []


async def test_the_next_instance_is_asked_and_failures_are_tried_again_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = Setup()
    setup.teacher.answers = {"b:1": CART}
    setup.set(instance("a:1"), instance("b:1"))
    (entry_,) = await setup.library.entries()
    assert entry_.pool is not None
    assert setup.teacher.asked == ["a:1", "b:1"]
    setup.set(*(instance(f"{number}:1", "mute", grpc_services=("x.Y",)) for number in range(5)))
    setup.teacher.asked.clear()
    (mute,) = await setup.library.entries()
    assert (mute.pool, mute.grpc_services) == (None, {"x.Y"})
    assert "neither" in mute.reason
    await setup.library.entries()
    assert setup.teacher.asked == ["0:1", "1:1", "2:1"]
    setup.now += RELEARN_AFTER_S
    await setup.library.entries()
    assert len(setup.teacher.asked) == 6
    assert [record.getMessage() for record in caplog.records] == [f"Reflection: service 'mute' {mute.reason}."]


async def test_a_descriptor_set_comes_before_reflection() -> None:
    content = descriptor_pb2.FileDescriptorSet(file=[api("Cart"), api("Orders"), money("cents")]).SerializeToString()

    async def fetch(digest: str) -> bytes:
        assert digest == "abc"
        return content

    setup = Setup(fetch)
    setup.set(instance("a:1"), instance("b:1", descriptor_digest="abc", grpc_services=("shop.Cart",)))
    (declared,) = await setup.library.entries()
    assert declared.grpc_services == {"shop.Cart"}
    setup.set(instance("b:1", descriptor_digest="abc"))
    (undeclared,) = await setup.library.entries()
    assert undeclared.grpc_services == {"shop.Cart", "shop.Orders"}
    assert setup.teacher.asked == []


async def test_a_descriptor_set_that_cannot_be_had_is_told() -> None:
    async def fetch(digest: str) -> bytes:
        if digest == "bad":
            return b"\xff\xff\xff"
        raise RuntimeError("registry away")

    setup = Setup(fetch)
    setup.set(instance("a:1", descriptor_digest="gone"), instance("b:1", "orders", descriptor_digest="bad"))
    gone, bad = await setup.library.entries()
    assert "could not be fetched (registry away)" in gone.reason
    assert "broken" in bad.reason
    setup.teacher.answers = {"a:1": CART}
    setup.now += RELEARN_AFTER_S
    assert (await setup.library.entries())[0].pool is not None


async def test_a_hung_instance_ends_in_time_and_hurts_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_module, "SERVICE_TIMEOUT_S", 0.05)
    setup = Setup()
    setup.teacher.hold = asyncio.Event()
    setup.set(instance("a:1"), instance("b:1", "orders"))
    entries = await setup.library.entries()
    assert ["within 0.05 s" in one.reason for one in entries] == [True, True]


async def test_pools_of_the_whole_mesh_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_module, "MAX_TOTAL_BYTES", FilePool("", CART.files).size)
    setup = Setup()
    setup.teacher.answers = {"a:1": CART, "b:1": CART}
    setup.set(instance("a:1"), instance("b:1", "orders"))
    cart, orders = await setup.library.entries()
    assert cart.pool is not None
    assert orders.pool is None
    assert orders.grpc_services == {"shop.Cart"}
    assert "no room" in orders.reason
