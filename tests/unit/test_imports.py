"""Imports point one way, and the parts that decide know no socket, clock, task or random source of their own."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each line may import from the lines above it, and from itself within one room. See ARCHITECTURE.md.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "model", "address"}),
    frozenset({"timers"}),
    frozenset({"http2", "routing", "balancing", "resilience"}),
    frozenset({"proxy"}),
    frozenset({"net", "control", "telemetry", "config"}),
    frozenset({"admin"}),  # shows what those know
    frozenset({"app"}),
    frozenset({"__main__"}),
)
LEVEL = {room: level for level, floor in enumerate(FLOORS) for room in floor}

SANS_IO = frozenset({"errors", "model", "address", "timers", "http2", "routing", "balancing", "resilience", "proxy"})
SANS_IO_REGISTRY = frozenset({"model", "errors", "leases", "catalog", "watch", "rules"})
OUTSIDE_WORLD = frozenset(
    {"asyncio", "concurrent", "grpc", "os", "secrets", "selectors", "signal", "socket", "ssl", "subprocess"}
    | {"threading", "time", "uvloop"}
)


def imports(source: str) -> Iterator[str]:
    """Every imported module by its full name; ``from a import b`` gives ``a.b``, since b may be a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they point"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def randomness(source: str) -> set[str]:
    """What is used of the random module, but for the type of a generator that is handed in."""
    used = {name.removeprefix("random.") for name in imports(source) if name.startswith("random.")}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
            used.add(node.attr)
    return used - {"Random"}


def room_of(path: Path) -> str:
    """``gateway/http2/frames.py`` is in the room ``http2``, ``gateway/app.py`` in ``app``."""
    return path.relative_to(ROOT).with_suffix("").parts[1]


def files(package: str) -> list[Path]:
    return [path for path in sorted((ROOT / package).rglob("*.py")) if path != ROOT / package / "__init__.py"]


def gateway_mistake(room: str, imported: str) -> str:
    """Why a file of this room may not import that, or an empty string."""
    package, _, rest = imported.partition(".")
    if package == "registry":
        if room == "__main__" or (room == "control" and imported.startswith("registry.client")):
            return ""
        return "the gateway uses the registry only through registry.client, and only in gateway/control"
    if package in ("examples", "tests", "bench"):
        return f"{package} is built on the gateway, not the other way round"
    if package != "gateway" or not rest:
        return ""
    target = rest.partition(".")[0]
    if not (ROOT / "gateway" / target).is_dir() and not (ROOT / "gateway" / f"{target}.py").is_file():
        return ""  # a name of the package itself, which all may use
    if target not in LEVEL or room not in LEVEL:
        return f"gateway.{target if target not in LEVEL else room} has no place in the order of imports"
    if target == "config" and room not in ("config", "app", "__main__"):
        return "config is read by app alone; parts get plain values"
    if target != room and LEVEL[target] >= LEVEL[room]:
        return f"{room} stands below or beside {target}"
    return ""


def registry_mistake(imported: str) -> str:
    package = imported.partition(".")[0]
    return f"the registry stands without {package}" if package in ("gateway", "examples", "tests", "bench") else ""


def test_gateway_imports_point_one_way():
    mistakes = [
        f"{path.relative_to(ROOT)} imports {imported}: {mistake}"
        for path in files("gateway")
        for imported in imports(path.read_text())
        if (mistake := gateway_mistake(room_of(path), imported))
    ]
    assert mistakes == []


def test_registry_knows_nothing_of_the_gateway():
    mistakes = [
        f"{path.relative_to(ROOT)} imports {imported}: {mistake}"
        for path in files("registry")
        for imported in imports(path.read_text())
        if (mistake := registry_mistake(imported))
    ]
    assert mistakes == []


def test_deciding_parts_do_no_io_of_their_own():
    sans_io = [path for path in files("gateway") if room_of(path) in SANS_IO]
    sans_io += [path for path in files("registry") if room_of(path) in SANS_IO_REGISTRY]
    mistakes = [
        f"{path.relative_to(ROOT)} imports {imported}"
        for path in sans_io
        for imported in imports(path.read_text())
        if imported.partition(".")[0] in OUTSIDE_WORLD
    ]
    mistakes += [
        f"{path.relative_to(ROOT)} uses random.{name}" for path in sans_io for name in randomness(path.read_text())
    ]
    assert mistakes == []


def test_a_random_source_of_its_own_is_found():
    assert randomness("import random\nr: random.Random\nrandom.shuffle(x)\nfrom random import choice") == {
        "shuffle",
        "choice",
    }


@pytest.mark.parametrize(
    ("room", "imported"),
    [
        ("http2", "gateway.proxy.call"),
        ("http2", "gateway.routing.table"),
        ("proxy", "gateway.net.listener"),
        ("net", "gateway.control.view"),
        ("net", "gateway.config.model"),
        ("net", "registry.client"),
        ("control", "registry.leases"),
        ("app", "gateway.__main__"),
        ("app", "examples.demo"),
        ("surprise", "gateway.model"),
    ],
)
def test_a_wrong_direction_is_found(room: str, imported: str):
    assert gateway_mistake(room, imported)


@pytest.mark.parametrize(
    ("room", "imported"),
    [
        ("http2", "gateway.http2.frames"),
        ("http2", "gateway.timers"),
        ("control", "registry.client.Registration"),
        ("__main__", "registry.commands"),
        ("app", "gateway.config.model"),
        ("net", "asyncio"),
    ],
)
def test_a_right_direction_is_allowed(room: str, imported: str):
    assert not gateway_mistake(room, imported)


def test_an_import_inside_a_function_is_found():
    assert list(imports("def f():\n    import a.b\n    from c import d\n")) == ["a.b", "c.d"]
