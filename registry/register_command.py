"""``meshway register``: holds the lease of a service in any language, as long as it, or COMMAND, runs and is well."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import grpc

from registry.client import LeaseState, Registration, RegistrationError, SupersededError
from registry.probe import HealthJudge, Prober

START_POLL: Final = 0.1  # seconds between looks at a server that is starting
HEALTH_INTERVAL: Final = 2.0  # seconds between health checks of one that runs
STOP_GRACE: Final = 5.0  # seconds that COMMAND gets to stop when it could not be registered
EXIT_DRAIN: Final = (
    30.0  # seconds, beyond the drain time, that COMMAND may take to exit and still be listed as draining
)

DONE: Final = 0
FAILED: Final = 1
WRONG_USE: Final = 2

_T = TypeVar("_T")


@dataclass(frozen=True)
class RegisterOptions:
    """What ``meshway register`` was told. Times are seconds; without a ``command`` the service runs already."""

    registry: str
    service: str
    address: str
    instance_id: str | None = None
    grpc_services: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    weight: int = 1
    ttl: float = 15.0
    namespace: str = ""
    descriptor_set: bytes = b""
    drain_time: float = 1.0
    start_timeout: float = 30.0
    wait_for_registry: bool = False
    command: tuple[str, ...] = ()


class _Ended(Exception):  # noqa: N818 - not an error: the way out of whatever was being waited for
    """A signal asks to stop, or COMMAND has exited."""


class RegisterCommand:
    """One run of the command; ``say`` takes sentences for the person at the terminal."""

    def __init__(self, options: RegisterOptions, say: Callable[[str], None]) -> None:
        self._options = options
        self._say = say
        self._child: asyncio.subprocess.Process | None = None
        self._exited: asyncio.Task[int] | None = None
        self._stop: signal.Signals | None = None  # the signal that asked to stop
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()  # a second signal: no more waiting
        self._passed_on = False
        self._was_away = False

    async def run(self) -> int:
        """Do it all; returns the exit code: COMMAND's own (128+n for a signal), or DONE, FAILED, WRONG_USE."""
        loop = asyncio.get_running_loop()
        handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        for number in handled:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            if self._options.command and not await self._spawn():
                return WRONG_USE
            async with Prober(self._options.address) as prober:
                return await self._serve(prober)
        finally:
            await self._stop_child()
            for number in handled:
                loop.remove_signal_handler(number)

    async def _serve(self, prober: Prober) -> int:
        try:
            if not await self._unless_ended(self._come_up(prober)):
                return FAILED
            grpc_services = self._options.grpc_services or await self._unless_ended(self._learn(prober))
        except _Ended:
            return await self._leave_unregistered()
        try:
            lease = self._registration(grpc_services)
        except ValueError as error:
            self._say(f"{error}.")
            return WRONG_USE
        try:
            return await self._hold(lease, prober)
        finally:
            await lease.close(drain=False)

    def _registration(self, grpc_services: tuple[str, ...]) -> Registration:
        options = self._options
        return Registration(
            options.registry,
            service=options.service,
            address=options.address,
            instance_id=options.instance_id,
            grpc_services=grpc_services,
            labels=options.labels,
            weight=options.weight,
            ttl=options.ttl,
            namespace=options.namespace,
            descriptor_set=options.descriptor_set,
            wait_for_registry=options.wait_for_registry,
            on_state=self._on_state,
        )

    # Coming up.

    async def _spawn(self) -> bool:
        """Start COMMAND in a process group of its own, so that a Ctrl-C here does not reach it before the drain."""
        try:
            self._child = await asyncio.create_subprocess_exec(*self._options.command, process_group=0)
        except OSError as error:
            self._say(f"cannot start {self._options.command[0]!r}: {error.strerror}.")
            return False
        self._exited = asyncio.create_task(self._child.wait())
        return True

    async def _come_up(self, prober: Prober) -> bool:
        """Wait until the server takes connections and is well; False when it did not in time."""
        reason = "nothing accepts connections there"
        try:
            async with asyncio.timeout(self._options.start_timeout):
                while True:
                    if await prober.accepts():
                        probe = await prober.check()
                        if probe.serving:
                            return True
                        reason = probe.reason
                    await asyncio.sleep(START_POLL)
        except TimeoutError:
            limit = self._options.start_timeout
            self._say(f"{self._options.service} at {prober.address} did not come up in {limit:g} s: {reason}.")
            return False

    async def _learn(self, prober: Prober) -> tuple[str, ...]:
        """The gRPC services to declare, from the server itself."""
        names = await prober.grpc_services()
        if names is None:
            self._say(
                f"{prober.address} has no server reflection: name its gRPC services with --grpc-service, "
                "or only routes will lead to it."
            )
        return names or ()

    async def _leave_unregistered(self) -> int:
        """It ended before it was registered."""
        if self._child is None:
            return DONE
        if self._stop is None:
            self._say(f"{self._options.command[0]} exited before {self._options.service} was registered.")
        else:
            self._pass_on(self._stop)
        return await self._exit_code()

    # Holding the lease.

    async def _hold(self, lease: Registration, prober: Prober) -> int:
        try:
            await self._unless_ended(lease.start())
        except _Ended:
            return await self._leave_unregistered()
        except RegistrationError as error:
            self._say(f"{error}.")
            return WRONG_USE if error.code is grpc.StatusCode.INVALID_ARGUMENT else FAILED
        self._say(self._what_is_registered(lease))
        health = asyncio.create_task(self._watch_health(lease, prober))
        try:
            await self._unless_ended(self._until_over(lease))
            return FAILED
        except _Ended:
            pass
        finally:
            health.cancel()
            await asyncio.gather(health, return_exceptions=True)
        if self._stop is not None:
            await self._drain(lease)
        return DONE if self._child is None else await self._deregister_after_exit(lease)

    async def _until_over(self, lease: Registration) -> None:
        """Until the lease is lost for good. COMMAND runs on then: it may still have calls to finish."""
        with contextlib.suppress(SupersededError):
            await lease.wait_ended()
        if self._exited is not None:
            await asyncio.shield(self._exited)

    async def _watch_health(self, lease: Registration, prober: Prober) -> None:
        def tell(ready: bool, reason: str) -> None:
            lease.set_ready(ready, reason)
            self._say("ready again." if ready else f"not ready, and gets no new calls: {reason}.")

        judge = HealthJudge(tell)
        while True:
            await asyncio.sleep(HEALTH_INTERVAL)
            judge.hear(await prober.check())

    async def _drain(self, lease: Registration) -> None:
        """Take no new calls for the drain time, then tell COMMAND to stop; a second signal cuts it short."""
        assert self._stop is not None

        async def without_new_calls() -> None:
            if await lease.drain(self._options.drain_time + EXIT_DRAIN):
                await asyncio.sleep(self._options.drain_time)

        with contextlib.suppress(_Ended, RegistrationError):
            await self._unless_ended(without_new_calls(), self._hurry)
        if not self._passed_on:
            self._pass_on(self._stop)

    async def _deregister_after_exit(self, lease: Registration) -> int:
        code = await self._exit_code()
        held = lease.incarnation > 0
        gone = await lease.close(drain=False)
        left = "deregistered; " if gone else "the registry is away, so the lease ends by itself; "
        self._say(f"{left if held else ''}{self._options.command[0]} ended with exit code {code}.")
        return code

    def _what_is_registered(self, lease: Registration) -> str:
        record = lease.record
        declared = ", ".join(record.grpc_services) or "no gRPC services declared"
        if lease.state is LeaseState.CONNECTING:
            return f"the registry at {self._options.registry} is away: {record} is registered when it is back."
        return f"registered {record} at {self._options.address} ({declared}) for {lease.ttl:g} s at a time."

    def _on_state(self, state: LeaseState, why: str) -> None:
        if state is LeaseState.SUPERSEDED:
            self._say(f"{why}.")
        elif state in (LeaseState.DISCONNECTED, LeaseState.CONNECTING):
            if not self._was_away:
                self._say(f"{why}; trying again.")
            self._was_away = True
        elif self._was_away:
            self._was_away = False
            self._say("registered again.")
        elif state is LeaseState.DRAINING and self._stop is None:
            self._say("the registry asks to drain: no new calls come.")

    # Signals and the child.

    def _on_signal(self, number: signal.Signals) -> None:
        if number is signal.SIGHUP and self._child is not None:
            self._send(number)  # "read your configuration again": nothing that the mesh needs to know
        elif self._stop is None:
            self._stop = number
            self._stopping.set()
        else:
            self._pass_on(number)
            self._hurry.set()

    def _pass_on(self, number: signal.Signals) -> None:
        self._passed_on = True
        self._send(number)

    def _send(self, number: signal.Signals) -> None:
        if self._child is not None and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(number)

    async def _unless_ended(self, work: Coroutine[Any, Any, _T], stop: asyncio.Event | None = None) -> _T:
        """The result of the work; _Ended, with the work cancelled, if a signal or COMMAND's exit comes first.

        ``stop`` says which signal: by default the first.
        """
        doing = asyncio.create_task(work)
        stopping = asyncio.create_task((stop or self._stopping).wait())
        ends: list[asyncio.Task[Any]] = [stopping] + ([self._exited] if self._exited else [])
        try:
            await asyncio.wait([doing, *ends], return_when=asyncio.FIRST_COMPLETED)
            if any(end.done() for end in ends):
                raise _Ended
            return doing.result()
        finally:
            stopping.cancel()
            doing.cancel()
            await asyncio.gather(stopping, doing, return_exceptions=True)

    async def _exit_code(self) -> int:
        assert self._exited is not None
        code = await self._exited
        return 128 - code if code < 0 else code

    async def _stop_child(self) -> None:
        """Leave no process behind, whatever went wrong."""
        if self._child is None or self._exited is None or self._exited.done():
            return
        self._send(signal.SIGTERM)
        _done, pending = await asyncio.wait([self._exited], timeout=STOP_GRACE)
        if pending:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)
            await self._exited
