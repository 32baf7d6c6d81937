"""The fold of watch messages into views, without any stream."""

import pytest
from fake_registry import chunk, delta, end, gone, instance, progress, reset
from meshway.registry.v1 import registry_pb2 as pb

from registry.client.catalog import CatalogFold, CatalogView, InstanceState, RemovalReason, WatchChainError

EPOCH = b"e" * 16


def fold_with(*ids: str, revision: int = 5) -> CatalogFold:
    fold = CatalogFold()
    assert fold.apply(chunk(*(instance(i) for i in ids))) is None
    assert fold.apply(end(EPOCH, revision, ("default/cart", "default/stock"))) is not None
    return fold


def ids(view: CatalogView | None) -> list[str]:
    assert view is not None
    return [one.instance_id for one in view.instances]


def test_nothing_is_seen_before_the_snapshot_is_complete() -> None:
    fold = CatalogFold()
    assert fold.apply(chunk(instance("a"))) is None
    assert fold.apply(chunk(instance("b", service="other"))) is None
    assert not fold.view.synced
    assert fold.resume() is None
    view = fold.apply(end(EPOCH, 7, ("default/cart", "default/stock"), warming=True))
    assert ids(view) == ["a", "b"]
    assert view is not None
    assert view.known_services == {"cart", "stock", "other"}
    assert (view.revision, view.epoch) == (7, EPOCH)
    assert view.warming
    assert view.synced
    assert view.connected
    assert fold.resume() == pb.Revision(epoch=EPOCH, number=7)


def test_an_empty_snapshot_is_a_state_too() -> None:
    view = CatalogFold().apply(end(EPOCH, 1))
    assert view is not None
    assert view.instances == ()
    assert view.synced


def test_fields_of_an_instance() -> None:
    fold = CatalogFold()
    fold.apply(
        chunk(
            instance(
                "a",
                incarnation=4,
                state=pb.INSTANCE_STATE_DRAINING,
                grpc_services=["x.Y"],
                labels={"k": "v"},
                revision=3,
                descriptor_digest="abc",
                granted_ttl_ms=1500,
                drain_remaining_ms=2500,
            )
        )
    )
    view = fold.apply(end(EPOCH, 3))
    assert view is not None
    (one,) = view.instances
    assert one.addresses == ("127.0.0.1:1",)
    assert one.grpc_services == ("x.Y",)
    assert dict(one.labels) == {"k": "v"}
    assert one.state is InstanceState.DRAINING
    assert (one.incarnation, one.revision, one.descriptor_digest) == (4, 3, "abc")
    assert (one.ttl, one.drain_remaining) == (1.5, 2.5)
    with pytest.raises(TypeError):
        one.labels["k"] = "w"  # type: ignore[index]


def test_a_delta_is_applied_as_one() -> None:
    fold = fold_with("a", "b")
    before = fold.view
    view = fold.apply(delta(5, 8, [instance("c", service="new"), instance("b", weight=9)], [gone("a")]))
    assert ids(view) == ["b", "c"]
    assert view is not None
    assert view.revision == 8
    assert view.known_services == {"cart", "stock", "new"}
    assert [(d.instance_id, d.reason) for d in view.departures] == [("a", RemovalReason.DEREGISTERED)]
    assert ids(before) == ["a", "b"], "an old view never changes"


def test_departures_belong_to_one_view() -> None:
    fold = fold_with("a", "b")
    fold.apply(delta(5, 6, [], [gone("a", reason=pb.REMOVAL_REASON_EXPIRED)]))
    view = fold.apply(delta(6, 7, [instance("c")]))
    assert view is not None
    assert view.departures == ()


def test_a_late_removal_of_an_earlier_life_removes_nothing() -> None:
    fold = CatalogFold()
    fold.apply(chunk(instance("a", incarnation=3)))
    fold.apply(end(EPOCH, 1))
    assert ids(fold.apply(delta(1, 2, [], [gone("a", incarnation=2)]))) == ["a"]
    assert ids(fold.apply(delta(2, 3, [], [gone("a", incarnation=3)]))) == []


def test_a_takeover_in_one_delta_leaves_the_new_one() -> None:
    fold = fold_with("a")
    removal = gone("a", reason=pb.REMOVAL_REASON_SUPERSEDED)
    view = fold.apply(delta(5, 6, [instance("a", incarnation=2)], [removal]))
    assert ids(view) == ["a"]
    assert view is not None
    assert view.instances[0].incarnation == 2


@pytest.mark.parametrize(("prev", "number"), [(4, 6), (6, 7), (5, 4)])
def test_a_delta_that_does_not_follow_breaks_the_chain(prev: int, number: int) -> None:
    with pytest.raises(WatchChainError, match="does not follow revision 5"):
        fold_with("a").apply(delta(prev, number))


def test_progress_moves_the_revision_and_either_end_may_be_continued() -> None:
    fold = fold_with("a")
    assert fold.apply(progress(EPOCH, 9)) is None
    assert fold.view.revision == 9
    assert fold.resume() == pb.Revision(epoch=EPOCH, number=9)
    assert fold.apply(delta(9, 10)) is not None
    assert fold.apply(progress(EPOCH, 12)) is None
    assert fold.apply(delta(10, 13)) is not None


def test_progress_backwards_or_of_another_epoch_breaks_the_chain() -> None:
    with pytest.raises(WatchChainError):
        fold_with("a").apply(progress(EPOCH, 4))
    with pytest.raises(WatchChainError):
        fold_with("a").apply(progress(b"f" * 16, 5))


def test_the_end_of_warming_is_a_view() -> None:
    fold = CatalogFold()
    fold.apply(end(EPOCH, 1, warming=True))
    assert fold.apply(progress(EPOCH, 1, warming=True)) is None
    view = fold.apply(progress(EPOCH, 1))
    assert view is not None
    assert not view.warming


def test_reset_keeps_the_old_state_until_the_new_one_is_complete() -> None:
    fold = fold_with("a", "b")
    assert fold.apply(reset()) is None
    assert fold.resume() is None
    assert ids(fold.view) == ["a", "b"]
    fold.apply(chunk(instance("z")))
    view = fold.apply(end(b"n" * 16, 2))
    assert ids(view) == ["z"]
    assert view is not None
    assert view.departures == ()


def test_nothing_but_a_snapshot_may_come_first_or_between_its_chunks() -> None:
    for early in (delta(0, 1), progress(EPOCH, 1)):
        with pytest.raises(WatchChainError):
            CatalogFold().apply(early)
        fold = fold_with("a")
        fold.apply(chunk(instance("b")))
        with pytest.raises(WatchChainError):
            fold.apply(early)


def test_a_lost_stream_drops_half_a_snapshot_and_keeps_the_view() -> None:
    fold = fold_with("a")
    fold.apply(chunk(instance("b")))
    view = fold.disconnected()
    assert ids(view) == ["a"]
    assert view is not None
    assert not view.connected
    assert view.synced
    assert fold.disconnected() is None
    back = fold.apply(progress(EPOCH, 5))
    assert back is not None
    assert back.connected


def test_an_unknown_event_is_passed_over() -> None:
    assert fold_with("a").apply(pb.WatchResponse()) is None
