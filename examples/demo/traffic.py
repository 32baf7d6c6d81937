"""Drives calls of all four kinds through the gateway with an ordinary grpcio client, and checks every answer."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from meshway.examples.v1.cart_pb2 import (
    AddItemsRequest,
    AddItemsResponse,
    CheckoutRequest,
    CheckoutResponse,
    Item,
    TrackTotalRequest,
    TrackTotalResponse,
)
from meshway.examples.v1.cart_pb2_grpc import CartStub
from meshway.examples.v1.catalog_pb2 import (
    GetProductRequest,
    GetProductResponse,
    ListProductsRequest,
    ListProductsResponse,
    ServedBy,
)
from meshway.examples.v1.catalog_pb2_grpc import CatalogStub

from examples.demo.tally import Tally
from examples.problems import DETAILS_KEY

WORKERS = 4
# A pause after each call keeps the demo at a rate that leaves a laptop usable.
PAUSE_SECONDS = 0.02
DEADLINE_SECONDS = 10.0
# A call that began this long after the kill may still have met the dead instance; later ones must not.
KILL_WINDOW_SECONDS = 1.0
# What grpc.aio makes of a write to a stream whose end it has not read yet, whatever the status in that end.
BROKEN_WRITE = "Internal error from Core"
# How often a call cut off by the kill is done again.
REPEATS = 3

ITEMS = (Item(sku="paper", quantity=2), Item(sku="pencil", quantity=10), Item(sku="lamp", quantity=1))
ITEMS_CENTS = 2 * 650 + 10 * 90 + 3900
PRODUCT_COUNT = 4
TESTER = ("x-tester", "yes")


class WrongAnswerError(Exception):
    """A call succeeded with an answer that is not the right one."""


def _expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise WrongAnswerError(f"{what} is {found!r} instead of {wanted!r}")


class Shopper:
    """One method for each kind of call; each returns who answered, or raises."""

    def __init__(self, channel: aio.Channel) -> None:
        self._catalog = CatalogStub(channel)
        self._cart = CartStub(channel)

    async def get_product(self) -> ServedBy:
        """Unary."""
        answer: GetProductResponse = await self._catalog.GetProduct(
            GetProductRequest(sku="lamp"), timeout=DEADLINE_SECONDS
        )
        _expect("the price of a lamp", answer.product.price_cents, 3900)
        return answer.served_by

    async def checkout(self, *metadata: tuple[str, str]) -> ServedBy:
        """Unary, with further calls behind it."""
        answer: CheckoutResponse = await self._cart.Checkout(
            CheckoutRequest(items=ITEMS), timeout=DEADLINE_SECONDS, metadata=metadata
        )
        _expect("the total", answer.total.price_cents, ITEMS_CENTS)
        return answer.served_by

    async def test_checkout(self) -> ServedBy:
        """The same as a tester, whom the config of the demo sends to the new version."""
        return await self.checkout(TESTER)

    async def add_items(self) -> ServedBy:
        """Client stream."""
        requests = [AddItemsRequest(item=item) for item in ITEMS]
        answer: AddItemsResponse = await self._cart.AddItems(_stream(requests), timeout=DEADLINE_SECONDS)
        _expect("the total", answer.total.price_cents, ITEMS_CENTS)
        return answer.served_by

    async def list_products(self) -> ServedBy:
        """Server stream."""
        call = self._catalog.ListProducts(ListProductsRequest(), timeout=DEADLINE_SECONDS)
        answers: list[ListProductsResponse] = [answer async for answer in call]
        _expect("the number of products", len(answers), PRODUCT_COUNT)
        return answers[0].served_by

    async def track_total(self) -> ServedBy:
        """Bidirectional, in turns: the next item is sent when the answer to the last one is here."""
        call = self._cart.TrackTotal(timeout=DEADLINE_SECONDS)
        answer = TrackTotalResponse()
        for item in ITEMS:
            with contextlib.suppress(asyncio.InvalidStateError):  # the call has ended: reading tells how
                await call.write(TrackTotalRequest(item=item))
            answer = await call.read()
            _expect("an early end of the answers", answer is aio.EOF, False)
        await call.done_writing()
        _expect("what follows the last total", await call.read(), aio.EOF)
        _expect("the status", await call.code(), grpc.StatusCode.OK)
        _expect("the total", answer.total.price_cents, ITEMS_CENTS)
        return answer.served_by

    async def ask_for_nothing(self) -> None:
        """A call that must end with NOT_FOUND and say in its details what was not found."""
        try:
            await self._catalog.GetProduct(GetProductRequest(sku="unicorn"), timeout=DEADLINE_SECONDS)
        except aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            packed = dict(error.trailing_metadata()).get(DETAILS_KEY, b"")
            detail = error_details_pb2.ResourceInfo()
            found = any(any_.Unpack(detail) for any_ in status_pb2.Status.FromString(packed).details)
            _expect("the missing resource in the details", detail.resource_name if found else None, "unicorn")
        else:
            raise WrongAnswerError("there is a unicorn in the catalog")


async def _stream(requests: list[AddItemsRequest]) -> AsyncIterator[AddItemsRequest]:
    for request in requests:
        yield request


class Traffic:
    """Keeps calls going inside its ``async with``, each worker pausing after each call; counts them in the tally."""

    def __init__(self, address: str, tally: Tally, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._channel = aio.insecure_channel(address)
        self._tally = tally
        self._pause_seconds = pause_seconds
        self._killed_at: float | None = None
        self.shopper = Shopper(self._channel)

    async def __aenter__(self) -> "Traffic":
        """Start the workers."""
        self._workers = [asyncio.create_task(self._work(offset)) for offset in range(WORKERS)]
        return self

    async def __aexit__(self, *exception: object) -> None:
        """End the workers and close the channel."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._channel.close()

    def instance_killed(self, now: float) -> None:
        """From now on, and shortly after, calls may be cut off by the dead instance; ``now`` is the loop's time."""
        self._killed_at = now

    def crashed(self) -> str:
        """Why a worker ended, if one did: a mistake in the demo itself."""
        for worker in self._workers:
            if worker.done() and not worker.cancelled() and worker.exception():
                return f"the traffic itself broke: {worker.exception()!r}"
        return ""

    async def _work(self, offset: int) -> None:
        for name, call in itertools.islice(self._program(), offset, None):
            await self._perform(name, call)
            await asyncio.sleep(self._pause_seconds)

    def _program(self) -> Iterator[tuple[str, Callable[[], Awaitable[ServedBy | None]]]]:
        shopper = self.shopper
        return itertools.cycle(
            (
                ("unary", shopper.get_product),
                ("server stream", shopper.list_products),
                ("client stream", shopper.add_items),
                ("bidi stream", shopper.track_total),
                ("unary", shopper.checkout),
                ("refused", shopper.ask_for_nothing),
            )
        )

    async def _perform(self, kind: str, call: Callable[[], Awaitable[ServedBy | None]]) -> None:
        """One call, done again if the killed instance cut it off."""
        clock = asyncio.get_running_loop().time
        for repeat in range(REPEATS + 1):
            began = clock()
            try:
                by = await call()
            except WrongAnswerError as error:
                self._tally.fail(f"{kind} call: {error}")
                return
            except aio.AioRpcError as error:
                if repeat < REPEATS and self._cut_off(error, began):
                    self._tally.repeated += 1
                    continue
                self._tally.fail(f"{kind} call: {error.code().name}: {error.details()}")
                return
            self._count(kind, by)
            return

    def _cut_off(self, error: aio.AioRpcError, began: float) -> bool:
        """Whether a call that began then can have failed because it was on the killed instance."""
        broken = error.code() == grpc.StatusCode.UNAVAILABLE or error.details() == BROKEN_WRITE
        return broken and self._killed_at is not None and began <= self._killed_at + KILL_WINDOW_SECONDS

    def _count(self, kind: str, by: ServedBy | None) -> None:
        if by is None:
            self._tally.refusals += 1
        else:
            self._tally.answered(kind, by.instance, by.version)


async def answers_of_all(address: str, instances: Collection[str], seconds: float) -> None:
    """Call through the gateway until every instance has answered once; raises TimeoutError with those that have not."""
    missing = set(instances)
    reason = ""
    async with aio.insecure_channel(address) as channel:
        shopper = Shopper(channel)
        end = asyncio.get_running_loop().time() + seconds
        for call in itertools.cycle((shopper.get_product, shopper.checkout, shopper.test_checkout)):
            try:
                missing.discard((await call()).instance)
            except aio.AioRpcError as error:
                reason = f"; the last failure was {error.code().name}: {error.details()}"
                await asyncio.sleep(0.1)
            if not missing:
                return
            if asyncio.get_running_loop().time() > end:
                raise TimeoutError(f"no answer from {', '.join(sorted(missing))} within {seconds:.0f} s{reason}")
