"""What the gateway knows of the mesh's gRPC services: one entry a service of the mesh, learned when it is asked for.

An entry stays as long as the healthy instances of its service do (same ids, incarnations and descriptor sets).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

from gateway.admin.descriptors import FilePool
from gateway.admin.learn import Learned, LearnError, learn, parse_set
from gateway.control.view import InstanceView, MeshView

logger = logging.getLogger(__name__)

# Instances asked, one after the other, before a service counts as one that cannot be learned.
MAX_INSTANCES_ASKED: Final = 3
# Services learned at the same time: the first `grpcurl list` in a large mesh must not dial all of it at once.
MAX_CONCURRENT: Final = 16
# All of one service's instances together; a hung one must not keep the person at the prompt waiting.
SERVICE_TIMEOUT_S: Final = 5.0
# After a failure the same instances are asked again only after this long (seconds).
RELEARN_AFTER_S: Final = 10.0
# Of all pools together: a few KiB a service makes this thousands of services.
MAX_TOTAL_BYTES: Final = 128 * 1024 * 1024

FetchDescriptorSet = Callable[[str], Awaitable[bytes]]
Learn = Callable[[str, Collection[str]], Awaitable[Learned]]
InstanceKey = tuple[str, int, str]


class Entry:
    """One service of the mesh. ``pool`` is None when nothing could be learned; ``reason`` then says why."""

    def __init__(self, service: str, grpc_services: Collection[str], pool: FilePool | None, reason: str) -> None:
        self.service = service
        self.grpc_services = frozenset(grpc_services)  # declared and learned
        self.pool = pool
        self.reason = reason


class _Cached:
    def __init__(self, instances: frozenset[InstanceKey], entry: Entry, stale_at: float) -> None:
        self.instances = instances
        self.entry = entry
        self.stale_at = stale_at


class Library:
    """Learns what is missing when ``entries`` is asked for, and forgets services that are gone.

    ``own`` are the gRPC services that the gateway answers itself: learned from nobody. ``now`` is a monotonic clock.
    """

    def __init__(
        self,
        view: Callable[[], MeshView],
        own: Collection[str],
        fetch: FetchDescriptorSet | None,
        now: Callable[[], float],
        learn_from: Learn = learn,
    ) -> None:
        self._view = view
        self._own = frozenset(own)
        self._fetch = fetch
        self._now = now
        self._learn_from = learn_from
        self._cache: dict[str, _Cached] = {}
        self._one_at_a_time = asyncio.Lock()
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)

    async def entries(self) -> list[Entry]:
        """An entry for each service with a healthy instance, by name. Never raises; what failed says so."""
        async with self._one_at_a_time:
            healthy = _healthy(self._view())
            self._cache = {name: cached for name, cached in self._cache.items() if name in healthy}
            stale = [name for name, instances in healthy.items() if not self._is_fresh(name, instances)]
            found = await asyncio.gather(*(self._learn(name, healthy[name]) for name in stale))
            room = MAX_TOTAL_BYTES - sum(_size(self._cache[name].entry) for name in self._cache if name not in stale)
            for name, entry in zip(stale, found, strict=True):
                room -= _size(entry)
                self._remember(_without_pool(entry) if room < 0 else entry, healthy[name])
            return [self._cache[name].entry for name in sorted(healthy)]

    def _is_fresh(self, name: str, instances: list[InstanceView]) -> bool:
        cached = self._cache.get(name)
        return cached is not None and cached.instances == _keys(instances) and self._now() < cached.stale_at

    def _remember(self, entry: Entry, instances: list[InstanceView]) -> None:
        before = self._cache.get(entry.service)
        if entry.pool is None and (before is None or before.entry.reason != entry.reason):
            # Also here, because tools such as grpcurl show only that the symbol was not found.
            logger.warning("Reflection: service %r %s.", entry.service, entry.reason)
        stale_at = float("inf") if entry.pool is not None else self._now() + RELEARN_AFTER_S
        self._cache[entry.service] = _Cached(_keys(instances), entry, stale_at)

    async def _learn(self, service: str, instances: list[InstanceView]) -> Entry:
        declared = frozenset(name for instance in instances for name in instance.grpc_services) - self._own
        reason = ""
        async with self._slots:
            try:
                async with asyncio.timeout(SERVICE_TIMEOUT_S):
                    for instance in instances[:MAX_INSTANCES_ASKED]:
                        try:
                            learned = await self._learn_from_instance(instance)
                        except LearnError as error:
                            reason = str(error)
                        else:
                            pool = FilePool(service, learned.files)
                            return Entry(service, declared | set(learned.services), pool, "")
            except TimeoutError:
                reason = f"did not tell its descriptors within {SERVICE_TIMEOUT_S:g} s"
        return Entry(service, declared, None, reason)

    async def _learn_from_instance(self, instance: InstanceView) -> Learned:
        if not instance.descriptor_digest or self._fetch is None:
            return await self._learn_from(instance.addresses[0], self._own)
        try:
            content = await self._fetch(instance.descriptor_digest)
        except Exception as error:
            # Whatever the source of the set raises: the instance may still reflect.
            try:
                return await self._learn_from(instance.addresses[0], self._own)
            except LearnError:
                raise LearnError(f"has a descriptor set that could not be fetched ({error})") from error
        files = parse_set(content)
        # A set also holds what its files import; what the instance declares is what it serves.
        services = list(instance.grpc_services) or FilePool("", files).services
        return Learned([name for name in services if name not in self._own], files)


def _healthy(view: MeshView) -> Mapping[str, list[InstanceView]]:
    """The instances of each service that take calls: those with a descriptor set first, then by id."""
    found: dict[str, list[InstanceView]] = {}
    for instance in view.instances:
        if instance.ready and not instance.draining and instance.addresses:
            found.setdefault(instance.service, []).append(instance)
    for instances in found.values():
        instances.sort(key=lambda instance: (not instance.descriptor_digest, instance.instance_id))
    return found


def _keys(instances: list[InstanceView]) -> frozenset[InstanceKey]:
    return frozenset((one.instance_id, one.incarnation, one.descriptor_digest) for one in instances)


def _size(entry: Entry) -> int:
    return entry.pool.size if entry.pool is not None else 0


def _without_pool(entry: Entry) -> Entry:
    return Entry(
        entry.service,
        entry.grpc_services,
        None,
        f"finds no room: the mesh's descriptors take more than {MAX_TOTAL_BYTES // (1024 * 1024)} MiB",
    )
