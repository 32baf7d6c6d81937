"""The demo: ``python -m examples.demo [--seconds N]``, which is what ``make run`` runs.

Exit code 0 when every call went as it should, 1 with the reason when one did not.
"""

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import sys
from urllib.parse import urlsplit

from grpc import aio
from rich.console import Console

from examples.demo.display import Display
from examples.demo.mesh import Mesh
from examples.demo.processes import StartError
from examples.demo.spans import SpanSink, tree
from examples.demo.tally import KINDS, Tally
from examples.demo.traffic import Traffic, WrongAnswerError, answers_of_all

VICTIM = "catalog-2"
# When the victim dies: after this part of the whole time, or this many seconds when there is no end.
KILL_AFTER_PART = 0.4
KILL_AFTER_SECONDS = 8.0
MIN_SECONDS = 3.0
TICK_SECONDS = 0.25
# How long the mesh may take until every instance answers, and the spans until they are here.
READY_SECONDS = 20.0
SPANS_SECONDS = 10.0
PLAIN_WIDTH = 140

BY_HAND = """
The gateway is at {gateway}, the registry at {registry}. By hand, in another terminal:
  grpcurl -plaintext {gateway} list
  grpcurl -plaintext -d '{{"sku": "lamp"}}' {gateway} shop.Catalog/GetProduct
  grpcurl -plaintext -H 'x-tester: yes' -d '{{"items": [{{"sku": "desk", "quantity": 2}}]}}' \\
    {gateway} shop.Cart/Checkout
  {meshway} instances --registry {registry}
"""
TO_JAEGER = """\
To see every call in Jaeger (http://127.0.0.1:16686), start one and say where it is:
  docker run --rm -p 16686:16686 -p 4317:4317 jaegertracing/jaeger:2.20.0
  OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317 make run
"""


class DemoError(Exception):
    """Why the demo has failed, for a person."""


class Demo:
    """The scenes in their order: start, traffic, a killed instance, one call as spans, the end."""

    def __init__(self, console: Console, seconds: float | None) -> None:
        self._console = console
        self._seconds = seconds
        self._mesh = Mesh()
        self._tally = Tally()
        self._collector = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
        self._sink = SpanSink()
        self.interrupted = False

    async def run(self) -> None:
        """Play it; raises DemoError or StartError. Ends all processes, however it ends."""
        try:
            self._say("Starting a registry, a gateway, three catalogs and two carts ...")
            await self._mesh.start(self._collector or await self._sink.start())
            await self._until_ready()
            self._say(BY_HAND.format(gateway=self._mesh.gateway, registry=self._mesh.registry, meshway=_meshway()))
            self._say(TO_JAEGER if not self._collector else f"Spans go to {self._collector}.\n")
            async with Traffic(self._mesh.gateway, self._tally) as traffic:
                with Display(self._console, self._mesh, self._tally) as display:
                    await self._play(traffic, display)
        finally:
            await self._mesh.stop()
            await self._sink.stop()

    def verdict(self) -> str:
        """What was seen, in one sentence; raises DemoError when a call failed."""
        tally = self._tally
        if tally.failed:
            raise DemoError(
                "\n".join([f"{tally.failed} of {tally.total + tally.failed} calls failed:", *tally.failures])
            )
        missing = [kind for kind in KINDS if not tally.of_kind(kind)]
        if missing and not self.interrupted:
            raise DemoError(f"no call of these kinds was answered: {', '.join(missing)}")
        return (
            f"{tally.total} calls of {len(KINDS) - len(missing)} kinds, {tally.refusals} of them refused with details, "
            f"as they should be; "
            f"{tally.repeated} were cut off by the killed instance and done again; none failed."
        )

    async def _until_ready(self) -> None:
        try:
            await answers_of_all(self._mesh.gateway, self._mesh.instances, READY_SECONDS)
        except TimeoutError as error:
            raise DemoError(self._mesh.failure() or str(error)) from None

    async def _play(self, traffic: Traffic, display: Display) -> None:
        seconds = self._seconds
        kill_at = KILL_AFTER_SECONDS if seconds is None else seconds * KILL_AFTER_PART
        trace_at = kill_at + 1 if seconds is None else seconds - (seconds - kill_at) / 3
        clock = asyncio.get_running_loop().time
        began = clock()
        await self._watch(traffic, display, began, began + kill_at)
        before = self._tally.total
        self._mesh.kill(VICTIM)
        traffic.instance_killed(clock())
        display.say(f"Killed {VICTIM} (SIGKILL) after {before} calls; the calls go on.")
        await self._watch(traffic, display, began, began + trace_at)
        await self._show_one_call(traffic, display)
        await self._watch(traffic, display, began, None if seconds is None else began + seconds)
        if self._tally.total <= before:
            raise DemoError(f"no call was answered after {VICTIM} was killed")

    async def _watch(self, traffic: Traffic, display: Display, began: float, until: float | None) -> None:
        """Let the traffic run, and fail as soon as something else than a call goes wrong."""
        clock = asyncio.get_running_loop().time
        while until is None or clock() < until:
            display.update(clock() - began)
            reason = self._mesh.failure() or traffic.crashed()
            if reason:
                raise DemoError(reason)
            await asyncio.sleep(TICK_SECONDS)
        display.update(clock() - began)

    async def _show_one_call(self, traffic: Traffic, display: Display) -> None:
        """One checkout as a part of a trace that we begin, and its spans as a tree."""
        trace_id = secrets.token_bytes(16)
        self._sink.want(trace_id)
        try:
            by = await traffic.shopper.checkout(("traceparent", f"00-{trace_id.hex()}-{secrets.token_hex(8)}-01"))
        except (aio.AioRpcError, WrongAnswerError) as error:
            raise DemoError(f"the traced call failed: {error}") from None
        display.say(f"\nOne checkout, answered by {by.instance} ({by.version}), as spans:")
        if self._collector:
            ui = jaeger_page(self._collector, trace_id)
            display.say(f"they went to {self._collector}; a Jaeger there shows them at {ui}\n")
            return
        spans = await self._sink.wait(SPANS_SECONDS)
        if not spans:
            raise DemoError(f"the gateway sent no span of trace {trace_id.hex()} within {SPANS_SECONDS:.0f} s")
        display.say(tree(spans))
        display.say("")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)


def jaeger_page(collector: str, trace_id: bytes) -> str:
    """Where Jaeger shows a trace, if it is what takes the spans."""
    return f"http://{urlsplit(collector).hostname}:16686/trace/{trace_id.hex()}"


def _meshway() -> str:
    """The command as it can be typed: from the environment that runs this."""
    return os.path.relpath(os.path.join(os.path.dirname(sys.executable), "meshway"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make run", description="Run a whole mesh with live traffic.")
    parser.add_argument("--seconds", type=float, help="end by itself after this long (default: at Ctrl-C)")
    options = parser.parse_args()
    if options.seconds is not None and options.seconds < MIN_SECONDS:
        parser.error(f"--seconds must be at least {MIN_SECONDS:.0f}: nothing can be seen in less")
    return options


async def _run(demo: Demo) -> None:
    """Play the demo as a task that signals cancel; further signals do not interrupt the cleaning up."""
    task = asyncio.create_task(demo.run())

    def interrupt() -> None:
        if not demo.interrupted:
            demo.interrupted = True
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main() -> int:
    """Run, and say how it went."""
    options = _options()
    # A file or a pipe has no width; the lines of the tree are about this long.
    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
    demo = Demo(console, options.seconds)
    try:
        asyncio.run(_run(demo))
        console.print(demo.verdict(), highlight=False, soft_wrap=True)
    except (DemoError, StartError) as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
