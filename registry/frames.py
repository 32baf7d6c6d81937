"""Watch messages as bytes, made once for all watchers that are told the same."""

from collections import OrderedDict
from collections.abc import Hashable

from registry.catalog import Scope
from registry.engine import Engine
from registry.translate import changing_with_time, watch_response
from registry.watch import DeltaEvent, Event, SnapshotPart

MAX_FRAME_BYTES = 32 * 1024 * 1024  # kept in all: a snapshot of 100,000 small records


class Frames:
    """Encodes events, and keeps what other watchers may need too; the longest unused go first."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._bytes = 0

    def encode(self, event: Event, scope: Scope) -> bytes:
        """The message for an event of a watcher with this scope."""
        key = _key(event, scope)
        if key is None:
            return self._encoded(event)
        frame = self._kept.get(key)
        if frame is not None:
            self._kept.move_to_end(key)
            return frame
        frame = self._encoded(event)
        self._kept[key] = frame
        self._bytes += len(frame)
        while self._bytes > MAX_FRAME_BYTES:
            self._bytes -= len(self._kept.popitem(last=False)[1])
        return frame

    def _encoded(self, event: Event) -> bytes:
        return watch_response(event, self._engine).SerializeToString()


def _key(event: Event, scope: Scope) -> Hashable | None:
    """What makes two events the same message; None for one that is not worth keeping, or would be wrong later."""
    if changing_with_time(event):
        return None
    if isinstance(event, DeltaEvent):
        return scope, event.prev_revision, event.revision
    if isinstance(event, SnapshotPart):
        return scope, "snapshot", event.revision, event.start
    return None
