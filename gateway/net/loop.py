"""The event loop's two duties towards the sans-IO parts: flush what became dirty, and fire the timers."""

import asyncio
import time

from gateway.http2.handler import OutputQueue
from gateway.timers import Alarm, TimerQueue


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


class LoopAlarm(Alarm):
    """Keeps one timer of the loop on a queue's earliest deadline."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.timers = TimerQueue(self)
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None
        self._set_for = 0.0

    def set(self, deadline: float) -> None:
        """Fire at the deadline, unless it fires before anyway. A timer that went away is found out when it is due."""
        if self._handle is not None:
            if self._set_for <= deadline:
                return
            self._handle.cancel()
        self._set_for = deadline
        self._handle = self._loop.call_later(max(deadline - time.monotonic(), 0.0), self._fire)

    def _fire(self) -> None:
        self._handle = None
        self.timers.expire(time.monotonic())
        deadline = self.timers.next_deadline()
        if deadline is not None:
            self.set(deadline)

    def stop(self) -> None:
        """Fire no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
