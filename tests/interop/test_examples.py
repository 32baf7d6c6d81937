"""The example services as real processes, called directly: all four kinds, errors with details, health, reflection."""

import asyncio
import sys
from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from meshway.examples.v1.cart_pb2 import CheckoutRequest, Item
from meshway.examples.v1.cart_pb2_grpc import CartStub

from examples.demo.processes import Child, Guard, StartError
from examples.demo.traffic import Shopper
from examples.problems import DETAILS_KEY


@pytest.fixture
async def shop() -> AsyncIterator[tuple[aio.Channel, aio.Channel]]:
    """Channels to a catalog v1, and to a cart v2 that asks this catalog."""
    guard = Guard()
    catalog = Child(guard, "catalog", serve("catalog", "--version", "v1", "--instance", "catalog-1"))
    await catalog.start()
    cart = Child(guard, "cart", serve("cart", "--version", "v2", "--instance", "cart-1", "--mesh", catalog.address))
    await cart.start()
    try:
        async with aio.insecure_channel(catalog.address) as to_catalog, aio.insecure_channel(cart.address) as to_cart:
            yield to_catalog, to_cart
    finally:
        await asyncio.gather(catalog.stop(), cart.stop())


def serve(service: str, *options: str) -> list[str]:
    return [sys.executable, "-m", f"examples.{service}", "--listen", "127.0.0.1:0", *options]


async def test_every_kind_of_call_is_answered(shop: tuple[aio.Channel, aio.Channel]):
    catalog, cart = Shopper(shop[0]), Shopper(shop[1])
    for call in (catalog.get_product, catalog.list_products):
        by = await call()
        assert (by.instance, by.version) == ("catalog-1", "v1")
    for call in (cart.checkout, cart.add_items, cart.track_total):
        by = await call()
        assert (by.instance, by.version) == ("cart-1", "v2")
    await catalog.ask_for_nothing()


async def test_a_bad_quantity_names_its_field(shop: tuple[aio.Channel, aio.Channel]):
    with pytest.raises(aio.AioRpcError) as caught:
        await CartStub(shop[1]).Checkout(CheckoutRequest(items=[Item(sku="lamp", quantity=0)]), timeout=10)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())[DETAILS_KEY])
    detail = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(detail)
    assert [violation.field for violation in detail.field_violations] == ["quantity"]


async def test_an_unknown_sku_is_the_carts_not_found_too(shop: tuple[aio.Channel, aio.Channel]):
    with pytest.raises(aio.AioRpcError) as caught:
        await CartStub(shop[1]).Checkout(CheckoutRequest(items=[Item(sku="unicorn", quantity=1)]), timeout=10)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_only_v2_gives_points(shop: tuple[aio.Channel, aio.Channel]):
    answer = await CartStub(shop[1]).Checkout(CheckoutRequest(items=[Item(sku="lamp", quantity=1)]), timeout=10)
    assert answer.points == 39


async def test_health_and_reflection(shop: tuple[aio.Channel, aio.Channel]):
    for channel, name in zip(shop, ("shop.Catalog", "shop.Cart"), strict=True):
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", name):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(timeout=10)
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = (await call.read()).list_services_response.service
        await call.done_writing()
        assert name in {service.name for service in listed}


async def test_a_child_that_does_not_come_up_says_why():
    child = Child(Guard(), "catalog", serve("catalog", "--nonsense"))
    with pytest.raises(StartError, match=r"(?s)catalog ended with exit code 2 .*unrecognized arguments: --nonsense"):
        await child.start()
    await child.stop()
