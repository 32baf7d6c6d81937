"""Keeps one lease: takes it, beats, comes back after every loss with the last record.

One background task, one connection at a time. Only a final state ends it: closed by its user, refused at the start, or
superseded by another process.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from meshway.registry.v1 import registry_pb2 as pb

from registry.client.backoff import Backoff
from registry.client.calls import LeaseCalls
from registry.client.dial import Addresses
from registry.client.errors import RegistrationError, RegistryError, SupersededError
from registry.client.heartbeat import BeatSource, HeartbeatStream, Verdict
from registry.client.record import Grant, InstanceRecord
from registry.client.standing import LeaseState, Standing

DEFAULT_DRAIN: Final = 30.0  # seconds that open calls get to finish
MAX_REASON: Final = 1024  # characters; the registry refuses more, and a lease must not be lost over a long sentence
MAX_REREGISTER_SPREAD: Final = 5.0  # seconds over which a fleet spreads out when a registry has lost its leases

_log = logging.getLogger(__name__)


class LeaseKeeper(BeatSource):
    """The lease of one record. ``ttl`` is seconds, as asked; ``patient`` forgives a name that is taken at the start."""

    def __init__(
        self,
        addresses: Addresses,
        record: InstanceRecord,
        ttl: float,
        standing: Standing,
        patient: bool,
        clock: Callable[[], float],
        rng: Random,
    ) -> None:
        self.addresses = addresses
        self.record = record
        self.grant: Grant | None = None
        self._ttl = ttl
        self._standing = standing
        self._patient = patient
        self._clock = clock
        self._rng = rng
        self._backoff = Backoff(rng, ttl / 3)
        self._boot_id = secrets.token_bytes(16)
        self._ready = True
        self._not_ready_reason = ""
        self._calls: LeaseCalls | None = None  # the connection of the session, while there is one
        self._stream: HeartbeatStream | None = None
        self._next_beat = 0.0
        self._stale = False  # the registry has not taken the record as it is now
        self._drain_until: float | None = None
        self._drain_told = False

    # What heartbeats ask.

    def compose(self) -> pb.Beat:
        """The next beat: readiness goes along, unless the instance drains (which readiness would undo)."""
        assert self.grant is not None
        beat = pb.Beat(lease_id=self.grant.lease_id)
        if self._drain_until is None:
            beat.ready = self._ready
            beat.not_ready_reason = self._not_ready_reason
        return beat

    def acknowledged(self, interval: float) -> None:
        """A beat was accepted."""
        self._next_beat = self._clock() + interval
        self._backoff.reset()
        self._standing.well(self._drain_until is not None)

    def heeds_drain(self) -> bool:
        """Whether a DRAIN directive is news."""
        return self._drain_until is None

    # The background task.

    async def run(self) -> None:
        """Hold sessions, one after the other, until the registration is over."""
        while not self._standing.over:
            try:
                await self._session()
            except SupersededError as error:
                self._standing.finish(LeaseState.SUPERSEDED, error)
            except RegistrationError as error:
                self._standing.finish(LeaseState.FAILED, error)
            except RegistryError as error:
                if error.lost:
                    self.grant = None
                self._standing.trouble(error, self.grant is not None)
                self.addresses.advance()
                await asyncio.sleep(max(self._backoff.next(), error.retry_after))
            except Exception as error:
                # Whatever it was, a process that serves must not silently stop being registered.
                _log.exception("%s: the session with the registry failed", self.record)
                self._standing.trouble(RegistryError(f"internal error: {error}"), self.grant is not None)
                await asyncio.sleep(self._backoff.cap)

    async def _session(self) -> None:
        """One connection: bring the registry up to date, then beat, as long as it lasts."""
        async with LeaseCalls(self.addresses.current) as calls:
            self._calls = calls
            try:
                while not self._standing.over:
                    await self._synchronize(calls)
                    await self._act(await self._beat(calls))
            finally:
                self._calls = None

    async def _synchronize(self, calls: LeaseCalls) -> None:
        """Make the registry know what it does not know yet: the lease, the record, the drain."""
        if self.grant is None or self._stale:
            await self._register(calls)
        if self._drain_until is not None and not self._drain_told:
            try:
                await self._drain(calls)
            except RegistryError as error:
                raise self._graver(error) from None

    async def _register(self, calls: LeaseCalls) -> None:
        draining = self._drain_until is not None
        reason = "draining" if draining else self._not_ready_reason
        self._stale = False
        try:
            grant = await calls.register(self.record, self._boot_id, self._ttl, self._ready and not draining, reason)
        except RegistryError as error:
            self._stale = True
            raise self._graver(error) from None
        if grant.interval <= 0:
            grant = replace(grant, interval=grant.ttl / 3)
        self.grant = grant
        self._backoff.cap = grant.ttl / 3
        self._drain_told = False
        self._next_beat = self._clock() + self._rng.random() * grant.interval
        self._standing.well(draining)

    def _graver(self, error: RegistryError) -> RegistryError:
        """What a refusal means: a name that another took ends it, and so does any lasting refusal at the start."""
        held_before = self._standing.settled.is_set()
        if error.taken and held_before:
            return SupersededError(str(error), error.code, error.reason)
        if not held_before and not error.passing and not (error.taken and self._patient):
            return RegistrationError(str(error), error.code, error.reason)
        return error

    async def _beat(self, calls: LeaseCalls) -> Verdict:
        assert self.grant is not None
        self._stream = HeartbeatStream(calls.keep_alive(), calls.address, self.grant, self, self._rng)
        try:
            # After a reconnection the beat is overdue, and goes at once: the backoff has spread it already.
            return await self._stream.run(max(0.0, self._next_beat - self._clock()))
        finally:
            self._stream = None

    async def _act(self, verdict: Verdict) -> None:
        """Do what the end of a heartbeat stream asks for; the session then synchronizes and beats again."""
        if verdict is Verdict.SUPERSEDED:
            raise SupersededError(f"another process has registered {self.record}; this one has stopped")
        if verdict is Verdict.DRAIN:
            self._drain_until = self._clock() + DEFAULT_DRAIN
            self._drain_told = False
        elif verdict is Verdict.REREGISTER:
            self._stale = True
        elif self._drain_until is not None and self._clock() >= self._drain_until:
            self.grant = None
            self._standing.finish(LeaseState.CLOSED, None, "the drain deadline has passed")
        else:
            assert self.grant is not None
            spread = min(self.grant.interval, MAX_REREGISTER_SPREAD)
            self.grant = None
            self._standing.trouble(RegistryError("the registry has lost the lease", reason="LEASE_UNKNOWN"), False)
            await asyncio.sleep(self._rng.uniform(0.0, spread))

    # What the registration's user changes.

    def set_ready(self, ready: bool, reason: str) -> None:
        """Say it with a beat at once, and again after every reconnection."""
        self._ready = ready
        self._not_ready_reason = "" if ready else reason[:MAX_REASON]
        if self._stream is not None:
            self._stream.beat_now()

    async def update(self, record: InstanceRecord, fields: Sequence[str]) -> bool:
        """Take the record on, and tell the registry which fields changed; False if the session has to tell it later."""
        before, self.record = self.record, record
        self._stale = True
        if self._calls is None or self.grant is None:
            return False
        try:
            await self._calls.update(self.grant.lease_id, record, fields)
        except RegistryError as error:
            if self._left_to_session(error):
                return False
            self.record = before
            self._stale = False
            raise RegistrationError(str(error), error.code, error.reason) from None
        self._stale = False
        return True

    async def drain(self, deadline: float) -> bool:
        """Drain within ``deadline`` seconds; False if the session has to tell the registry later."""
        self._drain_until = self._clock() + deadline
        self._drain_told = False
        if self._calls is None or self.grant is None:
            return False
        try:
            await self._drain(self._calls)
        except RegistryError as error:
            if self._left_to_session(error):
                return False
            raise RegistrationError(str(error), error.code, error.reason) from None
        return True

    async def _drain(self, calls: LeaseCalls) -> None:
        assert self.grant is not None
        assert self._drain_until is not None
        sent = self._clock()
        left = await calls.drain(self.grant.lease_id, self._drain_until - sent)
        self._drain_until = sent + left
        self._drain_told = True
        self._standing.well(draining=True)

    def _left_to_session(self, error: RegistryError) -> bool:
        """Whether the session can make a failed change good; then it is set to it. SupersededError if all is over."""
        if error.taken:
            self._end_stream(Verdict.SUPERSEDED)
            raise SupersededError(str(error), error.code, error.reason)
        if error.lost:
            self._end_stream(Verdict.LOST)
        elif error.passing:
            self._end_stream(Verdict.REREGISTER)
        return error.lost or error.passing

    def _end_stream(self, verdict: Verdict) -> None:
        if self._stream is not None:
            self._stream.end(verdict)
