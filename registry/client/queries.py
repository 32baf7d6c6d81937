"""Single questions to the registry: one service's instances, all services, a descriptor set."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc.aio
from meshway.registry.v1 import registry_pb2 as pb

from registry.client.calls import CALL_TIMEOUT
from registry.client.catalog import CatalogFold, CatalogView, Instance, WatchChainError
from registry.client.dial import DEFAULT_REGISTRY, Addresses, make_stub, open_channel
from registry.client.errors import RegistryError, from_rpc


@dataclass(frozen=True)
class Resolution:
    """One service's instances by state, at one revision. ``last_seen_ago`` is seconds, for a service without any."""

    ready: tuple[Instance, ...]
    draining: tuple[Instance, ...]
    suspect: tuple[Instance, ...]
    not_ready: tuple[Instance, ...]
    revision: int
    epoch: bytes
    warming: bool
    last_seen_ago: float

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All of them."""
        return self.ready + self.suspect + self.draining + self.not_ready


@dataclass(frozen=True)
class ServiceSummary:
    """A service with the number of its instances in each state."""

    namespace: str
    service: str
    ready: int
    not_ready: int
    draining: int
    suspect: int
    grpc_services: tuple[str, ...]


class RegistryClient:
    """Asks the registry, one listed address after the other until one answers: ``async with RegistryClient(...)``.

    Every method raises RegistryError; ``timeout`` is seconds for each address.
    """

    def __init__(self, registry: str | Sequence[str] = DEFAULT_REGISTRY, timeout: float = CALL_TIMEOUT) -> None:
        self._addresses = Addresses(registry)
        self._timeout = timeout
        self._channels: dict[str, grpc.aio.Channel] = {}  # one an address: questions at the same time share them

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; the next question opens others."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()

    async def resolve(self, service: str, namespace: str = "", min_revision: int | None = None) -> Resolution:
        """The instances of one service; ``min_revision`` waits until the registry is that far (read your writes)."""
        request = pb.ResolveRequest(namespace=namespace, service=service, min_revision=min_revision)
        response: pb.ResolveResponse = await self._ask(lambda stub: stub.Resolve, request, f"resolve {service}")
        return Resolution(
            ready=tuple(map(Instance.of, response.ready)),
            draining=tuple(map(Instance.of, response.draining)),
            suspect=tuple(map(Instance.of, response.suspect)),
            not_ready=tuple(map(Instance.of, response.not_ready)),
            revision=response.revision.number,
            epoch=response.revision.epoch,
            warming=response.warming,
            last_seen_ago=response.last_seen_ms_ago / 1000,
        )

    async def list_services(self, namespace: str = "") -> tuple[ServiceSummary, ...]:
        """The services of a namespace, also those without an instance now."""
        request = pb.ListServicesRequest(namespace=namespace)
        response: pb.ListServicesResponse = await self._ask(
            lambda stub: stub.ListServices, request, "list the services"
        )
        return tuple(
            ServiceSummary(s.namespace, s.service, s.ready, s.not_ready, s.draining, s.suspect, tuple(s.grpc_services))
            for s in response.services
        )

    async def get_descriptor_set(self, digest: str) -> bytes:
        """The serialized FileDescriptorSet with this digest, as an instance brought it."""
        request = pb.GetDescriptorSetRequest(digest=digest)
        response: pb.GetDescriptorSetResponse = await self._ask(
            lambda stub: stub.GetDescriptorSet, request, f"get the descriptor set {digest[:12]}"
        )
        return response.descriptor_set

    async def snapshot(self, namespace: str = "", services: Sequence[str] = ()) -> CatalogView:
        """The whole catalog of a namespace, or these services of it, as it is now."""
        request = pb.WatchRequest(namespace=namespace, services=services)

        async def first_view(stub: Any) -> CatalogView:
            fold = CatalogFold()
            call = stub.Watch(request, timeout=self._timeout)
            try:
                async for message in call:
                    view = fold.apply(message)
                    if view is not None:
                        return view
            except WatchChainError as error:
                raise RegistryError(f"the registry's snapshot cannot be trusted: {error}") from None
            finally:
                call.cancel()
            raise RegistryError("the registry ended the watch before its snapshot was complete")

        view: CatalogView = await self._try_each(first_view, "list the instances")
        return view

    async def _ask(self, method: Callable[[Any], Any], request: Any, action: str) -> Any:
        return await self._try_each(lambda stub: method(stub)(request, timeout=self._timeout), action)

    async def _try_each(self, question: Callable[[Any], Awaitable[Any]], action: str) -> Any:
        """Ask one address after the other until one answers; what all of them say is the last one's word."""
        failure = RegistryError(f"cannot {action}: no registry answered")
        for _attempt in self._addresses.all:
            address = self._addresses.current
            if address not in self._channels:
                self._channels[address] = open_channel(address)
            try:
                return await question(make_stub(self._channels[address]))
            except grpc.aio.AioRpcError as error:
                failure = from_rpc(error, action, address)
                if not failure.passing:
                    raise failure from None
            if address == self._addresses.current:  # another question may have gone on already
                self._addresses.advance()
        raise failure
