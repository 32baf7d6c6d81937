"""The event loop's two duties towards the sans-IO parts: flush what became dirty, and fire the timers."""

import asyncio
import time

from gateway.http2.handler import OutputQueue
from gateway.timers import TimerQueue


class LoopOutput(OutputQueue):
    """Flushes all dirty wires once a turn of the loop: one write a connection, whatever happened to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop

    def schedule(self) -> None:
        """Runs after every callback that is ready now, before the loop waits again."""
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self.flush_all(time.monotonic())


class LoopTimers:
    """Keeps one timer of the loop on the queue's earliest deadline."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timers: TimerQueue) -> None:
        self._loop = loop
        self._timers = timers
        self._handle: asyncio.TimerHandle | None = None
        self._armed_for = 0.0

    def rearm(self) -> None:
        """Call after anything that may have added a timer. A timer that went away is found out when it would fire."""
        deadline = self._timers.next_deadline()
        if deadline is None or (self._handle is not None and self._armed_for <= deadline):
            return
        if self._handle is not None:
            self._handle.cancel()
        self._armed_for = deadline
        self._handle = self._loop.call_later(max(deadline - time.monotonic(), 0.0), self._fire)

    def _fire(self) -> None:
        self._handle = None
        self._timers.expire(time.monotonic())
        self.rearm()

    def stop(self) -> None:
        """Fire no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
