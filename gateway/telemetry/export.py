"""The queue between the request path and the collector, and the thread that empties it.

``put`` is all that the request path sees: one append, or one count when the queue is full. Whatever the exporter does
(hang, refuse, raise), only this thread waits for it.
"""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

from gateway.telemetry.senders import Sender
from gateway.telemetry.spans import Record, span_count

logger = logging.getLogger(__name__)

# The logger above all of the SDK's exporters, which report every single failure.
EXPORTER_LOGGER: Final = "opentelemetry.exporter"
# A full queue stays full for as long as the collector is slow: once a minute is often enough to say so.
DROP_WARNING_PERIOD_S: Final = 60.0
# How long a thread that was told to give up gets to notice: an aborted request ends at once.
ABORT_GRACE_S: Final = 0.5


class FailureLog(logging.Handler):
    """Keeps the last thing that an exporter of the SDK logged, so that one sentence can name it."""

    def __init__(self) -> None:
        super().__init__()
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Remember the message of this record."""
        self.last = record.getMessage()

    def attach(self) -> None:
        """From now on the exporters' words end here and not in the log."""
        source = logging.getLogger(EXPORTER_LOGGER)
        source.addHandler(self)
        source.propagate = False
        for name in list(logging.root.manager.loggerDict):
            if name.startswith(EXPORTER_LOGGER):
                # The SDK's filter of repetitions goes by the format string: it would hide the second outage's reason.
                logging.getLogger(name).filters.clear()

    def detach(self) -> None:
        """Give the exporters their log back."""
        source = logging.getLogger(EXPORTER_LOGGER)
        source.removeHandler(self)
        source.propagate = True


class ExportQueue:
    """A bounded queue of records with one exporting thread.

    ``capacity`` and ``batch`` count records (calls), ``delay`` is the longest time in seconds that a record waits for
    company. The newest record is dropped when the queue is full, because the request path never waits.
    """

    def __init__(
        self,
        sender: Sender,
        capacity: int,
        batch: int,
        delay: float,
    ) -> None:
        self._sender = sender
        self._capacity = capacity
        self._batch = min(batch, capacity)
        self._delay = delay
        self._records: deque[Record] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._gave_up = False
        self._next_warning = float("-inf")
        self._failing = False
        self._lost_before = 0  # the value of ``failed`` when the outage began
        self._failures = FailureLog()
        self._failures.attach()
        self.dropped = 0  # calls that found the queue full; written by the request path alone
        self.exported = 0  # spans that the collector took
        self.failed = 0  # spans that it did not
        self._thread = threading.Thread(target=self._run, name="meshway-traces", daemon=True)
        self._thread.start()

    def put(self, record: Record) -> None:
        """Take a record, or drop and count it. O(1), never waits."""
        waiting = len(self._records)
        if waiting >= self._capacity or self._closing:
            self._drop(record)
            return
        self._records.append(record)
        if waiting + 1 >= self._batch and not self._wake.is_set():
            self._wake.set()

    def waiting(self) -> int:
        """How many records wait for export."""
        return len(self._records)

    def close(self, timeout: float) -> bool:
        """Export what waits, for at most ``timeout`` seconds; whether all of it was. Blocks; idempotent."""
        if self._closing:
            return not self._records
        failed_before = self.failed
        self._closing = True
        self._wake.set()
        self._thread.join(timeout)
        self._gave_up = True
        # Also aborts an export under way: the SDK's exporters leave their retries at shutdown.
        self._sender.shutdown()
        self._thread.join(ABORT_GRACE_S)
        self._failures.detach()
        left = len(self._records)
        if left:
            logger.warning("%d traced calls were not exported before the end: the collector did not answer.", left)
        return left == 0 and self.failed == failed_before

    def _drop(self, record: Record) -> None:
        self.dropped += 1
        now = record[1].ended
        if now >= self._next_warning and not self._closing:
            self._next_warning = now + DROP_WARNING_PERIOD_S
            logger.warning(
                "Traces are dropped, %d calls so far: all %d places of the export queue are taken. "
                "Calls are not affected. Raise OTEL_BSP_MAX_QUEUE_SIZE, sample less (OTEL_TRACES_SAMPLER), "
                "or look after the collector.",
                self.dropped,
                self._capacity,
            )

    def _run(self) -> None:
        while True:
            self._wake.wait(self._delay)
            self._wake.clear()
            last = self._closing
            while self._records and not self._gave_up:
                self._export(self._next_batch())
            if last:
                return

    def _next_batch(self) -> list[Record]:
        # The only consumer: what len() promises stays there.
        return [self._records.popleft() for place in range(min(self._batch, len(self._records)))]

    def _export(self, records: Sequence[Record]) -> None:
        try:
            taken = self._sender.send(records)
        except Exception as error:
            # The thread must outlive whatever an exporter throws.
            self._failures.last = f"{type(error).__name__}: {error}"
            taken = False
        spans = span_count(records)
        if taken:
            self.exported += spans
            self._recovered()
        else:
            self.failed += spans
            self._report(spans)

    def _report(self, lost: int) -> None:
        if not self._failing:
            self._failing = True
            self._lost_before = self.failed - lost
            logger.warning(
                "Traces cannot be exported (%s). Calls go on; their spans are lost until the collector answers.",
                self._failures.last or "the exporter gave no reason",
            )

    def _recovered(self) -> None:
        if self._failing:
            self._failing = False
            self._failures.last = ""
            logger.info("Traces are exported again; %d spans were lost meanwhile.", self.failed - self._lost_before)
