"""``make run`` as a person sees it: it ends by itself or with Ctrl-C, and leaves no process behind."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEMO = (sys.executable, "-m", "examples.demo")
# Starting eight processes takes most of it, on a machine that is busy with other tests.
WHOLE_SECONDS = 90
GONE_SECONDS = 20

pytestmark = pytest.mark.timeout(2 * WHOLE_SECONDS)


@pytest.fixture
async def demo() -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """A place for the demos that a test starts; they are ended with it."""
    started: list[asyncio.subprocess.Process] = []
    yield started
    for process in started:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def start(
    demo: list[asyncio.subprocess.Process], *options: str, **environment: str
) -> asyncio.subprocess.Process:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    process = await asyncio.create_subprocess_exec(
        *DEMO,
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**environ, "PYTHONUNBUFFERED": "1", **environment},
    )
    demo.append(process)
    return process


async def whole_output(process: asyncio.subprocess.Process) -> str:
    out, _ = await asyncio.wait_for(process.communicate(), WHOLE_SECONDS)
    return out.decode()


async def output_until(process: asyncio.subprocess.Process, pattern: str) -> str:
    """What it prints up to the line that matches."""
    assert process.stdout is not None
    text = ""
    async with asyncio.timeout(WHOLE_SECONDS):
        while not re.search(pattern, text):
            line = await process.stdout.readline()
            assert line, f"it ended before {pattern!r}:\n{text}"
            text += line.decode()
    return text


def gateway_address(text: str) -> tuple[str, int]:
    found = re.search(r"The gateway is at ([\d.]+):(\d+)", text)
    assert found
    return found[1], int(found[2])


async def refused(address: tuple[str, int]) -> bool:
    """Whether nobody listens there, or soon nobody will."""
    for _ in range(GONE_SECONDS * 10):
        try:
            _, writer = await asyncio.open_connection(*address)
        except ConnectionRefusedError:
            return True
        writer.close()
        await asyncio.sleep(0.1)
    return False


async def test_it_ends_by_itself_and_shows_everything(demo: list[asyncio.subprocess.Process]):
    process = await start(demo, "--seconds", "5")
    text = await whole_output(process)
    assert process.returncode == 0, text
    assert "Killed catalog-2 (SIGKILL)" in text
    assert "calls of 4 kinds" in text.splitlines()[-1]
    assert "none failed" in text.splitlines()[-1]
    counts = [line for line in text.splitlines() if " failed: " in line][-1]
    for instance in ("cart-1 v1", "cart-2 v2", "catalog-1 v1", "catalog-2 v1", "catalog-3 v2"):
        assert int(re.findall(rf"{instance} (\d+)", counts)[0]) > 0, counts
    assert await refused(gateway_address(text))
    check_tree(text)


def check_tree(text: str) -> None:
    """One checkout, with the two spans of each call, and those of the three prices below it."""
    lines = text[text.index("One checkout, answered by") :].splitlines()
    assert re.fullmatch(r"trace [0-9a-f]{32}", lines[1].strip())
    assert re.match(r"└── SERVER shop\.Cart/Checkout +[\d.]+ ms +OK +route cart-canary", lines[2])
    assert re.match(r"    └── CLIENT shop\.Cart/Checkout +[\d.]+ ms +OK +route cart-canary +to cart-\d", lines[3])
    prices = [line for line in lines if re.search(r"(SERVER|CLIENT) shop\.Catalog/GetProduct", line)]
    assert len(prices) == 6, text


async def test_ctrl_c_ends_it_well(demo: list[asyncio.subprocess.Process]):
    process = await start(demo, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    text = await output_until(process, r"\d+ calls, 0 failed")
    assert "Spans go to http://127.0.0.1:9." in text
    process.send_signal(signal.SIGINT)
    rest = await whole_output(process)
    assert process.returncode == 0, rest
    assert "Traceback" not in rest
    assert await refused(gateway_address(text))


async def test_nothing_outlives_a_killed_demo(demo: list[asyncio.subprocess.Process]):
    process = await start(demo)
    address = gateway_address(await output_until(process, r"The gateway is at"))
    process.kill()
    await process.wait()
    assert await refused(address)


async def test_wrong_use_is_said_in_one_sentence(demo: list[asyncio.subprocess.Process]):
    process = await start(demo, "--seconds", "1")
    assert "--seconds must be at least 3" in await whole_output(process)
    assert process.returncode == 2


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_run_runs_the_demo():
    argv = ["make", "--dry-run", "--no-print-directory", "--old-file=.venv/installed", "run", "ARGS=--seconds 10"]
    # Not as a part of the make that may be running these tests.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == ".venv/bin/python -m examples.demo --seconds 10"
