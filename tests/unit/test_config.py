"""Good configs, and what the parts get from them."""

from pathlib import Path

import pytest

from gateway.config import Config, ConfigError, load_config, parse_config, policy_specs, route_table, target_specs
from gateway.model import Field, Request

MESH = """
listen: 127.0.0.1:8080
registry: [127.0.0.1:7500, "[::1]:7501"]
admin: localhost:9000
services:
  cart:
    balancer: {policy: ring_hash, hash_on: [{metadata: X-User-Id, terminal: true}, {source_address: true}]}
  order:
    balancer: {policy: pick_first}
  plain: {}
routes:
  - name: canary
    hostnames: ["*.Example.com"]
    matches:
      - method: {service: shop.Cart, method: Checkout}
        headers: [{name: X-Tenant, value: acme}]
      - method: {service: "shop[.].*", type: RegularExpression}
        headers: [{name: x-debug, type: Present, invert: true}, {name: x-v, value: "2", type: Prefix}]
    backends:
      - {service: cart, subset: {version: v2}, weight: 10}
      - {service: cart, weight: 90}
  - name: rest
    backends: [{service: order}]
"""


def test_a_whole_config() -> None:
    config = parse_config(MESH, "mesh.yaml")
    assert config.listen == "127.0.0.1:8080"
    assert config.registry == ("127.0.0.1:7500", "[::1]:7501")
    assert config.admin == "localhost:9000"
    assert [route.name for route in config.routes] == ["canary", "rest"]
    assert config.routes[0].hostnames == ("*.example.com",)
    assert config == parse_config(MESH, "other.yaml")


def test_what_the_parts_get() -> None:
    config = parse_config(MESH, "mesh.yaml")
    policies = policy_specs(config)
    assert {name: spec.identity for name, spec in policies.items()} == {
        "cart": "ring_hash of 1024 to 4096 on [metadata x-user-id terminal, source_address]",
        "order": "pick_first",
    }
    assert [spec.key for spec in target_specs(config)] == ["cart{version=v2}", "cart", "order"]
    assert [(backend.target, backend.weight) for backend in route_table(config).routes[0].backends] == [
        ("cart{version=v2}", 10),
        ("cart", 90),
    ]


@pytest.mark.parametrize(
    ("path", "authority", "fields", "route"),
    [
        (b"/shop.Cart/Checkout", b"a.example.com:80", [Field(b"x-tenant", b"acme")], "canary"),
        (b"/shop.Cart/Checkout", b"a.example.com:80", [Field(b"x-v", b"2.1")], "canary"),
        (b"/shop.Cart/Checkout", b"a.example.com:80", [Field(b"x-v", b"2"), Field(b"x-debug", b"")], "rest"),
        (b"/shop.Cart/Checkout", b"other:80", [Field(b"x-tenant", b"acme")], "rest"),
        (b"/any.Thing/Else", b"a.example.com", [], "rest"),
    ],
)
def test_the_routes_match_as_written(path: bytes, authority: bytes, fields: list[Field], route: str) -> None:
    found = route_table(parse_config(MESH, "mesh.yaml")).match(path, authority, Request(path, authority, fields, ""))
    assert found is not None
    assert found.name == route


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "null"])
def test_an_empty_file_asks_nothing(text: str) -> None:
    config = parse_config(text, "mesh.yaml")
    assert config == Config()
    assert route_table(config).routes == []


def test_anchors_are_allowed() -> None:
    text = "services:\n  a: &same {balancer: {policy: pick_first}}\n  b: *same\n"
    assert set(policy_specs(parse_config(text, "f"))) == {"a", "b"}


def test_a_config_is_frozen() -> None:
    config = parse_config(MESH, "mesh.yaml")
    with pytest.raises(ValueError, match="frozen"):
        config.listen = "other"


def test_load_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text(MESH)
    assert load_config(path) == parse_config(MESH, "x")


def test_load_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as absent:
        load_config(tmp_path / "none.yaml")
    assert str(absent.value) == (
        f"{tmp_path}/none.yaml: cannot be read (No such file or directory): check the path and its permissions"
    )
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: \xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml: is not UTF-8 text \(byte 3\)"):
        load_config(path)
