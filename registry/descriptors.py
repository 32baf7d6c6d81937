"""Descriptor sets by digest, each held once however many instances bring it, and dropped with the last of them."""

import hashlib

MAX_DESCRIPTOR_SET_BYTES = 512 * 1024  # one; half of the largest message
MAX_TOTAL_BYTES = 256 * 1024 * 1024  # all together: 512 different ones of the largest size


def digest_of(descriptor_set: bytes) -> str:
    """The hex SHA-256 of a serialized FileDescriptorSet; empty for none."""
    return hashlib.sha256(descriptor_set).hexdigest() if descriptor_set else ""


class DescriptorSets:
    """Counts the instances that refer to each set."""

    def __init__(self) -> None:
        self._sets: dict[str, bytes] = {}
        self._references: dict[str, int] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sets)

    def get(self, digest: str) -> bytes | None:
        """The serialized set, or None."""
        return self._sets.get(digest)

    def has_room(self, digest: str, descriptor_set: bytes) -> bool:
        """Whether it may be added."""
        return digest in self._sets or self._bytes + len(descriptor_set) <= MAX_TOTAL_BYTES

    def replace(self, old_digest: str, new_digest: str, brought: dict[str, bytes]) -> None:
        """An instance refers to another set than before; an empty digest is none. ``brought`` holds new sets."""
        if old_digest == new_digest:
            return
        if new_digest:
            if new_digest not in self._sets:
                self._sets[new_digest] = brought[new_digest]
                self._bytes += len(brought[new_digest])
            self._references[new_digest] = self._references.get(new_digest, 0) + 1
        if old_digest:
            self._release(old_digest)

    def _release(self, digest: str) -> None:
        self._references[digest] -= 1
        if not self._references[digest]:
            del self._references[digest]
            self._bytes -= len(self._sets.pop(digest))
