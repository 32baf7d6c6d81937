"""What the registry asks of a place that keeps its records. Beats never reach it: a lease's deadline is not stored."""

from dataclasses import dataclass

from registry.model import Batch, Record


class StoreFullError(Exception):
    """The store cannot take the batch (disk full, read-only, over quota). Nothing of it was kept."""


@dataclass(frozen=True)
class Loaded:
    """What a store held at start. ``empty`` says that the past is unknown, so that absence proves nothing yet."""

    epoch: bytes
    revision: int
    records: tuple[Record, ...]
    descriptors: dict[str, bytes]
    empty: bool


class Store:
    """Keeps committed batches. One registry at a time owns a store, and calls it from one event loop."""

    async def load(self) -> Loaded:
        """Everything kept so far; called once, before any commit. A new store mints its epoch here."""
        raise NotImplementedError

    async def commit(self, batch: Batch) -> None:
        """Keep the batch as a whole: durable when this returns. Raises StoreFullError, having kept nothing.

        Batches come one at a time, in the order of their revisions.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Give up the store; no call follows."""
