"""Routes against real servers, and the config that is read again while calls go on."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from calls import Caller
from grpc import aio
from mesh import EchoServer, Gateway, Instance, Mesh, wait_for

SHOP = "reload.Shop"
ROUTES = """
routes:
  - name: everything
    backends: [{service: shop, subset: {version: v1}}]
  - name: one method
    matches: [{method: {service: reload.Shop, method: UnaryStream}}]
    backends: [{service: shop, subset: {version: v2}}]
  - name: by pattern
    matches: [{method: {service: 'reload\\.[P-Z].*', method: 'Stream.*', type: RegularExpression}}]
    backends: [{service: other}]
  - name: exact
    matches: [{headers: [{name: x-tenant, value: acme}]}]
    backends: [{service: shop, subset: {version: v2}}]
  - name: prefix
    matches: [{headers: [{name: x-tenant, value: beta-, type: Prefix}]}]
    backends: [{service: shop, subset: {version: v2}}]
  - name: pattern
    matches: [{headers: [{name: x-tenant, value: 'gamma[0-9]+', type: RegularExpression}]}]
    backends: [{service: shop, subset: {version: v2}}]
  - name: present
    matches: [{headers: [{name: x-canary, type: Present}]}]
    backends: [{service: shop, subset: {version: v2}}]
  - name: absent
    matches: [{headers: [{name: x-a, type: Present}, {name: x-b, type: Present, invert: true}]}]
    backends: [{service: shop, subset: {version: v2}}]
  - name: any other host
    hostnames: ['*.example.test']
    backends: [{service: other}]
  - name: this host
    hostnames: [shop.example.test]
    backends: [{service: shop, subset: {version: v2}}]
"""
WEIGHTED = """
routes:
  - name: canary
    matches: [{method: {service: reload.Shop}}]
    backends:
      - {service: shop, subset: {version: v2}, weight: 10}
      - {service: shop, subset: {version: v1}, weight: 90}
      - {service: other, weight: 0}
"""
TO_V2 = "routes: [{name: r, backends: [{service: shop, subset: {version: v2}}]}]\n"
TO_V1 = "routes: [{name: r, backends: [{service: shop, subset: {version: v1}}]}]\n"
BAD = "routes:\n  - name: r\n    backends: [{service: shop}]\n  - name: s\n    backend: []\n"


class Configured:
    """A mesh with a config file: two versions of a shop, and another service that claims a name, too."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "mesh.yaml"
        self.file.write_text("")
        self.mesh = Mesh("--config", str(self.file))
        self.server: EchoServer = self.mesh.serve(
            Instance("shop", (SHOP, "reload.Both"), {"version": "v1"}, name="v1"),
            Instance("shop", (SHOP, "reload.Both"), {"version": "v2"}, name="v2"),
            Instance("other", ("reload.Other", "reload.Both"), name="other"),
        )
        self.gateway: Gateway = self.mesh.gateway

    def said(self, pattern: str) -> int:
        """How many lines of the gateway's log match."""
        return len(re.findall(pattern, self.gateway.err, re.MULTILINE))

    def write(self, text: str, answer: str = "Config reloaded") -> None:
        """Put another text in place as an editor does; wait until the gateway has said this about it."""
        before = self.said(answer)
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text)
        os.replace(fresh, self.file)
        wait_for(f"{answer!r} in the log", lambda: self.said(answer) > before)

    def configure(self, text: str) -> None:
        """Have this config in force, whatever was before."""
        if self.file.read_text() != text:
            self.write(text)


@pytest.fixture(scope="module")
def _configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configured]:
    made = Configured(tmp_path_factory.mktemp("config"))
    yield made
    made.mesh.stop()


@pytest.fixture
def configured(_configured: Configured) -> Iterator[Configured]:
    yield _configured
    _configured.mesh.assert_idle()


@pytest.fixture
async def shop(configured: Configured) -> AsyncIterator[Caller]:
    async with aio.insecure_channel(configured.gateway.address) as channel:
        yield Caller(channel, SHOP)


async def answered_by(caller: Caller, kind: str = "UnaryUnary", *metadata: tuple[str, str]) -> str:
    """The instance that answers a call of this kind."""
    conversation = caller.start(kind, metadata=metadata)
    await conversation.done()
    await conversation.rest()
    return str((await conversation.headers())["x-instance"])


async def test_without_routes_the_declared_service_decides(configured: Configured, shop: Caller) -> None:
    configured.configure("")
    assert Counter([await shop.instance() for _ in range(10)]) == {"v1": 5, "v2": 5}
    async with aio.insecure_channel(configured.gateway.address) as channel:
        assert await Caller(channel, "reload.Other").instance() == "other"


async def test_a_name_that_two_services_declare(configured: Configured) -> None:
    """Nobody gets its calls until a route says who."""
    configured.configure("")
    async with aio.insecure_channel(configured.gateway.address) as channel:
        both = Caller(channel, "reload.Both")
        failure = await both.start("UnaryUnary").failure()
        assert failure.code() is grpc.StatusCode.UNIMPLEMENTED
        for word in ("/reload.Both/UnaryUnary", "other", "shop", "route"):
            assert word in (failure.details() or "")
        claim = "routes: [{name: r, matches: [{method: {service: reload.Both}}], backends: [{service: other}]}]\n"
        configured.configure(claim)
        assert await both.instance() == "other"


