"""Ends the demo's processes when the demo itself was killed: a process that outlives it by a moment.

It reads "+PID" and "-PID" lines, one process group each, until the demo's end of the pipe closes; then it ends every
group that is left.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable

# Between SIGTERM and SIGKILL, in seconds: `meshway register` drains before it ends its service.
GRACE_SECONDS = 5.0


def remaining(lines: Iterable[str]) -> set[int]:
    """The process groups that were begun and not ended."""
    groups: set[int] = set()
    for line in lines:
        sign, number = line[0], int(line[1:])
        if sign == "+":
            groups.add(number)
        else:
            groups.discard(number)
    return groups


def end(groups: set[int], grace: float = GRACE_SECONDS) -> None:
    """SIGTERM, and after a while SIGKILL, to every group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for group in groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)
        if groups and number is signal.SIGTERM:
            time.sleep(grace)


if __name__ == "__main__":
    end(remaining(sys.stdin))
