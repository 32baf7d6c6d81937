"""The shop's cart: a unary, a client-streaming and a bidirectional call, which ask the catalog through the mesh.

Run: ``python -m examples.cart --listen 127.0.0.1:0 --mesh 127.0.0.1:8080``.
"""

import uuid
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc import aio
from meshway.examples.v1.cart_pb2 import (
    DESCRIPTOR,
    AddItemsRequest,
    AddItemsResponse,
    CheckoutRequest,
    CheckoutResponse,
    Item,
    Total,
    TrackTotalRequest,
    TrackTotalResponse,
)
from meshway.examples.v1.cart_pb2_grpc import CartServicer, add_CartServicer_to_server
from meshway.examples.v1.catalog_pb2 import GetProductRequest, ServedBy
from meshway.examples.v1.catalog_pb2_grpc import CatalogStub

from examples.problems import invalid_field, not_found
from examples.service import Identity, run

CENTS_PER_POINT = 100
# What belongs to the caller's trace and goes on with the calls made on its behalf.
TRACE_KEYS = ("traceparent", "tracestate", "baggage")

Context = aio.ServicerContext[Any, Any]


class Cart(CartServicer):
    """Keeps nothing between calls: each call brings its items, so any instance can take it."""

    def __init__(self, identity: Identity, catalog: CatalogStub) -> None:
        self._served_by = ServedBy(instance=identity.instance, version=identity.version)
        self._gives_points = identity.version != "v1"
        self._catalog = catalog

    async def Checkout(self, request: CheckoutRequest, context: Context) -> CheckoutResponse:  # noqa: N802
        """Price the items and take the order."""
        total = Total()
        for item in request.items:
            await self._add(total, item, context)
        points = total.price_cents // CENTS_PER_POINT if self._gives_points else 0
        return CheckoutResponse(order_id=uuid.uuid4().hex, total=total, points=points, served_by=self._served_by)

    async def AddItems(self, requests: AsyncIterator[AddItemsRequest], context: Context) -> AddItemsResponse:  # noqa: N802
        """Add up a stream of items, and answer once."""
        total = Total()
        async for request in requests:
            await self._add(total, request.item, context)
        return AddItemsResponse(total=total, served_by=self._served_by)

    async def TrackTotal(  # noqa: N802
        self, requests: AsyncIterator[TrackTotalRequest], context: Context
    ) -> AsyncIterator[TrackTotalResponse]:
        """Answer each item with the total so far."""
        total = Total()
        async for request in requests:
            await self._add(total, request.item, context)
            yield TrackTotalResponse(total=total, served_by=self._served_by)

    async def _add(self, total: Total, item: Item, context: Context) -> None:
        """Add the price of an item, as the catalog says; a bad item ends the call."""
        if item.quantity < 1:
            await invalid_field(context, "quantity", f"must be at least 1, not {item.quantity}")
        price = await self._price(item.sku, context)
        total.pieces += item.quantity
        total.price_cents += item.quantity * price

    async def _price(self, sku: str, context: Context) -> int:
        """Ask the catalog within what is left of the caller's deadline, as a part of the caller's trace."""
        metadata = [(key, value) for key, value in _pairs(context.invocation_metadata()) if key in TRACE_KEYS]
        try:
            answer = await self._catalog.GetProduct(
                GetProductRequest(sku=sku), metadata=metadata, timeout=context.time_remaining()
            )
        except aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                await not_found(context, "product", sku)
            await context.abort(error.code(), f"the catalog did not give a price for {sku!r}: {error.details()}")
        price: int = answer.product.price_cents
        return price


def _pairs(metadata: Iterable[Any] | None) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in metadata or ()]


def _add(server: aio.Server, identity: Identity) -> None:
    catalog = CatalogStub(aio.insecure_channel(identity.mesh))
    add_CartServicer_to_server(Cart(identity, catalog), server)


if __name__ == "__main__":
    run("cart", DESCRIPTOR.services_by_name["Cart"].full_name, _add)
