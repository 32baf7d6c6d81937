import sys
from dataclasses import replace

import pytest
from registry_world import ALL, World, boot, name, registration

from registry.catalog import HISTORY_SECONDS, MAX_EMPTY_SERVICES, Catalog, Scope
from registry.model import Batch, ServiceKey

CART = ServiceKey("default", "cart")


def test_a_revision_counts_batches():
    world = World(revision=41)
    world.register("a")
    assert world.catalog.revision == 42
    with pytest.raises(ValueError, match="does not follow"):
        world.catalog.apply(Batch(44, 0.0, ()))


def test_a_service_is_known_after_its_last_instance_left():
    world = World()
    assert world.catalog.instances(CART) is None
    lease = world.register().lease_id
    assert [record.name for record in world.catalog.instances(CART)] == [name()]
    assert world.catalog.empty_since(CART) is None
    world.now += 5.0
    world.deregister(lease)
    assert world.catalog.instances(CART) == []
    assert world.catalog.empty_since(CART) == world.now
    assert world.catalog.known_services(ALL) == [CART]
    world.register()
    assert world.catalog.empty_since(CART) is None


def test_a_scope_takes_in_a_namespace_or_some_of_its_services():
    world = World()
    for service in ("cart", "shop", "mail"):
        world.register("a", service=service)
    assert len(world.catalog.records(ALL)) == 3
    assert len(world.catalog.records(Scope("default", frozenset({"shop", "mail", "none"})))) == 2
    assert world.catalog.records(Scope("other")) == []
    assert [key.service for key in world.catalog.known_services(Scope("default", frozenset({"mail"})))] == ["mail"]


def test_history_gives_what_happened_since():
    world = World()
    lease = world.register("a").lease_id
    world.register("b", service="shop")
    world.deregister(lease)
    changes = list(world.catalog.since(1, ALL))
    assert [(change.name.instance_id, change.record is None) for change in changes] == [("b", False), ("a", True)]
    assert list(world.catalog.since(3, ALL)) == []
    assert len(list(world.catalog.since(0, Scope("default", frozenset({"cart"}))))) == 2


def test_history_is_bounded_by_age():
    world = World()
    world.register("a")
    world.now += HISTORY_SECONDS / 2
    world.register("b")
    assert world.catalog.can_resume(0)
    world.now += HISTORY_SECONDS / 2
    world.catalog.sweep(world.now)
    assert not world.catalog.can_resume(0)
    assert world.catalog.can_resume(1)
    assert [change.name.instance_id for change in world.catalog.since(1, ALL)] == ["b"]


def test_history_is_bounded_by_number(monkeypatch):
    monkeypatch.setattr("registry.catalog.MAX_HISTORY_CHANGES", 10)
    world = World()
    for number in range(25):
        world.register(f"i{number}")
    assert world.catalog.compacted == 15
    assert len(list(world.catalog.since(15, ALL))) == 10


def test_history_is_bounded_by_size(monkeypatch):
    monkeypatch.setattr("registry.catalog.MAX_HISTORY_BYTES", 50_000)
    world = World()
    for number in range(25):
        world.register(f"i{number}", labels=(("note", "x" * 10_000),))
    assert world.catalog.compacted == 21
    assert len(list(world.catalog.since(21, ALL))) == 4


def test_history_keeps_no_descriptor_sets():
    world = World()
    descriptor_set = b"".join([b"held with ", b"its record"])
    held_before = sys.getrefcount(descriptor_set)

    def come_and_go() -> None:
        wish = replace(registration("a"), descriptor_set=descriptor_set)
        wish = replace(wish, spec=replace(wish.spec, descriptor_digest="d1"))
        batch, granted = world.rules.register(wish, world.now)
        assert world.commit(batch).descriptors == {"d1": descriptor_set}
        world.deregister(granted.lease_id)

    come_and_go()
    assert sys.getrefcount(descriptor_set) == held_before


def test_a_future_revision_cannot_be_resumed():
    world = World()
    world.register()
    assert world.catalog.can_resume(1)
    assert not world.catalog.can_resume(2)


def test_empty_services_are_bounded():
    world = World()
    for number in range(MAX_EMPTY_SERVICES + 5):
        world.deregister(world.register("a", service=f"s{number}").lease_id)
    known = world.catalog.known_services(ALL)
    assert len(known) == MAX_EMPTY_SERVICES
    assert ServiceKey("default", "s4") not in known


def test_tombstones_are_bounded_without_letting_an_incarnation_go_back(monkeypatch):
    monkeypatch.setattr("registry.catalog.MAX_TOMBSTONES", 3)
    world = World()
    for by in "ABCDE":
        lease = world.register("first", by=by).lease_id
    world.deregister(lease)
    for number in range(3):
        world.deregister(world.register(f"i{number}").lease_id)
    assert world.catalog.next_incarnation(name("first"), boot("F")) > 5


def test_records_can_be_restored():
    world = World()
    world.register("a")
    restored = Catalog(world.catalog.epoch, world.catalog.revision)
    restored.restore(world.record("a"))
    assert restored.records(ALL) == [world.record("a")]
    assert restored.can_resume(1)
    assert not restored.can_resume(0)
