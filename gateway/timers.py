"""Timers without a clock: a heap of deadlines, fired by whoever knows what time it is."""

import heapq

from mypy_extensions import i64, mypyc_attr

from gateway.model import Waiter


class Timer:
    """One pending wake-up. ``deadline`` is in seconds of the injected monotonic clock."""

    def __init__(self, deadline: float, waiter: Waiter) -> None:
        self.deadline = deadline
        self.waiter: Waiter | None = waiter


@mypyc_attr(allow_interpreted_subclasses=True)
class Alarm:
    """Knows what time it is; implemented where the event loop lives."""

    def set(self, deadline: float) -> None:
        """The queue has a new earliest deadline: arrange for an ``expire`` then."""
        raise NotImplementedError


class TimerQueue:
    """Deadlines in a heap. Cancelling is O(1) and lazy; the heap is rebuilt when most of it is cancelled.

    The alarm, if there is one, hears of every deadline that is earlier than those before it.
    """

    def __init__(self, alarm: Alarm | None = None) -> None:
        self._alarm = alarm
        self._heap: list[tuple[float, int, Timer]] = []
        self._sequence = 0
        self._cancelled: i64 = 0

    def add(self, deadline: float, waiter: Waiter) -> Timer:
        """Wake the waiter at the first ``expire`` with ``now >= deadline``."""
        timer = Timer(deadline, waiter)
        self._sequence += 1
        heapq.heappush(self._heap, (deadline, self._sequence, timer))
        if self._alarm is not None and self._heap[0][2] is timer:
            self._alarm.set(deadline)
        return timer

    def cancel(self, timer: Timer) -> None:
        """Forget the timer; harmless after it fired or was cancelled."""
        if timer.waiter is None:
            return
        timer.waiter = None
        self._cancelled += 1
        # Keeps the heap within twice its live timers: calls with long deadlines come and go by the thousand.
        if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].waiter is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_deadline(self) -> float | None:
        """When ``expire`` should run next, or None while nothing waits."""
        while self._heap and self._heap[0][2].waiter is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return self._heap[0][0] if self._heap else None

    def expire(self, now: float) -> None:
        """Wake everything that is due, in order of deadline."""
        while self._heap and self._heap[0][0] <= now:
            timer = heapq.heappop(self._heap)[2]
            waiter = timer.waiter
            if waiter is None:
                self._cancelled -= 1
            else:
                timer.waiter = None
                waiter.wake(now)

    def __len__(self) -> int:
        return len(self._heap) - int(self._cancelled)
