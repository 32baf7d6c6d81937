"""A registry without IO for the tests of its rules: time stands still until a test moves it."""

import itertools
import random
from dataclasses import replace

from registry.catalog import Catalog, Scope
from registry.model import Batch, Name, Record, Spec
from registry.requests import Beat, BeatReply, Granted, Registration
from registry.rules import Rules
from registry.watch import WatchHub

EPOCH = b"e" * 16
ALL = Scope("default")


def boot(letter: str) -> bytes:
    return letter.encode() * 16


def name(instance_id: str = "a", service: str = "cart") -> Name:
    return Name("default", service, instance_id)


def spec(instance_id: str = "a", service: str = "cart", address: str = "10.0.0.1:80", **fields: object) -> Spec:
    return replace(Spec(name(instance_id, service), (address,)), **fields)


def registration(instance_id: str = "a", by: str = "A", **fields: object) -> Registration:
    of_spec = {key: fields.pop(key) for key in list(fields) if key in ("service", "address", "weight", "labels")}
    return replace(Registration(spec(instance_id, **of_spec), boot(by)), **fields)


class World:
    def __init__(self, revision: int = 0) -> None:
        ids = itertools.count(1)
        self.now = 100.0
        self.catalog = Catalog(EPOCH, revision)
        self.rules = Rules(self.catalog, random.Random(7), lambda: next(ids).to_bytes(16, "big"))
        self.hub = WatchHub(self.catalog)

    def commit(self, batch: Batch | None) -> Batch | None:
        if batch is not None:
            self.rules.apply(batch, self.now)
            self.hub.publish(batch)
        return batch

    def register(self, instance_id: str = "a", by: str = "A", **fields: object) -> Granted:
        batch, granted = self.rules.register(registration(instance_id, by, **fields), self.now)
        self.commit(batch)
        return granted

    def beat(self, lease_id: bytes, ready: bool | None = None, reason: str = "") -> BeatReply:
        reply, changed = self.rules.beat(Beat(lease_id, ready, reason), self.now)
        if changed is not None:
            self.commit(self.rules.settle([changed], self.now))
        return reply

    def drain(self, lease_id: bytes, deadline_ms: int = 30_000) -> int:
        batch, left = self.rules.drain(lease_id, deadline_ms, self.now)
        self.commit(batch)
        return left

    def deregister(self, lease_id: bytes) -> bool:
        """Whether it was gone already."""
        return self.commit(self.rules.deregister(lease_id, self.now)) is None

    def pass_time(self, seconds: float) -> list[Batch]:
        """Move the lease clock in small turns, as the server does."""
        end, batches = self.now + seconds, []
        while self.now < end:
            self.now = min(self.now + 0.1, end)
            batch, _ = self.rules.reap(self.now, 1000)
            if batch is not None:
                batches.append(batch)
            self.commit(batch)
        return batches

    def record(self, instance_id: str = "a") -> Record:
        found = self.catalog.get(name(instance_id))
        assert found is not None
        return found
