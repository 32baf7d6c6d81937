"""Shows the tally while it grows: a live table on a terminal, a line every two seconds elsewhere."""

from rich.console import Console
from rich.live import Live
from rich.table import Table

from examples.demo.mesh import Mesh
from examples.demo.tally import KINDS, Tally

LINE_SECONDS = 2.0


class Display:
    """Call ``update`` a few times a second; ``say`` prints above what is live."""

    def __init__(self, console: Console, mesh: Mesh, tally: Tally) -> None:
        self._console = console
        self._mesh = mesh
        self._tally = tally
        self._live = Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else None
        self._next_line = 0.0
        self._last = (0.0, 0)

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: object) -> None:
        """Print something that stays."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def update(self, seconds: float) -> None:
        """Show the tally as it is after so many seconds of traffic."""
        if self._live:
            self._live.update(self.table(seconds), refresh=True)
        elif seconds >= self._next_line:
            self._next_line = seconds + LINE_SECONDS
            self.say(self.line(seconds))

    def table(self, seconds: float) -> Table:
        """One row an instance, one column a kind of call."""
        title = f"{self._tally.total} calls in {seconds:.0f} s, {self._tally.failed} failed"
        table = Table("instance", "version", title=title, title_justify="left")
        for heading in (*KINDS, "all", "state"):
            table.add_column(heading, justify="left" if heading == "state" else "right")
        for name in sorted(self._mesh.instances):
            counts = [str(self._tally.counts[name, kind]) for kind in KINDS]
            version = self._tally.versions.get(name, "?")
            table.add_row(name, version, *counts, str(self._tally.of_instance(name)), self._state(name))
        return table

    def line(self, seconds: float) -> str:
        """The same in one line, without the kinds."""
        parts = []
        for name in sorted(self._mesh.instances):
            mark = " (killed)" if name == self._mesh.killed else ""
            parts.append(f"{name} {self._tally.versions.get(name, '?')} {self._tally.of_instance(name)}{mark}")
        return f"{seconds:5.1f} s  {self._tally.total} calls, {self._tally.failed} failed: " + ", ".join(parts)

    def _state(self, name: str) -> str:
        return "[red]killed[/red]" if name == self._mesh.killed else "[green]up[/green]"
