"""A registration: one instance's lease, taken on entering, kept alive meanwhile, drained and given back on leaving."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from types import TracebackType
from typing import Final, Self

import grpc

from registry.client.calls import deregister_anywhere
from registry.client.dial import DEFAULT_REGISTRY, Addresses
from registry.client.errors import RegistrationError, RegistryError
from registry.client.keeper import DEFAULT_DRAIN, LeaseKeeper
from registry.client.record import InstanceRecord
from registry.client.standing import LeaseState, Standing, StateListener

DEFAULT_TTL: Final = 15.0  # seconds: beats go every five, so two may be lost without harm
MAX_TTL: Final = 1e9  # seconds: thirty years, which fit into every field; the registry clamps far below
CLOSE_TIMEOUT: Final = 2.0  # seconds that each step of leaving may take when the registry is away

_log = logging.getLogger(__name__)


class Registration:
    """Registers an instance and keeps it registered: ``async with Registration(service=..., address=...) as lease``.

    ``registry`` lists addresses ("a:7500,b:7500"); ``address`` is where the instance takes calls; ``ttl``,
    ``connect_timeout`` and ``drain_time`` are seconds. Entering raises RegistrationError with the registry's reason
    when it refuses, or when none answers within ``connect_timeout`` - unless ``wait_for_registry`` is set: then the
    background task keeps trying. ``on_state`` hears every change of state with a sentence why, in the event loop.
    Leaving drains for ``drain_time`` (0 only marks the instance), then deregisters. ValueError for a registry address
    or a ``ttl`` that is none.
    """

    def __init__(
        self,
        registry: str | Sequence[str] = DEFAULT_REGISTRY,
        *,
        service: str,
        address: str | Sequence[str],
        instance_id: str | None = None,
        grpc_services: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        weight: int = 1,
        ttl: float = DEFAULT_TTL,
        descriptor_set: bytes = b"",
        namespace: str = "",
        connect_timeout: float = 5.0,
        wait_for_registry: bool = False,
        drain_time: float = 0.0,
        on_state: StateListener | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
    ) -> None:
        if not abs(ttl) <= MAX_TTL:
            raise ValueError(f"bad ttl {ttl!r}: expected seconds, at most {MAX_TTL:g}")
        record = InstanceRecord(
            namespace=namespace,
            service=service,
            instance_id=instance_id or f"{service[:100]}-{secrets.token_hex(6)}",
            addresses=(address,) if isinstance(address, str) else tuple(address),
            grpc_services=tuple(grpc_services),
            labels=dict(labels or {}),
            weight=weight,
            descriptor_set=descriptor_set,
        )
        self._ttl = ttl
        self._connect_timeout = connect_timeout
        self._wait_for_registry = wait_for_registry
        self._drain_time = drain_time
        self._standing = Standing(str(record), on_state)
        self._keeper = LeaseKeeper(
            Addresses(registry), record, ttl, self._standing, wait_for_registry, clock, rng or Random()
        )
        self._updating = asyncio.Lock()
        self._started = False
        self._task: asyncio.Task[None] | None = None

    @property
    def state(self) -> LeaseState:
        """Where the registration stands now."""
        return self._standing.state

    @property
    def error(self) -> RegistryError | None:
        """The last failure; None while all is well."""
        return self._standing.error

    @property
    def record(self) -> InstanceRecord:
        """What is, or will be, registered."""
        return self._keeper.record

    @property
    def instance_id(self) -> str:
        """The instance's name within its service; the same for the life of this object."""
        return self._keeper.record.instance_id

    @property
    def incarnation(self) -> int:
        """The fencing token of the lease; 0 while there is none."""
        return self._keeper.grant.incarnation if self._keeper.grant else 0

    @property
    def ttl(self) -> float:
        """The lease's time to live in seconds: as granted, or as asked while there is no grant."""
        return self._keeper.grant.ttl if self._keeper.grant else self._ttl

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Register, and keep the lease alive from now on; RegistrationError when that fails."""
        if self._started:
            raise RegistrationError("this registration was already started; make a new one for another life")
        self._check(self.record)
        self._started = True
        self._task = asyncio.create_task(self._keeper.run(), name=f"lease of {self.record}")
        try:
            async with asyncio.timeout(self._connect_timeout):
                await self._standing.settled.wait()
        except TimeoutError:
            if not self._wait_for_registry:
                await self._give_up()
        except asyncio.CancelledError:
            await self._stop()
            raise
        if self.state in (LeaseState.FAILED, LeaseState.SUPERSEDED) and self.error is not None:
            raise self.error

    async def wait_ended(self) -> None:
        """Wait until the registration is over; SupersededError or RegistrationError unless it was closed."""
        await self._standing.ended.wait()
        if self.state is not LeaseState.CLOSED and self.error is not None:
            raise self.error

    def set_ready(self, ready: bool, reason: str = "") -> None:
        """Say whether the instance wants calls. Told at once; when the registry is away, as soon as it is back."""
        self._keeper.set_ready(ready, reason)

    async def update(
        self,
        *,
        labels: Mapping[str, str] | None = None,
        weight: int | None = None,
        addresses: Sequence[str] | None = None,
        grpc_services: Sequence[str] | None = None,
    ) -> bool:
        """Change the record. True: the registry took it. False: it is away, and will be told when it is back.

        RegistrationError: it refused, and the record stays as it was.
        """
        async with self._updating:
            record = self.record
            fields = []
            if labels is not None:
                record = replace(record, labels=dict(labels))
                fields.append("labels")
            if weight is not None:
                record = replace(record, weight=weight)
                fields.append("weight")
            if addresses is not None:
                record = replace(record, addresses=tuple(addresses))
                fields.append("addresses")
            if grpc_services is not None:
                record = replace(record, grpc_services=tuple(grpc_services))
                fields.append("grpc_services")
            self._check(record)
            return await self._keeper.update(record, fields) if fields else True

    async def drain(self, deadline: float = DEFAULT_DRAIN) -> bool:
        """Ask for no new calls; the registry ends the lease after ``deadline`` seconds if nothing else does.

        True: the registry knows. False: it is away, and will be told when it is back.
        """
        return await self._keeper.drain(deadline)

    async def close(self, drain_time: float | None = None, *, drain: bool = True) -> bool:
        """Drain for ``drain_time`` seconds (by default as constructed), deregister, stop. Safe to repeat.

        True: the registry holds no lease of this registration. False: it is away, and the lease ends by itself.
        Each step takes at most CLOSE_TIMEOUT seconds beyond the drain time, also when the registry is away. With
        ``drain=False`` the instance leaves at once, as one does that is dead already.
        """
        if drain and self._keeper.grant is not None and not self._standing.over:
            await self._drain_for(self._drain_time if drain_time is None else drain_time)
        await self._stop()
        grant, self._keeper.grant = self._keeper.grant, None
        gone = True
        if grant is not None and not self._standing.over:
            addresses = self._keeper.addresses
            order = (addresses.current, *(other for other in addresses.all if other != addresses.current))
            gone = await deregister_anywhere(order, grant.lease_id, CLOSE_TIMEOUT)
            if not gone:
                _log.warning("%s: could not deregister; its lease ends by itself in %.0f s", self.record, grant.ttl)
        self._standing.finish(LeaseState.CLOSED, None)
        return gone

    async def _drain_for(self, seconds: float) -> None:
        """Tell the registry to drain, and give gateways the time for it; no wait if it cannot be told."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                # Twice the time: the lease shall end by deregistering, not by the registry's deadline.
                told = await self.drain(max(seconds * 2, 1.0))
        except (RegistryError, TimeoutError):
            return
        if told and seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._standing.ended.wait()

    async def _give_up(self) -> None:
        """No registry answered in time."""
        await self._stop()
        cause = self._standing.error
        if cause is None:
            registry = self._keeper.addresses
            cause = RegistryError(f"the registry at {registry} did not answer in {self._connect_timeout:g} s")
        self._standing.finish(LeaseState.FAILED, RegistrationError(str(cause), cause.code, cause.reason))

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None  # a cancelled task holds its frames, and they the connection

    @staticmethod
    def _check(record: InstanceRecord) -> None:
        """Values that do not fit their field are refused before anything is sent or stored."""
        try:
            record.spec()
        except (TypeError, ValueError) as error:
            raise RegistrationError(f"cannot register {record}: {error}", grpc.StatusCode.INVALID_ARGUMENT) from None
