"""Builds the image and runs the compose file where a docker engine is at hand; elsewhere says what was not run.

What can be checked without an engine is in tests/unit/test_docker_files.py.
"""

import functools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPOSE = ["docker", "compose", "--project-name", "meshway-test", "--file", str(ROOT / "docker" / "compose.yaml")]
IMAGE = "meshway:test"
# The first build compiles and downloads; the first trace waits for every health check.
BUILD_SECONDS = 1200
TRACES_SECONDS = 120


def run(*argv: str, timeout: float = 60) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(argv, cwd=ROOT, timeout=timeout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@functools.cache
def works(*argv: str) -> bool:
    """Whether a docker command can be run here at all."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(argv, timeout=30, capture_output=True, check=False).returncode == 0


engine = pytest.mark.skipif(not works("docker", "info"), reason="no docker engine answers: the image was not built")
plugin = pytest.mark.skipif(not works("docker", "compose", "version"), reason="docker has no compose plugin here")


@pytest.fixture(scope="module")
def image() -> str:
    run("docker", "build", "--file", "docker/Dockerfile", "--tag", IMAGE, ".", timeout=BUILD_SECONDS)
    return IMAGE


@pytest.fixture
def mesh() -> Iterator[None]:
    try:
        run(*COMPOSE, "up", "--build", "--detach", timeout=BUILD_SECONDS)
        yield
    finally:
        run(*COMPOSE, "down", "--volumes", timeout=120)


@engine
@pytest.mark.timeout(BUILD_SECONDS + 60)
def test_image_is_compiled_and_not_root(image: str):
    assert "compiled" in run("docker", "run", "--rm", image, "--version")
    assert run("docker", "run", "--rm", "--entrypoint", "id", image, "-u").strip() == "10001"
    assert "no compiler" in run(
        "docker", "run", "--rm", "--entrypoint", "sh", image, "-c", "which gcc || echo no compiler"
    )


@plugin
def test_compose_accepts_its_file():
    run(*COMPOSE, "config", "--quiet")


@engine
@plugin
@pytest.mark.timeout(BUILD_SECONDS + TRACES_SECONDS + 180)
@pytest.mark.usefixtures("mesh")
def test_compose_shows_traces_of_both_gateways():
    end = time.monotonic() + TRACES_SECONDS
    seen: set[str] = set()
    while not {"gateway-1", "gateway-2"} <= seen:
        assert time.monotonic() < end, f"Jaeger knows only {seen} after {TRACES_SECONDS} s"
        seen = services_in_jaeger()
        time.sleep(1)


def services_in_jaeger() -> set[str]:
    try:
        with urllib.request.urlopen("http://127.0.0.1:16686/api/v3/services", timeout=5) as answer:
            return set(json.load(answer).get("services") or ())
    except OSError:
        return set()
