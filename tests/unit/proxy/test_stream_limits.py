"""MAX_CONCURRENT_STREAMS of servers: further connections, then a queue, in order."""

from helpers import frames
from helpers.mesh import Mesh

from gateway.errors import RESOURCE_EXHAUSTED, UNAVAILABLE
from gateway.proxy import upstream


def open_calls(server) -> list[int]:
    return [number for number, seen in server.seen.items() if seen.reset is None and number not in server.sent]


def test_a_full_connection_gets_a_second_one():
    mesh = Mesh()
    mesh.server_values = {0x3: 2}
    client = mesh.client()
    calls = [client.call(body=b"%d" % number) for number in range(5)]
    mesh.run()
    assert [len(server.seen) for server in mesh.servers] == [2, 2, 1]
    for server in mesh.servers:
        for stream_id in open_calls(server):
            server.answer(stream_id, b"ok")
    mesh.run()
    assert {call.status for call in calls} == {0}
    mesh.assert_idle()


def test_what_no_connection_takes_waits_in_order():
    mesh = Mesh()
    mesh.server_values = {0x3: 1}
    client = mesh.client()
    calls = [client.call(body=b"%02d" % number) for number in range(upstream.MAX_LINKS + 6)]
    mesh.run()
    assert len(mesh.servers) == upstream.MAX_LINKS
    assert mesh.proxy.counters()["waiting_for_a_link"] == 6
    assert int(mesh.endpoints[0].active) == len(calls)
    order = [bytes(seen.data) for server in mesh.servers for seen in server.seen.values()]
    while any(call.status is None for call in calls):
        server = next(server for server in mesh.servers if open_calls(server))
        server.answer(open_calls(server)[0], b"ok")
        mesh.run()
        known = {bytes(seen.data) for server in mesh.servers for seen in server.seen.values()}
        order += sorted(known - set(order))
    assert order == [b"%02d" % number for number in range(len(calls))]
    assert {call.status for call in calls} == {0}
    mesh.assert_idle()


def test_a_limit_that_rises_lets_waiting_calls_go():
    mesh = Mesh()
    mesh.server_values = {0x3: 0}
    client = mesh.client()
    calls = [client.call(body=b"x") for _time in range(3)]
    mesh.run()
    assert mesh.proxy.counters()["waiting_for_a_link"] == 3
    server = mesh.servers[0]
    server.h2.update_settings({0x3: 10})
    mesh.run()
    assert len(server.seen) == 3
    for stream_id in list(server.seen):
        server.answer(stream_id)
    mesh.run()
    assert {call.status for call in calls} == {0}
    mesh.assert_idle()


def test_a_cancelled_call_gives_its_place_away():
    mesh = Mesh()
    mesh.server_values = {0x3: 1}
    mesh.dialer.refuse = set()
    client = mesh.client()
    client.call(body=b"first", end=False)
    mesh.run()
    mesh.dialer.hang.add("a:1")
    waiting = client.call(body=b"second")
    leaves = client.call(body=b"third")
    mesh.run()
    client.reset(client.last)
    client.reset(1)
    mesh.run()
    server = mesh.servers[0]
    assert server.seen[1].reset == frames.CANCEL
    assert server.seen[3].data == b"second"
    server.answer(3)
    mesh.run()
    assert waiting.status == 0
    assert leaves.status is None
    mesh.advance(6.0)
    mesh.assert_idle()


def test_the_queue_is_bounded():
    mesh = Mesh()
    mesh.dialer.hang.add("a:1")
    clients = [mesh.client() for _time in range(11)]
    calls = []
    for client in clients:
        calls += [client.call() for _time in range(1000)]
    mesh.run()
    assert mesh.proxy.counters()["waiting_for_a_link"] == upstream.MAX_WAITING
    refused = [call for call in calls if call.status is not None]
    assert len(refused) == len(calls) - upstream.MAX_WAITING
    assert {call.status for call in refused} == {RESOURCE_EXHAUSTED}
    assert "already wait" in refused[0].message
    for client in clients:
        mesh.cut(client)
    mesh.dialer.hang.clear()
    mesh.run()
    mesh.assert_idle()


def test_a_link_whose_ids_are_used_up_makes_room_for_another():
    mesh = Mesh()
    client = mesh.client()
    client.call(body=b"x", end=False)
    mesh.run()
    wire = mesh.wire_of(mesh.servers[0])
    assert wire.connection is not None
    wire.connection._next_id = 0x7FFFFFFF
    last = client.call(body=b"last")
    mesh.run()
    mesh.servers[0].answer(0x7FFFFFFF, b"ok")
    mesh.run()
    assert last.status == 0
    call = client.call(body=b"new")
    mesh.run()
    assert len(mesh.servers) == 2
    mesh.servers[1].answer(1, b"on a new connection")
    mesh.servers[0].answer(1, b"and the old one")
    mesh.run()
    assert call.data == b"on a new connection"
    assert mesh.servers[0].closed
    assert not mesh.servers[1].closed
    mesh.assert_idle()


def test_an_endpoint_that_leaves_the_mesh_finishes_its_calls():
    mesh = Mesh(endpoints=2)
    client = mesh.client()
    old = client.call(body=b"old", end=False)
    mesh.run()
    mesh.proxy.use(
        mesh.snapshot([mesh.endpoints[1]], type(mesh.proxy.snapshot.targets["echo"].picker)([mesh.endpoints[1]])),
        [mesh.endpoints[0]],
        mesh.now,
    )
    new = client.call(body=b"new")
    mesh.run()
    leaving = mesh.server("a:1")
    assert not leaving.closed
    client.data(1, b"er", end=True)
    mesh.run()
    assert leaving.seen[1].data == b"older"
    leaving.answer(1, b"a")
    mesh.server("b:1").answer(1, b"b")
    mesh.run()
    assert (old.data, new.data) == (b"a", b"b")
    assert leaving.closed
    assert not mesh.server("b:1").closed
    mesh.assert_idle()


def test_a_retry_finds_that_all_endpoints_of_its_snapshot_have_left():
    mesh = Mesh()
    call = mesh.client().call(body=b"x")
    mesh.run()
    mesh.proxy.use(mesh.proxy.snapshot, [mesh.endpoints[0]], mesh.now)
    mesh.server().reset(1, frames.REFUSED_STREAM)
    mesh.run()
    assert call.status == UNAVAILABLE
    assert "a:1: left the mesh" in call.message
    mesh.assert_idle()


def test_an_endpoint_that_leaves_while_calls_wait_for_it():
    mesh = Mesh()
    mesh.dialer.hang.add("a:1")
    client = mesh.client()
    call = client.call(body=b"x")
    mesh.run()
    mesh.proxy.use(mesh.proxy.snapshot, [mesh.endpoints[0]], mesh.now)
    mesh.dialer.hang.clear()
    mesh.run()
    mesh.server().answer(1)
    mesh.run()
    assert call.status == 0
    assert mesh.server().closed
    mesh.assert_idle()


def test_an_idle_endpoint_that_leaves_is_closed_at_once():
    mesh = Mesh()
    client = mesh.client()
    client.call(body=b"x")
    mesh.run()
    mesh.server().answer(1)
    mesh.run()
    mesh.proxy.use(mesh.proxy.snapshot, [mesh.endpoints[0]], mesh.now)
    mesh.run()
    assert mesh.server().closed
    assert mesh.proxy.counters()["upstream_connections"] == 0
    mesh.assert_idle()
