"""The store that forgets: a registry without a data directory."""

from registry.model import Batch
from registry.store.base import Loaded, Store


class MemoryStore(Store):
    """Keeps nothing beyond the catalog itself; every start is a new epoch (16 random bytes, passed in)."""

    def __init__(self, epoch: bytes) -> None:
        self._epoch = epoch

    async def load(self) -> Loaded:
        """Nothing, and the warning that this says nothing of the past."""
        return Loaded(epoch=self._epoch, revision=0, records=(), descriptors={}, empty=True)

    async def commit(self, batch: Batch) -> None:
        """The catalog is the only copy."""
