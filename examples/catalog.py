"""The shop's catalog: a unary and a server-streaming call. Run: ``python -m examples.catalog --listen 127.0.0.1:0``."""

from collections.abc import AsyncIterator

from grpc import aio
from meshway.examples.v1.catalog_pb2 import (
    DESCRIPTOR,
    GetProductRequest,
    GetProductResponse,
    ListProductsRequest,
    ListProductsResponse,
    Product,
    ServedBy,
)
from meshway.examples.v1.catalog_pb2_grpc import CatalogServicer, add_CatalogServicer_to_server

from examples.problems import not_found
from examples.service import Identity, run

PRODUCTS = {
    product.sku: product
    for product in (
        Product(sku="pencil", name="Pencil, HB", price_cents=90),
        Product(sku="paper", name="Paper, 500 sheets", price_cents=650),
        Product(sku="lamp", name="Desk lamp", price_cents=3900),
        Product(sku="desk", name="Oak desk", price_cents=48000),
    )
}


class Catalog(CatalogServicer):
    """Answers from a fixed table, and says which instance did so."""

    def __init__(self, identity: Identity) -> None:
        self._served_by = ServedBy(instance=identity.instance, version=identity.version)

    async def GetProduct(  # noqa: N802
        self, request: GetProductRequest, context: aio.ServicerContext[GetProductRequest, GetProductResponse]
    ) -> GetProductResponse:
        """One product, or NOT_FOUND with details."""
        product = PRODUCTS.get(request.sku)
        if product is None:
            await not_found(context, "product", request.sku)
        return GetProductResponse(product=product, served_by=self._served_by)

    async def ListProducts(  # noqa: N802
        self, request: ListProductsRequest, context: aio.ServicerContext[ListProductsRequest, ListProductsResponse]
    ) -> AsyncIterator[ListProductsResponse]:
        """Every product up to the price, cheapest first."""
        limit = request.max_price_cents
        for product in sorted(PRODUCTS.values(), key=lambda product: product.price_cents):
            if not limit or product.price_cents <= limit:
                yield ListProductsResponse(product=product, served_by=self._served_by)


def _add(server: aio.Server, identity: Identity) -> None:
    add_CatalogServicer_to_server(Catalog(identity), server)


if __name__ == "__main__":
    run("catalog", DESCRIPTOR.services_by_name["Catalog"].full_name, _add)