async def test_routes_by_method_and_metadata(configured: Configured, shop: Caller) -> None:
    configured.configure(ROUTES)
    assert await answered_by(shop) == "v1"
    assert await answered_by(shop, "UnaryStream") == "v2"
    assert await answered_by(shop, "StreamUnary") == "other"
    assert await answered_by(shop, "StreamStream") == "other"
    wanted = {
        (("x-tenant", "acme"),): "v2",
        (("x-tenant", "acme2"),): "v1",
        (("x-tenant", "beta-7"),): "v2",
        (("x-tenant", "beta"),): "v1",
        (("x-tenant", "gamma12"),): "v2",
        (("x-tenant", "gamma12x"),): "v1",
        (("x-canary", ""),): "v2",
        (("x-a", "1"),): "v2",
        (("x-a", "1"), ("x-b", "1")): "v1",
    }
    assert {metadata: await answered_by(shop, "UnaryUnary", *metadata) for metadata in wanted} == wanted


async def test_routes_by_authority(configured: Configured) -> None:
    configured.configure(ROUTES)
    hosts = {"shop.example.test": "v2", "a.example.test": "other", "b.a.example.test:8080": "other", "else.test": "v1"}
    found = {}
    for host in hosts:
        options = [("grpc.default_authority", host), ("grpc.use_local_subchannel_pool", 1)]
        async with aio.insecure_channel(configured.gateway.address, options=options) as channel:
            found[host] = await Caller(channel, SHOP).instance()
    assert found == hosts


async def test_weights_share_out_the_calls(configured: Configured, shop: Caller) -> None:
    configured.configure(WEIGHTED)
    counts = Counter(await asyncio.gather(*(shop.instance() for _ in range(400))))
    assert set(counts) == {"v1", "v2"}
    assert 10 <= counts["v2"] <= 80  # 40 are expected, and 6 is the standard deviation


async def test_a_route_to_nobody(configured: Configured, shop: Caller) -> None:
    for backend, key in (("service: shop, subset: {version: v3}", "shop{version=v3}"), ("service: ghost", "ghost")):
        configured.configure(f"routes: [{{name: r, backends: [{{{backend}}}]}}]\n")
        failure = await shop.start("UnaryUnary").failure()
        assert failure.code() is grpc.StatusCode.UNAVAILABLE
        assert f"service {key} has no live instance" in (failure.details() or "")


async def test_a_changed_file_and_sighup_take_effect(configured: Configured, shop: Caller) -> None:
    configured.configure(TO_V1)
    assert await shop.instance() == "v1"
    configured.write(TO_V2)
    assert await shop.instance() == "v2"
    # In place, too, as a shell would do it.
    before = configured.said("Config reloaded")
    configured.file.write_text(TO_V1)
    wait_for("the reload", lambda: configured.said("Config reloaded") > before)
    assert await shop.instance() == "v1"
    # SIGHUP reads it again even where nothing has changed.
    before = configured.said("nothing in it has changed")
    configured.gateway.signal(signal.SIGHUP)
    wait_for("an answer to SIGHUP", lambda: configured.said("nothing in it has changed") > before)
    assert await shop.instance() == "v1"


async def test_sighup_reads_at_once(configured: Configured, shop: Caller) -> None:
    """Without waiting for what watches the file."""
    configured.configure(TO_V1)
    before = configured.said("Config reloaded")
    configured.file.write_text(TO_V2)
    configured.gateway.signal(signal.SIGHUP)
    wait_for("the reload", lambda: configured.said("Config reloaded") > before)
    assert await shop.instance() == "v2"


async def test_a_bad_config_is_refused_whole(configured: Configured, shop: Caller) -> None:
    configured.configure(TO_V2)
    refused = rf"Config refused, the last good one stays in force: .*{re.escape(str(configured.file))}:5\b.*backend"
    configured.write(BAD, refused)
    assert await shop.instance() == "v2"
    configured.write("routes: [", "Config refused")
    assert await shop.instance() == "v2"
    before = configured.said("Config refused")
    configured.file.unlink()
    configured.gateway.signal(signal.SIGHUP)
    wait_for("a word about the missing file", lambda: configured.said("Config refused") > before)
    assert await shop.instance() == "v2"
    configured.write(TO_V1)
    assert await shop.instance() == "v1"


async def test_reloads_disturb_no_call(configured: Configured, shop: Caller) -> None:
    """Streams stay where they are, and no call of many fails, while the routes change back and forth."""
    configured.configure(TO_V1)
    stream = shop.start("StreamStream", timeout=60)
    await stream.send(b"open")
    assert await stream.read() == b"open"
    stop = asyncio.Event()
    seen: Counter[str] = Counter()

    async def call() -> None:
        while not stop.is_set():
            seen[await shop.instance()] += 1

    clients = [asyncio.create_task(call()) for _ in range(4)]
    for text in (TO_V2, ROUTES, WEIGHTED, TO_V2, TO_V1):
        before = configured.said("Config reloaded")
        configured.file.write_text(text)
        configured.gateway.signal(signal.SIGHUP)
        await asyncio.to_thread(
            wait_for, "the reload", lambda before=before: configured.said("Config reloaded") > before
        )
        await stream.send(b"still")
        assert await stream.read() == b"still"
    stop.set()
    await asyncio.gather(*clients)
    assert set(seen) == {"v1", "v2"}
    await stream.done()
    assert await stream.rest() == []
    assert (await stream.headers())["x-instance"] == "v1"


async def test_an_instance_that_changes_its_labels_changes_its_subset(configured: Configured, shop: Caller) -> None:
    configured.configure("routes: [{name: r, backends: [{service: shop, subset: {stage: blue}}]}]\n")
    failure = await shop.start("UnaryUnary").failure()
    assert failure.code() is grpc.StatusCode.UNAVAILABLE
    server = configured.mesh.serve(Instance("shop", (SHOP,), {"stage": "blue"}, name="blue"))
    assert await shop.instance() == "blue"
    await asyncio.to_thread(configured.mesh.dismiss, server)
