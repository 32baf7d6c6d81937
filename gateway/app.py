"""The composition root: the only file that knows all parts. Builds them, starts them, drains them, stops them."""

import asyncio
import gc
import logging
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.admin.http import AdminServer, Pages
from gateway.admin.pages import endpoints_page, healthz_page, readyz_page
from gateway.admin.services import OwnServices
from gateway.config import Config, load_config, policy_specs, route_table, target_specs
from gateway.control.file import ConfigWatch, Reload
from gateway.control.publisher import OWN_TARGET, Publisher
from gateway.control.registry import RegistrySource
from gateway.control.view import MeshView
from gateway.model import Endpoint
from gateway.net.dialer import SocketDialer
from gateway.net.listener import Listener
from gateway.net.loop import LoopAlarm, LoopOutput
from gateway.proxy.proxy import Proxy
from gateway.proxy.snapshot import Snapshot, SnapshotSink
from gateway.telemetry.setup import build_recorder

_log = logging.getLogger(__name__)

# How long the start waits for the registry's first answer before it says that it is ready all the same: a gateway
# must come up without its registry, but should not greet its first callers with an empty table.
FIRST_VIEW_TIMEOUT = 3.0
# How often a draining gateway looks whether its last client has left.
DRAIN_POLL = 0.02
# Keys of the config that are read at start only: they say which sockets there are.
FIXED = ("listen", "registry", "admin")
# What is left of the traces gets this long on the way out.
FLUSH_TIMEOUT = 5.0


@dataclass(frozen=True)
class GatewayOptions:
    """What a gateway needs to start. Addresses are "host:port"; ``drain_timeout`` is in seconds."""

    listen: str
    registry: tuple[str, ...]
    admin: str | None = None
    config_file: Path | None = None
    drain_timeout: float = 30.0


class ProxySink(SnapshotSink):
    """Hands each new snapshot to the proxy, with the time, and tells the own services that something changed."""

    def __init__(self) -> None:
        super().__init__()
        self.proxy: Proxy | None = None
        self.notify: Callable[[], None] | None = None

    def swap(self, snapshot: Snapshot, removed: list[Endpoint]) -> None:
        """New calls use this snapshot."""
        if self.proxy is not None:
            self.proxy.use(snapshot, removed, time.monotonic())
        if self.notify is not None:
            self.notify()


