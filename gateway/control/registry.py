"""The registry as a source of the mesh: follows its watch, and keeps the last good view when it is away.

While a registry is warming (it started without its past), absence from its list proves nothing: instances are still
coming back to it. Only removals that it announces count then; the whole list counts again when warming ends.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from gateway.control.view import InstanceView, MeshView
from registry.client import CatalogView, Instance, InstanceState, RegistryClient, Watcher, WatchTimings

_log = logging.getLogger(__name__)

# Views are applied on the loop that forwards calls. After each one the source rests for so many times what it took, and
# sums up what comes meanwhile: a mesh that leaves instance by instance costs calls a fifth of the loop at most.
REST_FACTOR: Final = 4.0

_TAKES_CALLS = frozenset({InstanceState.READY, InstanceState.SUSPECT})


@dataclass(frozen=True)
class SourceStatus:
    """How things stand with the registry, for operators.

    ``since`` is when it was found or lost, in seconds of the source's clock; ``error`` is why it is away, if it is.
    ``kept`` counts instances that a warming registry does not list (yet), and that are kept in use.
    """

    connected: bool
    since: float
    synced: bool
    revision: int
    epoch: str
    warming: bool
    instances: int
    kept: int
    error: str


class Merger:
    """Turns the registry's views into the mesh's, in order. Pure: no clock, no stream."""

    def __init__(self) -> None:
        self.kept = 0  # instances that the registry does not list, and that stay because it is warming
        self._instances: dict[tuple[str, str], InstanceView] = {}
        self._known: frozenset[str] = frozenset()

    def merge(self, view: CatalogView) -> MeshView:
        """The mesh after this view of the catalog."""
        listed = {instance.key: _translate(instance) for instance in view.instances}
        known = view.known_services
        if view.warming:
            announced = {(departure.service, departure.instance_id) for departure in view.departures}
            kept = {
                key: instance for key, instance in self._instances.items() if key not in listed and key not in announced
            }
            listed.update(kept)
            known = known | self._known
            self.kept = len(kept)
        else:
            self.kept = 0
        self._instances = listed
        self._known = known
        return MeshView(tuple(listed.values()), known, synced=True)


class RegistrySource:
    """Follows a registry ("host:port[,host:port]") and calls ``on_view`` with each new view of the mesh.

    ``on_view`` runs in the event loop and should return soon. No view is given before the registry's first complete
    answer, and none because it went away: the last one stays in force. ValueError for a bad address.
    """

    def __init__(
        self,
        registry: str | Sequence[str],
        on_view: Callable[[MeshView], None],
        *,
        namespace: str = "",
        services: Sequence[str] = (),
        timings: WatchTimings | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
    ) -> None:
        self._name = registry if isinstance(registry, str) else ",".join(registry)
        self._on_view = on_view
        self._clock = clock
        self._watcher = Watcher(registry, namespace, services, timings=timings, clock=clock, rng=rng)
        self._client = RegistryClient(registry)
        self._merger = Merger()
        self._catalog = CatalogView()
        self._count = 0
        self._since = clock()
        self._said_away = False
        self._task: asyncio.Task[None] | None = None
        self._waiting: CatalogView | None = None  # the newest, with all departures since the one applied last
        self._rest: asyncio.TimerHandle | None = None  # while views have to wait

    async def start(self) -> None:
        """Begin to follow the registry; returns at once, whether or not it is there."""
        if self._task is None:
            self._since = self._clock()
            self._task = asyncio.create_task(self._follow(), name="registry source")

    async def stop(self) -> None:
        """End the watch. The last view given stays in force; a stopped source cannot be started again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._rest is not None:
            self._rest.cancel()
        await self._client.aclose()

    @property
    def status(self) -> SourceStatus:
        """How things stand now."""
        error = self._watcher.error
        return SourceStatus(
            connected=self._catalog.connected,
            since=self._since,
            synced=self._catalog.synced,
            revision=self._watcher.view.revision,
            epoch=self._catalog.epoch.hex(),
            warming=self._catalog.warming,
            instances=self._count,
            kept=self._merger.kept,
            error="" if self._catalog.connected or error is None else str(error),
        )

    async def fetch_descriptor_set(self, digest: str) -> bytes:
        """The serialized FileDescriptorSet with this digest; RegistryError if no registry has it or answers."""
        return await self._client.get_descriptor_set(digest)

    async def _follow(self) -> None:
        async with aclosing(self._watcher) as views:
            async for view in views:
                self._take(view)

    def _take(self, view: CatalogView) -> None:
        before, self._catalog = self._catalog, view
        if view.connected != before.connected:
            self._since = self._clock()
        self._say(view)
        if not view.connected:
            return
        if self._waiting is not None and self._waiting.epoch != view.epoch:
            self._apply()  # departures of one epoch say nothing of another
        if self._waiting is not None:
            view = replace(view, departures=self._waiting.departures + view.departures)
        self._waiting = view
        if self._rest is None:
            self._apply()

    def _rested(self) -> None:
        self._rest = None
        if self._waiting is not None:
            self._apply()

    def _apply(self) -> None:
        """Give out the view that waits, and rest."""
        view, self._waiting = self._waiting, None
        assert view is not None
        began = self._clock()
        mesh = self._merger.merge(view)
        self._count = len(mesh.instances)
        try:
            self._on_view(mesh)
        except Exception:
            # The next view is whole again: going on without this one is better than never hearing of another.
            _log.exception("a view of the mesh at revision %d could not be applied", view.revision)
        if self._rest is not None:
            self._rest.cancel()
        rest = REST_FACTOR * (self._clock() - began)
        self._rest = asyncio.get_running_loop().call_later(rest, self._rested)

    def _say(self, view: CatalogView) -> None:
        """One line when the registry is lost, one when it is back."""
        if view.connected:
            if self._said_away:
                _log.info("the registry at %s is back, at revision %d", self._name, view.revision)
            self._said_away = False
        elif not self._said_away:
            self._said_away = True
            going_on = f"going on with {self._count} instances" if view.synced else "no instances known yet"
            _log.warning("%s; %s until it is back", self._watcher.error, going_on)


def _translate(instance: Instance) -> InstanceView:
    """What the gateway keeps of an instance."""
    return InstanceView(
        service=instance.service,
        instance_id=instance.instance_id,
        addresses=instance.addresses,
        grpc_services=instance.grpc_services,
        labels=instance.labels,
        weight=instance.weight,
        incarnation=instance.incarnation,
        ready=instance.state in _TAKES_CALLS,
        draining=instance.state is InstanceState.DRAINING,
        descriptor_digest=instance.descriptor_digest,
    )
