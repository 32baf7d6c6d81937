"""What all calls share: snapshot, pools, timers, recorder; and the counters that must return to zero."""

import random
from typing import Final

from mypy_extensions import i64

from gateway.http2.handler import OutputQueue
from gateway.model import Endpoint, Recorder, Waiter
from gateway.proxy.call import Call
from gateway.proxy.downstream import Downstream
from gateway.proxy.snapshot import Snapshot
from gateway.proxy.upstream import Dialer, Pool
from gateway.timers import Timer, TimerQueue

# Seconds that a client gets to answer the PING of a drain: some round trips. A connection without calls is then closed
# all the same; its last GOAWAY says which streams were never looked at, so nothing is lost.
DRAIN_PATIENCE: Final = 2.0


class DrainPatience(Waiter):
    """Ends the wait for clients that do not answer."""

    def __init__(self, proxy: "Proxy") -> None:
        self.proxy = proxy

    def wake(self, now: float) -> None:
        """They had their time."""
        self.proxy.end_drain_patience(now)


class Proxy:
    """The data plane's state, without sockets, clock or loop: all of those are passed in."""

    def __init__(
        self,
        snapshot: Snapshot,
        timers: TimerQueue,
        recorder: Recorder,
        dialer: Dialer,
        output: OutputQueue,
        rng: random.Random,
    ) -> None:
        self.snapshot = snapshot
        self.timers: Final = timers
        self.recorder: Final = recorder
        self.dialer: Final = dialer
        self.output: Final = output
        self.rng: Final = rng
        self.calls: i64 = 0  # under way
        self.calls_ended: i64 = 0
        self.calls_failed: i64 = 0  # ended with a status other than OK
        self.draining = False
        self.drain_patience_over = False
        self._drain_timer: Timer | None = None
        self.downstreams: dict[int, Downstream] = {}
        self._next_downstream = 0
        self._pools: dict[Endpoint, Pool] = {}
        self._leaving: list[Pool] = []  # of endpoints that left, while streams are open

    def pool(self, endpoint: Endpoint) -> Pool:
        """The endpoint's pool, made at its first call."""
        pool = self._pools.get(endpoint)
        if pool is None:
            pool = Pool(endpoint, self.dialer, self.timers, self.rng)
            self._pools[endpoint] = pool
        return pool

    def use(self, snapshot: Snapshot, removed: list[Endpoint], now: float) -> None:
        """New calls use this snapshot; pools of endpoints that left take no more calls and end with their last one."""
        self.snapshot = snapshot
        self._leaving = [pool for pool in self._leaving if not pool.is_empty()]
        for endpoint in removed:
            endpoint.removed = True
            pool = self._pools.pop(endpoint, None)
            if pool is not None:
                pool.close(now)
                self._leaving.append(pool)

    def call_ended(self, call: Call) -> None:
        """Called by ``Call.finish`` alone."""
        self.calls -= 1
        self.calls_ended += 1
        if call.outcome.code:
            self.calls_failed += 1
        self.recorder.end(call.trace, call.outcome)

    def downstream_opened(self, downstream: Downstream) -> None:
        """A client connected."""
        downstream.number = self._next_downstream
        self._next_downstream += 1
        self.downstreams[downstream.number] = downstream

    def downstream_closed(self, downstream: Downstream) -> None:
        """A client's connection is over."""
        self.downstreams.pop(downstream.number, None)
        if not self.downstreams and self._drain_timer is not None:
            self.timers.cancel(self._drain_timer)
            self._drain_timer = None

    def drain(self, now: float) -> None:
        """Ask every client to go elsewhere; calls under way finish."""
        self.draining = True
        self._drain_timer = self.timers.add(now + DRAIN_PATIENCE, DrainPatience(self))
        for downstream in list(self.downstreams.values()):
            downstream.drain(now)

    def end_drain_patience(self, now: float) -> None:
        """From now on a draining connection goes with its last call, whether or not its client has answered."""
        self.drain_patience_over = True
        for downstream in list(self.downstreams.values()):
            downstream.close_if_drained(now)

    def abort(self, reason: str, now: float) -> None:
        """End every connection at once."""
        for downstream in list(self.downstreams.values()):
            if downstream.connection is not None:
                downstream.connection.close(reason, now)
        for pool in [*self._pools.values(), *self._leaving]:
            pool.abort(reason, now)
        self._pools.clear()

    def counters(self) -> dict[str, int]:
        """What is open now, and what ever was. All but connections and totals are zero in a gateway without work."""
        downstream_streams = 0
        for downstream in self.downstreams.values():
            if downstream.connection is not None:
                downstream_streams += len(downstream.connection.streams)
        upstream_streams = 0
        upstream_connections = 0
        waiting = 0
        pool_timers = 0
        for pool in [*self._pools.values(), *self._leaving]:
            waiting += pool.waiting()
            pool_timers += pool.timers()
            for link in pool.all_links():
                upstream_connections += 1
                if link.connection is not None:
                    upstream_streams += len(link.connection.streams)
        return {
            "calls": int(self.calls),
            "downstream_streams": downstream_streams,
            "upstream_streams": upstream_streams,
            "waiting_for_a_link": waiting,
            "timers": len(self.timers) - pool_timers,
            "downstream_connections": len(self.downstreams),
            "upstream_connections": upstream_connections,
            "calls_ended": int(self.calls_ended),
            "calls_failed": int(self.calls_failed),
        }
