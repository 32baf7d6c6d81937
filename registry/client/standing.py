"""Where a registration stands, and who is told when that changes."""

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from registry.client.errors import RegistryError

_log = logging.getLogger(__name__)


class LeaseState(StrEnum):
    """The states of a registration. The last three are final."""

    CONNECTING = "connecting"  # no lease yet, or a new one is being asked for
    ACTIVE = "active"
    DRAINING = "draining"
    DISCONNECTED = "disconnected"  # the registry is away; the lease may live on there
    SUPERSEDED = "superseded"  # another process has the name
    FAILED = "failed"  # the registry refused the first registration, or none answered
    CLOSED = "closed"


_FINAL: Final = frozenset({LeaseState.SUPERSEDED, LeaseState.FAILED, LeaseState.CLOSED})

StateListener = Callable[[LeaseState, str], None]


class Standing:
    """The state with its last error; tells the listener of each change, and the log of each loss and return, once."""

    def __init__(self, name: str, listener: StateListener | None) -> None:
        self.state = LeaseState.CONNECTING
        self.error: RegistryError | None = None  # None while all is well
        self.settled = asyncio.Event()  # granted once, or over
        self.ended = asyncio.Event()
        self._name = name
        self._listener = listener
        self._troubled = False

    @property
    def over(self) -> bool:
        """Whether the state is final."""
        return self.state in _FINAL

    def well(self, draining: bool) -> None:
        """The registry holds the lease."""
        self.error = None
        if self._troubled:
            self._troubled = False
            _log.info("%s: registered again", self._name)
        self.change(LeaseState.DRAINING if draining else LeaseState.ACTIVE, "draining" if draining else "registered")
        self.settled.set()

    def trouble(self, error: RegistryError, leased: bool) -> None:
        """The registry is away or refuses; the background task tries again."""
        self.error = error
        if not self._troubled and self.settled.is_set():
            self._troubled = True
            _log.warning("%s: %s; trying again", self._name, error)
        self.change(LeaseState.DISCONNECTED if leased else LeaseState.CONNECTING, str(error))

    def finish(self, state: LeaseState, error: RegistryError | None, why: str = "") -> None:
        """It is over; the first final state stays."""
        if not self.over:
            self.error = error
            self.change(state, why or (str(error) if error else "closed"))
        self.settled.set()
        self.ended.set()

    def change(self, state: LeaseState, why: str) -> None:
        """Take a state on, and tell the listener why; repeats and changes of a final state are ignored."""
        if state is self.state or self.over:
            return
        self.state = state
        if self._listener is None:
            return
        try:
            self._listener(state, why)
        except Exception:
            _log.exception("%s: the state listener failed", self._name)
