"""Commands that cannot do what they are told: one sentence that names the trouble, exit code 2, no traceback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from mesh import run_meshway


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that somebody else listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def refused(*arguments: str) -> str:
    """What the command says as it refuses."""
    ended = run_meshway(*arguments)
    said = ended.stderr.strip()
    assert ended.returncode == 2, ended
    assert "Traceback" not in said
    assert "listening on" not in ended.stdout
    return said


def one_sentence(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    assert len(lines) == 1, said
    return lines[0]


@pytest.mark.parametrize("command", ["gateway", "registry"])
def test_an_address_in_use(command: str, taken: str) -> None:
    said = one_sentence(refused(command, "--listen", taken))
    assert taken in said
    assert "in use" in said


def test_an_admin_address_in_use(taken: str) -> None:
    said = one_sentence(refused("gateway", "--listen", "127.0.0.1:0", "--admin", taken))
    assert taken in said


@pytest.mark.parametrize(
    ("command", "address"),
    [
        ("gateway", "nonsense"),
        ("gateway", "::1:7500"),
        ("gateway", "192.0.2.1:7500"),  # of another machine
        ("registry", "127.0.0.1:http"),
        ("registry", "127.0.0.1:70000"),
        ("registry", "no-such-host.invalid:7500"),
    ],
)
def test_an_address_that_cannot_be_listened_on(command: str, address: str) -> None:
    assert address in one_sentence(refused(command, "--listen", address))


@pytest.mark.parametrize("option", ["--registry", "--admin"])
def test_other_addresses_of_the_gateway(option: str) -> None:
    assert "'nowhere'" in one_sentence(refused("gateway", "--listen", "127.0.0.1:0", option, "nowhere"))


@pytest.mark.parametrize("command", ["gateway", "registry"])
def test_a_flag_that_does_not_exist(command: str) -> None:
    assert "--frobnicate" in one_sentence(refused(command, "--frobnicate"))


@pytest.mark.parametrize(
    ("command", "flag", "value"), [("gateway", "--drain-timeout", "soon"), ("registry", "--min-ttl", "0")]
)
def test_a_value_that_does_not_fit_its_flag(command: str, flag: str, value: str) -> None:
    said = one_sentence(refused(command, flag, value))
    assert flag in said
    assert "Invalid value" in said


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    said = one_sentence(refused("gateway", "--config", str(missing)))
    assert str(missing) in said


def test_a_config_that_cannot_be_read(tmp_path: Path) -> None:
    said = one_sentence(refused("gateway", "--config", str(tmp_path)))
    assert str(tmp_path) in said


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("routes:\n  - name: a\n    backends: [{service: cart, wieght: 3}]\n", 3, "wieght"),
        ("listen: 127.0.0.1:8080\n\nroutes: {a: b\n", 4, ""),
    ],
)
def test_a_config_that_is_wrong(tmp_path: Path, text: str, line: int, words: str) -> None:
    """Both the gateway and ``config validate`` name the file and the line."""
    file = tmp_path / "mesh.yaml"
    file.write_text(text)
    for said in (refused("gateway", "--config", str(file)), refused("config", "validate", str(file))):
        assert f"{file}:{line}" in said
        assert words in said


def test_a_config_that_is_not_text(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_bytes(b"\xff\xfe\xfa")
    assert str(file) in one_sentence(refused("gateway", "--config", str(file)))


def test_an_exporter_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon")
    assert "carrier-pigeon" in one_sentence(refused("gateway", "--listen", "127.0.0.1:0"))
