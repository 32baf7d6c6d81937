"""The commands: help, lists, and one sentence for every mistake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from registry.cli import add_commands
from registry.client import Instance, InstanceState, Registration, ServiceSummary
from registry.server import RegistryOptions, RegistryServer
from registry.tables import instance_rows, service_rows, show

app = typer.Typer()
add_commands(app)
runner = CliRunner()
REGISTER = ["register", "--service", "cart", "--address", "127.0.0.1:1"]


@pytest.mark.parametrize("command", ["registry", "register", "services", "instances"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Example:" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*REGISTER[:-1], "nonsense"], "bad address 'nonsense'"),
        ([*REGISTER, "--label", "novalue"], "bad label 'novalue': expected KEY=VALUE"),
        ([*REGISTER, "--descriptor-set", "/no/such/file"], "cannot read the descriptor set /no/such/file"),
        ([*REGISTER, "--descriptor-set", __file__], "is no descriptor set"),
        (["services", "--registry", "nonsense"], "bad address 'nonsense'"),
        (["instances", "--registry", "nonsense"], "bad address 'nonsense'"),
        (["registry", "--listen", "nonsense"], "nonsense"),
        (["registry", "--listen", "a..b:7500"], "cannot listen on a..b:7500"),
        ([*REGISTER[:-1], "a..b:80"], "bad address 'a..b:80'"),
        ([*REGISTER, "--registry", "nonsense", "--", "sleep", "60"], "bad address 'nonsense'"),
    ],
)
def test_wrong_use_is_code_2_and_one_sentence(arguments: list[str], words: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["register"],
        ["services", "-o", "xml"],
        [*REGISTER, "--weight", "70000"],
        [*REGISTER, "--ttl", "inf"],
        [*REGISTER, "--drain-time", "inf"],
        ["registry", "--min-ttl", "1000"],
        ["registry", "--min-ttl", "inf"],
    ],
)
def test_wrong_flags_are_code_2(arguments: list[str]) -> None:
    assert runner.invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize("arguments", [["services"], ["instances"], ["instances", "cart"]])
def test_an_absent_registry_is_code_1_and_named(arguments: list[str]) -> None:
    result = runner.invoke(app, [*arguments, "--registry", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert "the registry at 127.0.0.1:1 is not reachable (Connection refused)." in result.stderr
    assert result.stderr.count("\n") == 1


def test_rows() -> None:
    summary = ServiceSummary("default", "cart", 2, 1, 0, 3, ("shop.Cart",))
    assert service_rows([summary]) == [("cart", "2", "1", "0", "3", "shop.Cart")]
    one = Instance("default", "cart", "b", ("h:1",), labels={"x": "1", "a": "2"}, state=InstanceState.SUSPECT)
    two = Instance("default", "cart", "a", ("h:1", "h:2"), weight=5, not_ready_reason="busy")
    assert instance_rows([one, two]) == [
        ("cart", "a", "h:1, h:2", "ready", "5", "-", "busy"),
        ("cart", "b", "h:1", "suspect", "1", "a=2, x=1", "-"),
    ]


class Terminal:
    """A stream that claims to be a terminal."""

    def __init__(self, tty: bool) -> None:
        self.tty = tty
        self.text = ""

    def isatty(self) -> bool:
        return self.tty

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("tty", [True, False])
def test_columns_for_terminals_and_pipes(tty: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal(tty)
    show(out, ("NAME", "STATE"), [("long-name-" * 12, "ready"), ("b", "[draining]")])  # type: ignore[arg-type]
    assert ("\x1b[" in out.text) is tty
    assert "[draining]" in out.text
    if not tty:
        assert "long-name-" * 12 + "  ready\n" in out.text


async def test_lists_of_a_live_registry() -> None:
    server = RegistryServer(RegistryOptions(listen="127.0.0.1:0", grace_seconds=0.0))
    await server.start()
    async with Registration(
        server.address,
        service="cart",
        address="127.0.0.1:5",
        instance_id="c1",
        labels={"v": "1"},
        grpc_services=["a.B"],
    ):
        services, instances, unknown = [
            await _run(arguments, server.address)
            for arguments in (["services"], ["instances", "-o", "json"], ["instances", "nope"])
        ]
    await server.stop()
    assert services.returncode == 0
    assert services.stdout.split("\n")[1].split() == ["cart", "1", "0", "0", "0", "a.B"]
    (one,) = json.loads(instances.stdout)
    assert (one["service"], one["instance_id"], one["addresses"], one["state"]) == (
        "cart",
        "c1",
        ["127.0.0.1:5"],
        "ready",
    )
    assert one["labels"] == {"v": "1"}
    assert unknown.returncode == 1
    assert "SERVICE_UNKNOWN" in unknown.stderr


async def _run(arguments: list[str], registry: str) -> "subprocess.CompletedProcess[str]":
    import asyncio

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "registry", *arguments, "--registry", registry),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return subprocess.CompletedProcess(arguments, process.returncode or 0, out.decode(), err.decode())
