"""One KeepAlive stream: beats at the cadence that the registry asks for, until something has to be done about it.

Knows one lease and one stream. It decides nothing: it ends with a Verdict, and the registration acts on that.
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from random import Random
from typing import Any, Final

import grpc
from meshway.registry.v1 import registry_pb2 as pb

from registry.client.errors import RegistryError, from_rpc
from registry.client.record import Grant

JITTER: Final = 0.1  # the part of an interval by which beats are moved forward at random, so that they do not line up
MIN_ACK_TIMEOUT: Final = 1.0  # seconds: less would break streams over a busy moment of the registry


class Verdict(Enum):
    """Why a heartbeat stream ended, other than by breaking."""

    LOST = "lost"  # the lease is unknown or expired: register again
    SUPERSEDED = "superseded"  # another process has the name: stop
    REREGISTER = "reregister"  # the registry, or a change that it has not taken yet, asks for a new Register
    DRAIN = "drain"  # the registry asks the instance to drain


_OF_STATUS: Final = {
    pb.LEASE_STATUS_UNKNOWN: Verdict.LOST,
    pb.LEASE_STATUS_EXPIRED: Verdict.LOST,
    pb.LEASE_STATUS_UNKNOWN_EPOCH: Verdict.LOST,
    pb.LEASE_STATUS_SUPERSEDED: Verdict.SUPERSEDED,
}


class BeatSource:
    """What a heartbeat stream needs from its registration."""

    def compose(self) -> pb.Beat:
        """The next beat."""
        raise NotImplementedError

    def acknowledged(self, interval: float) -> None:
        """A beat was accepted; ``interval`` is the seconds to the next, as the registry wishes."""
        raise NotImplementedError

    def heeds_drain(self) -> bool:
        """Whether a DRAIN directive still has to be acted on."""
        raise NotImplementedError


class HeartbeatStream:
    """Beats on one stream. ``run`` waits ``first_beat`` seconds, then beats until a Verdict or a RegistryError."""

    def __init__(self, call: Any, address: str, grant: Grant, source: BeatSource, rng: Random) -> None:
        self._call = call
        self._address = address
        self._grant = grant
        self._source = source
        self._rng = rng
        self._interval = grant.interval
        self._changed = asyncio.Event()
        self._verdict: Verdict | None = None
        self._failure: RegistryError | None = None
        self._acked = True
        self._beat_now = False

    def beat_now(self) -> None:
        """Beat without waiting for the interval: the next beat says something new."""
        self._beat_now = True
        self._changed.set()

    def end(self, verdict: Verdict) -> None:
        """End the stream with this verdict, as if the registry had given it."""
        self._verdict = self._verdict or verdict
        self._changed.set()

    async def run(self, first_beat: float) -> Verdict:
        """Beat until the stream has a verdict; RegistryError when it broke or the registry stopped answering."""
        reader = asyncio.create_task(self._read())
        try:
            await self._wait(first_beat, lambda: self._beat_now)
            while not self._over():
                await self._beat()
                await self._wait(self._interval * (1.0 - JITTER * self._rng.random()), lambda: self._beat_now)
        finally:
            reader.cancel()
            self._call.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        if self._verdict is not None:
            return self._verdict
        raise self._taken_failure()

    def _taken_failure(self) -> RegistryError:
        """The failure, held here no longer: with its traceback it would keep this stream, and that its connection."""
        failure, self._failure = self._failure, None
        return failure or RegistryError(f"the registry at {self._address} ended the heartbeat stream")

    def _over(self) -> bool:
        return self._verdict is not None or self._failure is not None

    async def _wait(self, seconds: float, until: Callable[[], bool]) -> bool:
        """Wait until the condition holds or the stream is over; False when the time ran out first."""
        try:
            async with asyncio.timeout(seconds):
                while not until() and not self._over():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _beat(self) -> None:
        """Send one beat and wait for its answer, so that a registry that hangs is left for the next address."""
        self._beat_now = False
        self._acked = False
        patience = max(self._interval, MIN_ACK_TIMEOUT)
        request = pb.KeepAliveRequest(beats=[self._source.compose()], epoch=self._grant.epoch)
        try:
            async with asyncio.timeout(patience):
                await self._call.write(request)
        except TimeoutError:
            self._fail(self._silent(patience))
        except grpc.aio.AioRpcError as error:
            self._fail(from_rpc(error, "send a heartbeat", self._address))
        except asyncio.InvalidStateError:
            await asyncio.sleep(0)  # the stream has ended: the reader knows why, or is about to
            await self._wait(patience, self._over)
        else:
            if not await self._wait(patience, lambda: self._acked):
                self._fail(self._silent(patience))

    def _silent(self, patience: float) -> RegistryError:
        return RegistryError(f"the registry at {self._address} did not answer a heartbeat for {patience:.1f} s")

    def _fail(self, error: RegistryError) -> None:
        self._failure = self._failure or error
        self._changed.set()

    async def _read(self) -> None:
        """Take the answers in, until the stream ends."""
        try:
            while True:
                response = await self._call.read()
                if response is grpc.aio.EOF:
                    break
                for result in response.results:
                    if result.lease_id == self._grant.lease_id:
                        self._judge(result)
            self._fail(RegistryError(f"the registry at {self._address} ended the heartbeat stream"))
        except grpc.aio.AioRpcError as error:
            self._fail(from_rpc(error, "hold the lease", self._address))

    def _judge(self, result: pb.BeatResult) -> None:
        """Act on the answer to one beat."""
        lost = _OF_STATUS.get(result.status)
        if lost is not None:
            self.end(lost)
            return
        if result.heartbeat_interval_ms > 0:
            self._interval = result.heartbeat_interval_ms / 1000
        self._acked = True
        self._source.acknowledged(self._interval)
        if result.directive == pb.DIRECTIVE_REREGISTER:
            self.end(Verdict.REREGISTER)
        elif result.directive == pb.DIRECTIVE_DRAIN and self._source.heeds_drain():
            self.end(Verdict.DRAIN)
        self._changed.set()
