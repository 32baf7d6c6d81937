"""Every command and every example in the documents: still there, still spelt that way, still valid.

What can be run in a mesh on this machine is run in tests/interop/test_readme.py.
"""

import ast
import importlib
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
import yaml
from google.protobuf import json_format, message_factory
from meshway.examples.v1 import cart_pb2, catalog_pb2
from typer.core import TyperGroup

from examples import service, shopper
from gateway.__main__ import cli
from gateway.config import load_config

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "ARCHITECTURE.md")
SERVICES = {
    descriptor.full_name: descriptor
    for module in (cart_pb2, catalog_pb2)
    for descriptor in module.DESCRIPTOR.services_by_name.values()
}


def blocks(language: str) -> list[tuple[str, str]]:
    """(document, text) of each fenced block of a language."""
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(document, text) for document in DOCUMENTS for text in fence.findall((ROOT / document).read_text())]


def commands() -> list[str]:
    """Every line to type, continuation lines joined."""
    joined = "\n".join(text for _, text in blocks("sh")).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip()]


def words(command: str) -> list[str]:
    """The words of a command, without the variables set before it."""
    found = shlex.split(command)
    while found and re.match(r"[A-Z_]+=", found[0]):
        found.pop(0)
    return found


def check_make(argv: list[str]) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for word in argv:
        assert "=" in word or word in targets


def check_meshway(argv: list[str]) -> None:
    """The command-line parser takes it; nothing is run."""
    command = typer.main.get_command(cli)
    if argv == ["--version"]:
        return
    while isinstance(command, TyperGroup):
        command, argv = command.commands[argv[0]], argv[1:]
    context = command.make_context(command.name, argv)
    rest = context.params.get("command")
    if rest:
        check(rest)


def check_python(argv: list[str]) -> None:
    assert argv[0] == "-m"
    package, _, name = argv[1].rpartition(".")
    assert package == "examples"
    parser = shopper.parser() if name == "shopper" else service.parser(name)
    parser.parse_args(argv[2:])


def check_grpcurl(argv: list[str]) -> None:
    """The method exists, and the JSON is a message of its request type."""
    assert argv[0] == "-plaintext"
    if argv[-1] == "list":
        return
    name, _, method = argv[-1].rpartition("/")
    found = SERVICES[name].methods_by_name[method]
    text = argv[argv.index("-d") + 1]
    json_format.Parse(text, message_factory.GetMessageClass(found.input_type)())


def check_docker(argv: list[str]) -> None:
    if argv[0] == "compose":
        assert (ROOT / argv[argv.index("-f") + 1]).is_file()
        return
    images = [word for word in argv if ":" in word and "/" in word]
    assert images
    for image in images:
        assert image in (ROOT / "docker" / ".env").read_text()


def check_pip(argv: list[str]) -> None:
    assert argv == ["install", "."]
    assert (ROOT / "pyproject.toml").is_file()


def check_curl(argv: list[str]) -> None:
    assert f'"/{argv[0].rpartition("/")[2]}"' in (ROOT / "gateway" / "app.py").read_text()


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "make": check_make,
    "meshway": check_meshway,
    "python": check_python,
    "grpcurl": check_grpcurl,
    "docker": check_docker,
    "pip": check_pip,
    "curl": check_curl,
}


def check(argv: list[str]) -> None:
    """By the first word; one that nobody knows how to check has no place in the documents."""
    CHECKS[argv[0]](argv[1:])


@pytest.mark.parametrize("command", commands())
def test_command_is_still_right(command: str):
    check(words(command))


def test_a_wrong_option_is_found():
    with pytest.raises(Exception, match="No such option: --registri"):
        check(words("meshway gateway --registri 127.0.0.1:7500"))
    with pytest.raises(json_format.ParseError):
        check(words("""grpcurl -plaintext -d '{"skew": "lamp"}' 127.0.0.1:8080 shop.Catalog/GetProduct"""))


@pytest.mark.parametrize(("document", "text"), blocks("yaml"))
def test_config_is_still_valid(document: str, text: str, tmp_path: Path):
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    assert load_config(path).routes, document


@pytest.mark.parametrize(("document", "text"), blocks("python"))
def test_imports_of_snippets_still_exist(document: str, text: str):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            assert node.module, document
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_named_in_the_text_exist(document: str):
    text = re.sub(r"^```.*?^```", "", (ROOT / document).read_text(), flags=re.MULTILINE | re.DOTALL)
    prefixes = r"(?:gateway|registry|examples|docker|tests|protos|bench|\.ci)"
    named = set(re.findall(rf"`({prefixes}/[\w./-]+)`", text))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_compose_file_uses_real_commands():
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    for definition in services.values():
        if definition["image"] == "meshway:local":
            check([*definition.get("entrypoint", ["meshway"]), *definition.get("command", [])])


def test_the_config_of_the_demo_is_valid():
    assert [route.name for route in load_config(ROOT / "examples" / "demo" / "gateway.yaml").routes]
