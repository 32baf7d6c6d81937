"""Drives calls of all four kinds for ever, at a gentle pace: ``python -m examples.shopper --mesh 127.0.0.1:8080``."""

import argparse
import asyncio
import contextlib

from examples.demo.tally import Tally
from examples.demo.traffic import Traffic
from examples.service import stop_signal

PAUSE_SECONDS = 0.25
REPORT_SECONDS = 10.0


def parser() -> argparse.ArgumentParser:
    """The options of the shopper."""
    parser = argparse.ArgumentParser(prog="python -m examples.shopper")
    parser.add_argument("--mesh", default="127.0.0.1:8080", help="the gateways to call: host:port[,host:port]")
    return parser


async def _shop(addresses: list[str]) -> None:
    """Call every gateway, and say now and then how it goes; failures are shown, and end nothing."""
    tally = Tally()
    async with contextlib.AsyncExitStack() as stack:
        for address in addresses:
            await stack.enter_async_context(Traffic(address, tally, PAUSE_SECONDS))
        stop = asyncio.create_task(stop_signal())
        while not stop.done():
            await asyncio.wait([stop], timeout=REPORT_SECONDS)
            print(f"{tally.total} calls answered, {tally.failed} failed", *tally.failures, sep="\n  ", flush=True)
            tally.failures.clear()


if __name__ == "__main__":
    asyncio.run(_shop(parser().parse_args().mesh.split(",")))
