"""The recorder of calls as OpenTelemetry traces: what happens on the request path, and no more than that."""

import random
from collections.abc import Callable
from typing import Final

from gateway.model import CallTrace, Outcome, Recorder, Request
from gateway.telemetry.export import ExportQueue
from gateway.telemetry.propagation import Propagation, Remote

# One above the largest low half of a trace id: a bound that every id is below.
ALWAYS: Final = 1 << 64
NEVER: Final = 0


class Sampling:
    """The SDK's samplers as one comparison (TraceIdRatioBased: the low 64 bits of the trace id against a bound).

    ``root_bound`` decides for calls without a caller's context, and for all when ``parent_based`` is false.
    """

    def __init__(self, root_bound: int, parent_based: bool) -> None:
        self._root_bound = root_bound
        self._parent_based = parent_based

    def sampled(self, trace_id: bytes, caller: Remote | None) -> bool:
        """Whether this call is recorded."""
        if self._parent_based and caller is not None:
            return caller.sampled
        return int.from_bytes(trace_id[8:], "big") < self._root_bound


class TraceRecorder(Recorder):
    """Continues the caller's trace, and hands ended calls to the export queue.

    A call that is not sampled is continued too, with its flag off, so that everybody downstream decides alike.
    ``getrandbits`` makes the ids.
    """

    def __init__(
        self,
        propagation: Propagation,
        sampling: Sampling,
        queue: ExportQueue,
        getrandbits: Callable[[int], int] = random.getrandbits,
    ) -> None:
        super().__init__()
        self.replaced = propagation.names
        self._propagation = propagation
        self._sampling = sampling
        self._queue = queue
        self._getrandbits = getrandbits

    def begin(self, request: Request) -> CallTrace:
        """The call's place in the caller's trace, or in a new one."""
        caller = self._propagation.extract(request.fields)
        ids = self._new_ids()
        if caller is None:
            trace_id = ids[:16]
            parent = b""
            state = ""
        else:
            trace_id = caller.trace_id
            parent = caller.span_id
            state = caller.tracestate
        client_span_id = ids[24:]
        sampled = self._sampling.sampled(trace_id, caller)
        fields = self._propagation.inject(caller, trace_id, client_span_id, sampled)
        return CallTrace(trace_id, parent, ids[16:24], client_span_id, sampled, state, fields)

    def end(self, trace: CallTrace | None, outcome: Outcome) -> None:
        """Queue the call for export, if it is sampled."""
        if trace is not None and trace.sampled:
            self._queue.put((trace, outcome))

    def close(self, timeout: float) -> bool:
        """Export what waits, for at most ``timeout`` seconds; whether all of it was. Blocks: not for the event loop."""
        return self._queue.close(timeout)

    def counters(self) -> dict[str, int]:
        """What the operator's page shows of the traces."""
        queue = self._queue
        return {
            "spans_exported": queue.exported,
            "spans_failed": queue.failed,
            "traced_calls_dropped": queue.dropped,
            "traced_calls_waiting": queue.waiting(),
        }

    def _new_ids(self) -> bytes:
        # A trace id and two span ids in one draw. All-zero ids are invalid; their odds are 1 in 2**64.
        while True:
            ids = self._getrandbits(256).to_bytes(32, "big")
            if any(ids[:16]) and any(ids[16:24]) and any(ids[24:]):
                return ids
