"""The registry's lease calls as plain coroutines, over one channel, with every failure turned into a RegistryError."""

import asyncio
from collections.abc import Awaitable, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc.aio
from meshway.registry.v1 import registry_pb2 as pb

from registry.client.dial import make_stub, open_channel
from registry.client.errors import RegistryError, from_rpc
from registry.client.record import Grant, InstanceRecord

CALL_TIMEOUT: Final = 5.0  # seconds; a registry that takes longer is as good as away, and another may be listed

_T = TypeVar("_T")


class LeaseCalls:
    """Calls to one registry address. Each takes at most ``timeout`` seconds and raises RegistryError."""

    def __init__(self, address: str, timeout: float = CALL_TIMEOUT) -> None:
        self.address = address
        self._timeout = timeout
        self._channel = open_channel(address)
        self._stub = make_stub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def register(
        self, record: InstanceRecord, boot_id: bytes, ttl: float, ready: bool, not_ready_reason: str
    ) -> Grant:
        """Ask for a lease of ``ttl`` seconds, or renew the one that ``boot_id`` has with this record."""
        request = pb.RegisterRequest(
            instance=record.spec(),
            boot_id=boot_id,
            ttl_ms=round(ttl * 1000),
            ready=ready,
            not_ready_reason=not_ready_reason,
        )
        action = f"register {record.service}/{record.instance_id}"
        return Grant.of(await self._call(self._stub.Register(request, timeout=self._timeout), action))

    def keep_alive(self) -> Any:
        """A new heartbeat stream, still without a beat."""
        return self._stub.KeepAlive()

    async def update(self, lease_id: bytes, record: InstanceRecord, fields: Sequence[str]) -> None:
        """Change the named fields to what the record says."""
        request = pb.UpdateRequest(lease_id=lease_id, fields=fields, instance=record.spec())
        action = f"update {record.service}/{record.instance_id}"
        await self._call(self._stub.Update(request, timeout=self._timeout), action)

    async def drain(self, lease_id: bytes, deadline: float) -> float:
        """Ask for no new calls, and an end after ``deadline`` seconds; returns what is left of the deadline."""
        request = pb.DrainRequest(lease_id=lease_id, deadline_ms=max(0, round(deadline * 1000)))
        response: pb.DrainResponse = await self._call(self._stub.Drain(request, timeout=self._timeout), "drain")
        return response.deadline_ms / 1000

    async def deregister(self, lease_id: bytes) -> None:
        """End the lease; one that has already ended is no error."""
        request = pb.DeregisterRequest(lease_id=lease_id)
        try:
            await self._call(self._stub.Deregister(request, timeout=self._timeout), "deregister")
        except RegistryError as error:
            if not error.lost and not error.taken:
                raise

    async def _call(self, call: Awaitable[_T], action: str) -> _T:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, action, self.address) from None
        except grpc.aio.UsageError:
            raise self._lost_connection(action) from None
        except asyncio.CancelledError:
            # gRPC also says this when the channel was closed by another task, which is no wish to cancel this one.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise self._lost_connection(action) from None

    def _lost_connection(self, action: str) -> RegistryError:
        return RegistryError(f"cannot {action}: the connection to the registry at {self.address} was lost")


async def deregister_anywhere(addresses: Sequence[str], lease_id: bytes, timeout: float) -> bool:
    """Deregister at the first address that answers, in at most ``timeout`` seconds; False if none did."""
    try:
        async with asyncio.timeout(timeout):
            for address in addresses:
                async with LeaseCalls(address, timeout / len(addresses)) as calls:
                    try:
                        await calls.deregister(lease_id)
                    except RegistryError:
                        continue
                    return True
    except TimeoutError:
        pass
    return False
