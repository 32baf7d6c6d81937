"""The registration for programs without an event loop: the same, in a thread with a loop of its own."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from registry.client.dial import DEFAULT_REGISTRY
from registry.client.errors import RegistrationError, RegistryError
from registry.client.keeper import DEFAULT_DRAIN
from registry.client.record import InstanceRecord
from registry.client.registration import DEFAULT_TTL, Registration
from registry.client.standing import LeaseState, StateListener

_T = TypeVar("_T")


class SyncRegistration:
    """``with SyncRegistration(service=..., address=...) as lease``: see Registration for what everything means.

    Its methods block until the registry has answered, and may be called from any thread. ``on_state`` is called in
    the background thread, and must not block it: heartbeats go from there.
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
    ) -> None:
        self._inner = Registration(
            registry,
            service=service,
            address=address,
            instance_id=instance_id,
            grpc_services=grpc_services,
            labels=labels,
            weight=weight,
            ttl=ttl,
            descriptor_set=descriptor_set,
            namespace=namespace,
            connect_timeout=connect_timeout,
            wait_for_registry=wait_for_registry,
            drain_time=drain_time,
            on_state=on_state,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> LeaseState:
        """Where the registration stands now."""
        return self._inner.state

    @property
    def error(self) -> RegistryError | None:
        """The last failure; None while all is well."""
        return self._inner.error

    @property
    def record(self) -> InstanceRecord:
        """What is, or will be, registered."""
        return self._inner.record

    @property
    def instance_id(self) -> str:
        """The instance's name within its service."""
        return self._inner.instance_id

    @property
    def incarnation(self) -> int:
        """The fencing token of the lease; 0 while there is none."""
        return self._inner.incarnation

    @property
    def ttl(self) -> float:
        """The lease's time to live in seconds."""
        return self._inner.ttl

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Register, and keep the lease alive from now on; RegistrationError when that fails."""
        if self._thread is not None:
            raise RegistrationError("this registration was already started; make a new one for another life")
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._serve, args=(started.set,), name=f"lease of {self.record}", daemon=True
        )
        self._thread.start()
        started.wait()
        try:
            self._do(self._inner.start())
        except BaseException:
            self._end_thread()
            raise

    def close(self, drain_time: float | None = None, *, drain: bool = True) -> bool:
        """Drain for ``drain_time`` seconds, deregister, end the thread. Safe to repeat.

        True: the registry holds no lease of this registration. False: it is away, and the lease ends by itself.
        """
        if self._loop is None:
            return True
        try:
            return self._do(self._inner.close(drain_time, drain=drain))
        finally:
            self._end_thread()

    def wait_ended(self, timeout: float | None = None) -> bool:
        """Wait until the registration is over (True) or ``timeout`` seconds passed (False).

        SupersededError or RegistrationError if something else than ``close`` ended it.
        """
        try:
            self._do(asyncio.wait_for(self._inner.wait_ended(), timeout))
        except TimeoutError:
            return False
        return True

    def set_ready(self, ready: bool, reason: str = "") -> None:
        """Say whether the instance wants calls."""
        self._running().call_soon_threadsafe(self._inner.set_ready, ready, reason)

    def update(
        self,
        *,
        labels: Mapping[str, str] | None = None,
        weight: int | None = None,
        addresses: Sequence[str] | None = None,
        grpc_services: Sequence[str] | None = None,
    ) -> bool:
        """Change the record. True: the registry took it. False: it is away, and will be told when it is back."""
        return self._do(
            self._inner.update(labels=labels, weight=weight, addresses=addresses, grpc_services=grpc_services)
        )

    def drain(self, deadline: float = DEFAULT_DRAIN) -> bool:
        """Ask for no new calls. True: the registry knows. False: it is away, and will be told when it is back."""
        return self._do(self._inner.drain(deadline))

    def _serve(self, started: Callable[[], None]) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._loop.call_soon(started)
            self._loop.run_forever()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RegistrationError(f"{self.record} is not registered: start the registration first")
        return self._loop

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        try:
            loop = self._running()
        except RegistrationError:
            work.close()
            raise
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    def _end_thread(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