class Gateway:
    """A whole gateway in one process and one event loop."""

    def __init__(self, options: GatewayOptions, config: Config) -> None:
        self.options = options
        self.address = ""  # in force once started
        self.admin_address = ""
        self._config = config
        self._view = MeshView()
        self._first_view = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._publisher: Publisher

    async def start(self) -> None:
        """Build every part and listen. Raises ListenError, AdminError or TelemetryError: a sentence for people."""
        loop = asyncio.get_running_loop()
        rng = random.Random()
        self._output = LoopOutput(loop)
        self._alarm = LoopAlarm(loop)
        self._recorder = build_recorder(os.environ)
        self._source = RegistrySource(self.options.registry, self._take_view)
        self._sink = ProxySink()
        self._own = OwnServices(
            view=lambda: self._view,
            snapshot=lambda: self._publisher.current,
            fetch_descriptor_set=self._source.fetch_descriptor_set,
        )
        own_address = await self._own.start()
        own_endpoint = Endpoint(OWN_TARGET, "self", own_address, {})
        self._publisher = Publisher(self._sink, rng, own_endpoint, list(OwnServices.OWN_SERVICES))
        dialer = SocketDialer(self._output, loop)
        self._proxy = Proxy(self._publisher.current, self._alarm.timers, self._recorder, dialer, self._output, rng)
        self._sink.proxy = self._proxy
        self._sink.notify = self._own.notify
        self._apply_config(self._config)
        self._listener = Listener(self._proxy, self._output)
        self._admin: AdminServer | None = None
        try:
            self.address = await self._listener.start(self.options.listen)
            await self._start_admin()
        except BaseException:
            await self._own.stop()
            raise
        await self._source.start()
        self._watch_config()
        await self._await_first_view()
        # What is alive now lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()

    async def _start_admin(self) -> None:
        if self.options.admin is not None:
            pages: Pages = {
                "/counters": self.counters,
                "/endpoints": lambda: endpoints_page(self._publisher.current),
                "/healthz": healthz_page,
                "/readyz": lambda: readyz_page(self._publisher.current, self._proxy.draining),
            }
            self._admin = AdminServer(self.options.admin, pages)
            self.admin_address = await self._admin.start()

    async def _await_first_view(self) -> None:
        try:
            await asyncio.wait_for(self._first_view.wait(), FIRST_VIEW_TIMEOUT)
        except TimeoutError:
            _log.warning("No answer from the registry yet; calls are UNAVAILABLE until it is there.")

    def _take_view(self, view: MeshView) -> None:
        self._view = view
        self._publisher.update_view(view)
        self._first_view.set()

    # --- config ---

    def _apply_config(self, config: Config) -> None:
        fixed = [name for name in FIXED if getattr(config, name) != getattr(self._config, name)]
        if fixed:
            _log.warning("Changes to %s take effect when the gateway is restarted.", " and ".join(fixed))
        self._publisher.configure(route_table(config), target_specs(config), policy_specs(config))

    def _watch_config(self) -> None:
        path = self.options.config_file
        if path is None:
            return
        self._reload = Reload(lambda: load_config(path), self._apply_config, self._config)
        watch = ConfigWatch(path, self._reload.run)
        self._tasks.append(asyncio.create_task(watch.run(self._stopping), name="config watch"))

    def reload(self) -> None:
        """Read the config file again (SIGHUP); a bad one is refused whole."""
        if self.options.config_file is None:
            _log.info("SIGHUP: there is no config file to read again.")
        else:
            self._reload.run()

    # --- what operators see ---

    def counters(self) -> dict[str, object]:
        """What is under way and what has been, as one flat table."""
        counters: dict[str, object] = dict(self._proxy.counters())
        counters["generation"] = self._publisher.current.generation
        counters["registry_connected"] = self._source.status.connected
        counters["draining"] = self._proxy.draining
        counters.update(self._recorder.counters())
        return counters

    # --- the end ---

    async def drain(self) -> bool:
        """Take no new connections, let calls finish; whether they did within the drain timeout."""
        self._own.drain()
        self._listener.close()
        self._proxy.drain(time.monotonic())
        deadline = time.monotonic() + self.options.drain_timeout
        while self._proxy.downstreams:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(DRAIN_POLL)
        return True

    async def stop(self) -> None:
        """End everything that is left, at once."""
        self._stopping.set()
        self._listener.close()
        self._proxy.abort("the gateway is stopping", time.monotonic())
        await asyncio.sleep(0)  # the last words of each connection are written in the next turn
        await asyncio.sleep(0)
        self._alarm.stop()
        await self._source.stop()
        if self._admin is not None:
            await self._admin.stop()
        await self._own.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._recorder.close, FLUSH_TIMEOUT)


async def run_gateway(options: GatewayOptions, config: Config, say: Callable[[str], None]) -> int:
    """Run until SIGTERM or SIGINT, then drain; returns the exit code. A second signal ends it at once."""
    gateway = Gateway(options, config)
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    await gateway.start()
    loop.add_signal_handler(signal.SIGHUP, gateway.reload)
    say(f"gateway listening on {gateway.address}")
    if gateway.admin_address:
        say(f"admin on {gateway.admin_address}")
    await signals.get()
    say(f"draining: calls under way have {options.drain_timeout:g} s")
    draining = asyncio.create_task(gateway.drain())
    again = asyncio.create_task(signals.get())
    await asyncio.wait([draining, again], return_when=asyncio.FIRST_COMPLETED)
    again.cancel()
    if not draining.done():
        draining.cancel()
        say("second signal: ending calls now")
    elif not draining.result():
        say(f"{gateway.counters()['calls']} calls did not finish in time and were ended")
    await gateway.stop()
    return 0
