"""The container files, read without a docker engine: the Dockerfile's habits, and compose.yaml against its schema.

The schema here is the part of the Compose Specification that compose.yaml uses, strict: an unknown key is a mistake.
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"

STRINGS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
DURATION = {"type": "string", "pattern": r"^(\d+(ms|s|m|h))+$"}
HEALTHCHECK = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "test": {**STRINGS, "items": {"type": "string"}},
        "interval": DURATION,
        "timeout": DURATION,
        "start_period": DURATION,
        "retries": {"type": "integer", "minimum": 1},
        "disable": {"type": "boolean"},
    },
}
SERVICE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image"],
    "properties": {
        "image": {"type": "string"},
        "build": {
            "type": "object",
            "additionalProperties": False,
            "required": ["context"],
            "properties": {
                "context": {"type": "string"},
                "dockerfile": {"type": "string"},
                "args": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        },
        "command": STRINGS,
        "entrypoint": STRINGS,
        "environment": {"type": "object", "additionalProperties": {"type": ["string", "number", "null"]}},
        "ports": {**STRINGS, "items": {"type": "string", "pattern": r"^127\.0\.0\.1:\d+:\d+$"}},
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["condition"],
                "properties": {
                    "condition": {"enum": ["service_started", "service_healthy", "service_completed_successfully"]}
                },
            },
        },
        "healthcheck": HEALTHCHECK,
        "read_only": {"type": "boolean"},
        "cap_drop": STRINGS,
        "security_opt": STRINGS,
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "stop_grace_period": DURATION,
    },
}
COMPOSE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["services"],
    "patternProperties": {"^x-": {}},
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "services": {"type": "object", "patternProperties": {"^[a-zA-Z0-9._-]+$": SERVICE}},
    },
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return loaded


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, continuation lines joined, comments left out."""
    text = (DOCKER / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, beginning with its FROM."""
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, rest))
    return found


def test_dockerfile_has_only_known_instructions():
    known = {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert {word for word, _ in instructions()} <= known


def test_base_image_is_pinned_and_supported():
    (default,) = [rest.partition("=")[2] for word, rest in instructions() if word == "ARG"]
    assert default == environment_file()["PYTHON_IMAGE"]
    version = re.fullmatch(r"python:(3\.\d+)-slim-[a-z]+", default)
    assert version, "a full tag: version, variant and Debian release"
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert tuple(map(int, version[1].split("."))) >= tuple(map(int, wanted.removeprefix(">=").split(".")))
    assert [stage[0][1].split()[0] for stage in stages()] == ["${PYTHON_IMAGE}"] * 2


def test_compiler_stays_in_the_build_stage():
    build, final = stages()
    assert any("MESHWAY_COMPILE=1" in rest for word, rest in build if word == "RUN")
    assert [rest for word, rest in final if word == "RUN"] == []
    assert [rest for word, rest in final if word == "COPY"] == ["--from=build /opt/meshway /opt/meshway"]


def test_final_stage_is_not_root_and_stops_well():
    final = dict(stages()[-1])
    user = final["USER"].split(":")
    assert all(part.isdecimal() and int(part) > 0 for part in user)
    assert final["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(final["ENTRYPOINT"]) == ["meshway"]
    assert json.loads(final["CMD"])
    options, _, command = final["HEALTHCHECK"].partition(" CMD ")
    assert json.loads(command) == ["meshway", "health", "127.0.0.1:8080"]
    assert all(re.fullmatch(r"--(interval|timeout|start-period)=\d+s|--retries=\d+", o) for o in options.split())


def test_everything_copied_exists_and_is_not_ignored():
    sources = [
        source
        for word, rest in stages()[0]
        if word == "COPY"
        for source in rest.split()[:-1]
        if not source.startswith("--")
    ]
    allowed = {line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert set(sources) == allowed
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_apt_lists_are_removed_where_they_were_made():
    for word, rest in instructions():
        if word == "RUN" and "apt-get install" in rest:
            assert "--no-install-recommends" in rest
            assert rest.endswith("rm -rf /var/lib/apt/lists/*")


def test_compose_keeps_to_the_schema(compose: dict[str, Any]):
    jsonschema.Draft202012Validator.check_schema(COMPOSE)
    jsonschema.validate(compose, COMPOSE)


def test_the_schema_finds_a_misspelt_key(compose: dict[str, Any]):
    wrong = {**compose, "services": {"registry": {"image": "x", "comand": ["registry"]}}}
    with pytest.raises(jsonschema.ValidationError, match="comand"):
        jsonschema.validate(wrong, COMPOSE)


def test_compose_has_the_whole_mesh(services: dict[str, dict[str, Any]]):
    assert {"registry", "gateway-1", "gateway-2", "jaeger", "shopper"} <= services.keys()
    assert "127.0.0.1:16686:16686" in services["jaeger"]["ports"]
    for name in ("gateway-1", "gateway-2"):
        assert services[name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://jaeger:4317"


def test_compose_dependencies_exist_and_can_become_healthy(services: dict[str, dict[str, Any]]):
    image_has_check = any(word == "HEALTHCHECK" for word, _ in stages()[-1])
    for service in services.values():
        for name, wait in service.get("depends_on", {}).items():
            assert name in services
            if wait["condition"] == "service_healthy":
                own_image = services[name]["image"] == "meshway:local"
                assert "healthcheck" in services[name] or (own_image and image_has_check)


def test_compose_addresses_name_services(services: dict[str, dict[str, Any]]):
    words = [
        word
        for service in services.values()
        for word in (*service.get("command", ()), *service.get("entrypoint", ()), *environment(service))
    ]
    hosts = {host for word in words for host in re.findall(r"(?:^|[=,/])([a-z][a-z0-9-]*):\d+", word)}
    assert "registry" in hosts
    assert hosts <= services.keys()


def test_compose_variables_are_in_the_env_file():
    names = set(re.findall(r"\$\{([A-Z_]+)", (DOCKER / "compose.yaml").read_text()))
    assert names == set(environment_file())


def test_compose_paths_exist(services: dict[str, dict[str, Any]]):
    for service in services.values():
        if "build" in service:
            context = (DOCKER / service["build"]["context"]).resolve()
            assert context == ROOT
            assert (context / service["build"]["dockerfile"]).is_file()


def test_published_ports_are_on_loopback_and_differ(services: dict[str, dict[str, Any]]):
    published = [port.split(":")[1] for service in services.values() for port in service.get("ports", ())]
    assert len(published) == len(set(published))


def test_images_are_pinned():
    for image in environment_file().values():
        assert re.fullmatch(r"[a-z/.]+:\d[\w.-]+", image)


@pytest.mark.parametrize("example", ["catalog", "cart", "shopper"])
def test_compose_uses_options_that_the_examples_have(services: dict[str, dict[str, Any]], example: str):
    from examples import service, shopper

    parser = shopper.parser() if example == "shopper" else service.parser(example)
    for options in example_options(services, example):
        parser.parse_args(options)


def example_options(services: dict[str, dict[str, Any]], example: str) -> list[list[str]]:
    """What follows ``-m examples.NAME`` wherever it stands."""
    found = []
    for service in services.values():
        words = [*service.get("entrypoint", ()), *service.get("command", ())]
        if f"examples.{example}" in words:
            found.append(words[words.index(f"examples.{example}") + 1 :])
    assert found
    return found


def environment(service: dict[str, Any]) -> list[str]:
    return [str(value) for value in service.get("environment", {}).values()]


def environment_file() -> dict[str, str]:
    lines = (DOCKER / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
