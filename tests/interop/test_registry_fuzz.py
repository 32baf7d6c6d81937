"""Every field of every request at its limits and beyond, against a real server: never UNKNOWN, never INTERNAL."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from meshway.registry.v1 import registry_pb2 as pb

from registry.server import RegistryOptions, RegistryServer

METHODS = {method.name: method for method in pb.DESCRIPTOR.services_by_name["Registry"].methods}
ROUNDS = 60

STRINGS = [
    "",
    "a",
    "cart",
    "x" * 128,
    "x" * 254,
    "127.0.0.1:80",
    "[::1]:0",
    "a b",
    "\0",
    "ü\U0001f600",
    "pkg.Svc",
    ":",
    "1",
]
BYTES = [b"", b"b" * 16, b"\0" * 16, b"\xff", b"x" * 3000]
INTEGERS = [0, 1, -1, 5000, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 2**32 - 1]
LABELS_OF = {FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1), FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1)}


def value(field: FieldDescriptor, rng: random.Random, seen: list[bytes]) -> object:
    if field.type == FieldDescriptor.TYPE_STRING:
        return rng.choice(STRINGS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.choice(BYTES + seen)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return rng.random() < 0.5
    low, high = LABELS_OF[field.type]
    return rng.choice([number for number in INTEGERS if low <= number <= high])


def fill(message: Message, rng: random.Random, seen: list[bytes]) -> Message:
    """Each field left out, or with something good or bad in it."""
    for field in message.DESCRIPTOR.fields:
        if rng.random() < 0.3:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for _ in range(rng.choice([1, 3, 70])):
                getattr(message, field.name)[rng.choice(STRINGS) + str(rng.random())] = rng.choice(STRINGS)
        elif field.is_repeated and field.message_type is not None:
            for _ in range(rng.choice([1, 2, 1001])):
                fill(getattr(message, field.name).add(), rng, seen if rng.random() < 0.5 else [])
        elif field.is_repeated:
            getattr(message, field.name).extend(value(field, rng, seen) for _ in range(rng.choice([1, 3, 70])))
        elif field.message_type is not None:
            fill(getattr(message, field.name), rng, seen)
        else:
            setattr(message, field.name, value(field, rng, seen))
    return message


def caller(channel: grpc.aio.Channel, name: str) -> Callable[[bytes], Awaitable[bytes]]:
    """The method with bytes going in and the first answer, if any, coming out."""
    method, path = METHODS[name], f"/meshway.registry.v1.Registry/{name}"
    if method.client_streaming:
        stream_stream = channel.stream_stream(path)

        async def call_stream(raw: bytes) -> bytes:
            call = stream_stream(iter([raw]))
            answers = [answer async for answer in call]
            return answers[0] if answers else b""

        return call_stream
    if method.server_streaming:
        unary_stream = channel.unary_stream(path)

        async def call_watch(raw: bytes) -> bytes:
            call = unary_stream(raw)
            try:
                return await call.read()
            finally:
                call.cancel()

        return call_watch
    unary_unary = channel.unary_unary(path)
    # Only a wait for a revision that never comes takes longer than this.
    return lambda raw: unary_unary(raw, timeout=0.05 if name == "Resolve" else 10.0)


async def outcome(call: Awaitable[bytes]) -> grpc.aio.AioRpcError | None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    return None


@pytest.fixture
async def server() -> AsyncIterator[RegistryServer]:
    server = RegistryServer(RegistryOptions(listen="127.0.0.1:0"))
    await server.start()
    yield server
    await server.stop()


@pytest.mark.parametrize("name", sorted(METHODS))
async def test_no_input_is_more_than_the_registry_can_take(name, server, caplog):
    rng = random.Random(name)
    refusals = 0
    async with grpc.aio.insecure_channel(server.address) as channel:
        good = pb.InstanceSpec(service="cart", instance_id="a", addresses=["127.0.0.1:80"])
        raw = await channel.unary_unary("/meshway.registry.v1.Registry/Register")(
            pb.RegisterRequest(instance=good, boot_id=b"b" * 16).SerializeToString()
        )
        granted = pb.RegisterResponse.FromString(raw)
        seen = [granted.lease_id, granted.revision.epoch]
        call = caller(channel, name)
        request_type = getattr(pb, METHODS[name].input_type.name)
        for round_ in range(ROUNDS):
            if round_ % 6 == 5:
                raw = rng.randbytes(rng.randrange(60))
            else:
                raw = fill(request_type(), rng, seen).SerializeToString()
            error = await outcome(call(raw))
            if error is not None:
                refusals += 1
                assert error.code() not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL), error.details()
                assert "Traceback" not in error.details()
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    continue  # the client may have been the first to give up
                assert any(key == "grpc-status-details-bin" for key, _ in error.trailing_metadata())
        await channel.unary_unary("/meshway.registry.v1.Registry/ListServices")(b"")  # it still serves
    assert refusals > 0
    assert "bug" not in caplog.text
