"""The registry at work: one writer that decides, commits, applies and publishes, and one turn of the lease clock.

Every change takes the same way: ``rules`` decide on a batch, the store commits it, then catalog, leases and watchers
see it in one step without a wait in between. Beats renew leases without the writer; only what they change goes to it.
"""

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from registry.catalog import Catalog, Scope
from registry.errors import Reason, RegistryError, shown
from registry.leases import LeaseClock
from registry.model import Batch, Record, ServiceKey
from registry.requests import Beat, BeatReply, Granted, Patch, Registration
from registry.rules import Rules
from registry.store.base import Store, StoreFullError
from registry.watch import WatchHub

logger = logging.getLogger(__name__)

REAP_BATCH = 500  # leases ended under one revision; between batches other calls get their turn
MAX_REQUEST_IDS = 10_000  # remembered, newest; about 2 MiB
MAX_REVISION_WAITERS = 1_000  # calls that wait for a revision; each commit looks at all of them
STALL_WORTH_A_WARNING_SECONDS = 1.0


@dataclass(frozen=True)
class Stats:
    """The registry's own numbers, for people and metrics."""

    leases: int
    watchers: int
    revision: int
    lease_clock_lag_seconds: float
    identity_conflicts: int


class RequestIds:
    """The newest request ids with the fingerprint of what they asked for. Bounded: the oldest are forgotten."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def check(self, request_id: str, fingerprint: bytes) -> None:
        """Refuse an id that came with another request before."""
        if self._seen.get(request_id, fingerprint) != fingerprint:
            raise RegistryError(
                Reason.REQUEST_ID_REUSED,
                f"request_id: {shown(request_id)} was used for another request; use a new one for each",
                field="request_id",
            )

    def remember(self, request_id: str, fingerprint: bytes) -> None:
        """The request was carried out."""
        if request_id:
            self._seen[request_id] = fingerprint
            self._seen.move_to_end(request_id)
            if len(self._seen) > MAX_REQUEST_IDS:
                self._seen.popitem(last=False)


class Engine:
    """Serves one catalog from one event loop. Raises RegistryError for what it refuses.

    ``monotonic`` gives seconds; ``warming_seconds`` says for how long (lease time) absence proves nothing.
    """

    def __init__(self, rules: Rules, store: Store, monotonic: Callable[[], float], warming_seconds: float) -> None:
        self.catalog = rules.catalog
        self.hub = WatchHub(rules.catalog)
        self._rules = rules
        self._store = store
        self._monotonic = monotonic
        self._clock = LeaseClock(monotonic())
        self._warming_until = warming_seconds
        self._writer = asyncio.Lock()
        self._requests = RequestIds()
        self._revision_waiters: dict[asyncio.Future[None], int] = {}

    def now(self) -> float:
        """The lease time."""
        return self._clock.read(self._monotonic())

    def monotonic(self) -> float:
        """The time that watches go by, in seconds."""
        return self._monotonic()

    @property
    def warming(self) -> bool:
        """Whether the registry started without its past so lately that instances may not be back yet."""
        return self.now() < self._warming_until

    def stats(self) -> Stats:
        """The numbers now."""
        return Stats(
            leases=len(self._rules.leases),
            watchers=len(self.hub),
            revision=self.catalog.revision,
            lease_clock_lag_seconds=self._clock.lag,
            identity_conflicts=self._rules.identity_conflicts,
        )

    async def register(self, wish: Registration, request_id: str, fingerprint: bytes) -> Granted:
        """Grant, renew or refuse a lease; kept by the store before this returns."""
        self._requests.check(request_id, fingerprint)
        async with self._writer:
            batch, granted = self._rules.register(wish, self.now())
            await self._commit(batch)
        self._requests.remember(request_id, fingerprint)
        return granted

    async def keep_alive(self, beats: list[Beat]) -> list[BeatReply]:
        """Renew leases, one reply a beat, in order. A full store does not fail a beat, it only delays what it says."""
        now = self.now()
        replies = []
        changed = []
        for beat in beats:
            reply, name = self._rules.beat(beat, now)
            replies.append(reply)
            if name is not None:
                changed.append(name)
        if changed:
            try:
                async with self._writer:
                    await self._commit(self._rules.settle(changed, self.now()))
            except RegistryError as error:
                logger.warning("beats are counted, but what they change is not published: %s", error.message)
        return replies

    async def update(self, patch: Patch) -> bool:
        """Change a record; says whether anything changed."""
        async with self._writer:
            batch = self._rules.update(patch, self.now())
            await self._commit(batch)
        return batch is not None

    async def drain(self, lease_id: bytes, deadline_ms: int) -> int:
        """Stop new calls to an instance; returns what is left until its lease ends, in ms."""
        async with self._writer:
            batch, left_ms = self._rules.drain(lease_id, deadline_ms, self.now())
            await self._commit(batch)
        return left_ms

    async def deregister(self, lease_id: bytes) -> bool:
        """End a lease; says whether it was gone already."""
        async with self._writer:
            batch = self._rules.deregister(lease_id, self.now())
            await self._commit(batch)
        return batch is None

    def resolve(self, key: ServiceKey) -> tuple[list[Record], int]:
        """The records of a service and, when it has none, for how many ms; SERVICE_UNKNOWN for one never seen."""
        records = self.catalog.instances(key)
        if records is None:
            warming = self.warming
            raise RegistryError(
                Reason.SERVICE_UNKNOWN,
                f"service {shown(key.service)} is not known in namespace {shown(key.namespace)}"
                + ("; the registry started lately, so it may still come back" if warming else "; check the name"),
                metadata={"warming": "true"} if warming else None,
            )
        empty_since = self.catalog.empty_since(key)
        return records, 0 if empty_since is None else max(1, int((self.now() - empty_since) * 1000.0))

    def services(self, namespace: str) -> list[tuple[ServiceKey, list[Record]]]:
        """All services of a namespace with their records, sorted by name."""
        keys = self.catalog.known_services(Scope(namespace))
        return [(key, self.catalog.instances(key) or []) for key in keys]

    def descriptor_set(self, digest: str) -> bytes:
        """The descriptor set that some living instance brought."""
        found = self._rules.descriptors.get(digest)
        if found is None:
            raise RegistryError(
                Reason.DESCRIPTOR_UNKNOWN, f"no living instance brought the descriptor set {digest}; resolve again"
            )
        return found

    async def reach(self, revision: int, timeout: float) -> None:
        """Wait until the catalog has reached a revision; REVISION_NOT_REACHED after ``timeout`` seconds."""
        if self.catalog.revision >= revision:
            return
        if len(self._revision_waiters) >= MAX_REVISION_WAITERS:
            raise RegistryError(
                Reason.QUOTA, f"{MAX_REVISION_WAITERS} calls wait for a revision, and no more may", retry_after_ms=1000
            )
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._revision_waiters[reached] = revision
        try:
            await asyncio.wait_for(reached, timeout)
        except TimeoutError:
            raise RegistryError(
                Reason.REVISION_NOT_REACHED,
                f"revision {revision} was not reached in time; the catalog is at {self.catalog.revision}",
                metadata={"revision": str(self.catalog.revision)},
            ) from None
        finally:
            self._revision_waiters.pop(reached, None)

    async def turn(self) -> None:
        """One tick: move the lease clock, then doubt and end what is due."""
        stalled_before, lag_before = self._clock.stalled, self._clock.lag
        now = self._clock.advance(self._monotonic())
        lost = self._clock.lag - lag_before
        if lost >= STALL_WORTH_A_WARNING_SECONDS:
            logger.warning("the registry stood still for %.1f s; leases got that time back", lost)
        if self._clock.stalled and not stalled_before:
            return  # beats that came during the stall are read first; a lasting stall must not stop expiry
        try:
            await self._reap(now)
        except RegistryError as error:
            logger.warning("leases that ended stay listed for now: %s", error.message)
        self.catalog.sweep(now)
        self._rules.leases.sweep(now)

    async def _reap(self, now: float) -> None:
        while True:
            async with self._writer:
                batch, looked_at = self._rules.reap(now, REAP_BATCH)
                await self._commit(batch)
            if looked_at < REAP_BATCH:
                return
            await asyncio.sleep(0)

    async def _commit(self, batch: Batch | None) -> None:
        """Store, then show. Only ever under the writer's lock; a batch that the store refuses changes nothing."""
        if batch is None:
            return
        try:
            await self._store.commit(batch)
        except StoreFullError as error:
            raise RegistryError(
                Reason.STORE_FULL, f"the registry's store is full or read-only ({error}); make room, then try again"
            ) from error
        self._rules.apply(batch, self.now())
        self.hub.publish(batch)
        for waiter, revision in self._revision_waiters.items():
            if revision <= self.catalog.revision and not waiter.done():
                waiter.set_result(None)


async def open_engine(
    store: Store,
    monotonic: Callable[[], float],
    rng: random.Random,
    new_id: Callable[[], bytes],
    min_ttl_ms: int,
    max_ttl_ms: int,
) -> Engine:
    """Load the store and take over what it kept, every lease with a full term from now."""
    loaded = await store.load()
    rules = Rules(Catalog(loaded.epoch, loaded.revision), rng, new_id, min_ttl_ms, max_ttl_ms)
    engine = Engine(rules, store, monotonic, warming_seconds=max_ttl_ms / 1000.0 if loaded.empty else 0.0)
    rules.restore(loaded.records, loaded.descriptors, engine.now())
    return engine
