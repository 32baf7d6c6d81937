"""The build: which modules are compiled, that the environment under test is the one meant, and the same everywhere."""

import importlib.util
import os
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest
import setuptools

ROOT = Path(__file__).parents[2]
COMPILED_ROOMS = ("http2", "routing", "balancing", "resilience", "proxy")
COMPILED_FILES = ("errors.py", "model.py", "timers.py")


def compiled_modules() -> list[str]:
    """Every module that a compiled install has as a machine-code extension."""
    paths = [ROOT / "gateway" / name for name in COMPILED_FILES]
    paths += [path for room in COMPILED_ROOMS for path in (ROOT / "gateway" / room).glob("*.py")]
    names = [str(path.relative_to(ROOT).with_suffix("")).replace(os.sep, ".") for path in sorted(paths)]
    return [name for name in names if not name.endswith("__init__")]


@pytest.fixture
def setup_py(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of setup.py, without running a build."""
    monkeypatch.setattr(setuptools, "setup", lambda **options: None)
    monkeypatch.setattr("sys.argv", ["setup.py", "sdist"])
    return runpy.run_path(str(ROOT / "setup.py"))


@pytest.mark.parametrize("name", compiled_modules())
def test_the_tests_import_what_was_built(name: str):
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    if os.environ.get("MESHWAY_EXPECT") == "compiled":
        assert spec.origin.endswith((".so", ".pyd")), "make test-compiled must not test the sources"
        assert not Path(spec.origin).is_relative_to(ROOT / "gateway")
    else:
        assert spec.origin.endswith(".py"), "a compiled module in the source tree hides edits of its source"


def test_setup_names_every_hot_module(setup_py: dict[str, Any]):
    patterns = setup_py["COMPILED"]
    found = {path for pattern in patterns for path in ROOT.glob(pattern) if path.name != "__init__.py"}
    names = {str(path.relative_to(ROOT).with_suffix("")).replace(os.sep, ".") for path in found}
    assert names == set(compiled_modules())


def test_nothing_is_compiled_without_a_compiler(
    setup_py: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.delenv("MESHWAY_COMPILE", raising=False)
    monkeypatch.setattr("sys.argv", ["setup.py", "bdist_wheel"])
    assert setup_py["extensions"]() == []
    assert "no-such-compiler is not there, so this install is interpreted" in capsys.readouterr().err


def test_insisting_without_a_compiler_fails_in_one_sentence(setup_py: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("MESHWAY_COMPILE", "1")
    monkeypatch.setattr("sys.argv", ["setup.py", "bdist_wheel"])
    with pytest.raises(SystemExit, match="MESHWAY_COMPILE=1, but the C compiler no-such-compiler is not there"):
        setup_py["extensions"]()


def test_a_wrong_wish_fails_in_one_sentence(setup_py: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MESHWAY_COMPILE", "yes")
    with pytest.raises(SystemExit, match="MESHWAY_COMPILE=yes means nothing; use 0, 1 or auto"):
        setup_py["wish"]()


def test_constraints_pin_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"]["dev"],
        *project["optional-dependencies"]["bench"],
    ]
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in constraints()}
    unpinned = {name_of(requirement) for requirement in wanted} - pinned - {"setuptools"}
    assert unpinned == set(), "run: make constraints"


def test_constraints_are_names_and_versions_only():
    assert [line for line in constraints() if "==" not in line or " " in line or "/" in line] == []


def constraints() -> list[str]:
    return (ROOT / "constraints.txt").read_text().splitlines()


def name_of(requirement: str) -> str:
    """``PyYAML>=6.0.3; python_version...`` is ``pyyaml``."""
    for end in "<>=!~;[ ":
        requirement = requirement.partition(end)[0]
    return requirement.lower().replace("_", "-")
