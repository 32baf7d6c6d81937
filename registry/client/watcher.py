"""Follows the registry: whole views in order, through every loss of the connection.

A broken stream is resumed where it stopped; one that is silent for too long counts as broken; one whose messages do
not follow from one another is begun anew with a snapshot.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Any, Self

import grpc.aio
from meshway.registry.v1 import registry_pb2 as pb

from registry.client.backoff import Backoff
from registry.client.catalog import CatalogFold, CatalogView, WatchChainError
from registry.client.dial import DEFAULT_REGISTRY, Addresses, make_stub, open_channel
from registry.client.errors import RegistryError, from_rpc

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WatchTimings:
    """Seconds. The registry shows a sign of life every 5 s: ``silence`` is three of them missed."""

    silence: float = 15.0
    backoff_base: float = 0.1
    backoff_cap: float = 5.0


class Watcher:
    """An async iterator of CatalogViews: the first once the registry has answered, then one for each change.

    Also yields a view with ``connected=False`` when the registry goes away (or cannot be reached at the start), and
    with ``connected=True`` when it is back. Never ends by itself: close it, or leave its ``async with``. ``services``
    narrows what is watched (at most 64 names). ``error`` is the last failure, None while connected. Cancelling the wait
    for the next view ends the watch. A consumer that takes its time is no harm: the registry sums up what it missed.
    """

    def __init__(
        self,
        registry: str | Sequence[str] = DEFAULT_REGISTRY,
        namespace: str = "",
        services: Sequence[str] = (),
        *,
        timings: WatchTimings | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
    ) -> None:
        self.error: RegistryError | None = None
        self._addresses = Addresses(registry)
        self._namespace = namespace
        self._services = tuple(services)
        self._timings = timings or WatchTimings()
        self._clock = clock
        self._backoff = Backoff(rng or Random(), self._timings.backoff_cap, self._timings.backoff_base)
        self._fold = CatalogFold()
        self._told_absence = False
        self._views = self._follow()

    @property
    def view(self) -> CatalogView:
        """The last view; before the first it is empty and not synced."""
        return self._fold.view

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> CatalogView:
        return await anext(self._views)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the watch and its connection."""
        await self._views.aclose()

    async def _follow(self) -> AsyncGenerator[CatalogView, None]:
        """One stream after the other."""
        while True:
            stream = self._stream(self._addresses.current)
            began = self._clock()
            try:
                async for view in stream:
                    self._told_absence = False
                    yield view
            except WatchChainError as error:
                _log.warning("the watch of the registry at %s starts anew: %s", self._addresses.current, error)
                self._fold.forget()
                self.error = RegistryError(str(error))
            except RegistryError as error:
                self.error = error
            finally:
                await stream.aclose()
            absent = self._fold.disconnected()
            if absent is not None or not self._told_absence:
                self._told_absence = True
                yield self._fold.view
            # Only a stream that held for a while proves a way: a short one may break again and again.
            if self._clock() - began >= self._timings.backoff_cap:
                self._backoff.reset()
            self._addresses.advance()
            await asyncio.sleep(max(self._backoff.next(), self.error.retry_after if self.error else 0.0))

    async def _stream(self, address: str) -> AsyncGenerator[CatalogView, None]:
        """One stream, until it breaks: RegistryError or WatchChainError says how."""
        request = pb.WatchRequest(namespace=self._namespace, services=self._services, resume=self._fold.resume())
        async with open_channel(address) as channel:
            call = make_stub(channel).Watch(request)
            try:
                while True:
                    view = self._fold.apply(await self._read(call, address))
                    if view is not None:
                        self.error = None
                        yield view
            finally:
                call.cancel()

    async def _read(self, call: Any, address: str) -> pb.WatchResponse:
        """The next message; RegistryError when the stream ended or is silent."""
        silence = self._timings.silence
        try:
            async with asyncio.timeout(silence):
                message = await call.read()
        except TimeoutError:
            raise RegistryError(f"the registry at {address} was silent for {silence:g} s") from None
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, "watch the mesh", address) from None
        if message is grpc.aio.EOF:
            raise RegistryError(f"the registry at {address} ended the watch")
        response: pb.WatchResponse = message
        return response


def watch(
    registry: str | Sequence[str] = DEFAULT_REGISTRY, namespace: str = "", services: Sequence[str] = ()
) -> AsyncIterator[CatalogView]:
    """The mesh's views as they change: ``async for view in watch("127.0.0.1:7500")``. See Watcher."""
    return Watcher(registry, namespace, services)
