"""Wakes everybody who waits for "something changed", without keeping a list of them."""

import asyncio


class Signal:
    """Take a ``ticket`` before looking at the state, then ``wait`` with it: no change in between is missed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ticket(self) -> asyncio.Event:
        """What the next ``notify`` will set."""
        return self._event

    def notify(self) -> None:
        """Something changed: everybody with a ticket goes on."""
        self._event.set()
        self._event = asyncio.Event()

    @staticmethod
    async def wait(ticket: asyncio.Event, timeout: float) -> None:
        """Until the notification after the ticket, or ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await ticket.wait()
        except TimeoutError:
            pass
