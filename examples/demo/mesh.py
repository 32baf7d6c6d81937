"""The mesh of the demo: one registry, one gateway, and five instances of two services in two versions."""

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path

from examples.demo.processes import Child, Guard, free_port, preferred_port

PREFERRED_REGISTRY_PORT = 7500
PREFERRED_GATEWAY_PORT = 8080
CONFIG = Path(__file__).with_name("gateway.yaml")

# How long the lease of an instance that died lives on, in seconds: short, so that its end can be seen by hand.
TTL_SECONDS = 5

MESHWAY = (sys.executable, "-m", "gateway")


class Mesh:
    """All processes, in the order in which they start; they stop in the reverse order."""

    def __init__(self) -> None:
        self.registry = ""
        self.gateway = ""
        self.instances: dict[str, Child] = {}
        self.killed = ""
        self._children: list[Child] = []
        self._guard = Guard()

    async def start(self, otlp_endpoint: str) -> None:
        """Start everything; ``otlp_endpoint`` is where the gateway sends spans. Raises StartError."""
        await self._guard.start()
        listen = f"127.0.0.1:{preferred_port(PREFERRED_REGISTRY_PORT)}"
        self.registry = await self._start(Child(self._guard, "registry", (*MESHWAY, "registry", "--listen", listen)))
        listen = f"127.0.0.1:{preferred_port(PREFERRED_GATEWAY_PORT)}"
        argv = (*MESHWAY, "gateway", "--listen", listen, "--registry", self.registry, "--config", str(CONFIG))
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": otlp_endpoint,
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_BSP_SCHEDULE_DELAY": "500",
        }
        self.gateway = await self._start(Child(self._guard, "gateway", argv, env))
        starts = [self._start_instance(child) for child in self._all_instances()]
        # Every start is waited for, also after one has failed: only then is it known what has to be stopped.
        for outcome in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    def kill(self, name: str) -> None:
        """SIGKILL one instance: it says goodbye to nobody."""
        self.killed = name
        self.instances[name].kill()

    def failure(self) -> str:
        """Which process ended although nobody killed it, and what it printed last; empty when all is well."""
        reasons = (child.failure() for child in self._children if child.name != self.killed)
        return next((reason for reason in reasons if reason), "")

    async def stop(self) -> None:
        """End every process: the instances first, then the gateway, then the registry."""
        await asyncio.gather(*(child.stop() for child in self.instances.values()))
        for child in reversed(self._children):
            await child.stop()
        await self._guard.stop()

    def _all_instances(self) -> Iterable[Child]:
        yield self._registering("catalog", "catalog-1", "v1")
        yield self._registering("catalog", "catalog-2", "v1")
        yield self._registering("catalog", "catalog-3", "v2")
        yield self._registering("cart", "cart-1", "v1")
        yield self._registered("cart", "cart-2", "v2")

    def _registering(self, service: str, name: str, version: str) -> Child:
        """An instance that holds its lease itself, with the Python SDK."""
        lease = ("--registry", self.registry, "--ttl", str(TTL_SECONDS))
        return Child(self._guard, name, (*self._serving(service, name, version, 0), *lease))

    def _registered(self, service: str, name: str, version: str) -> Child:
        """An instance that knows nothing of leases: ``meshway register`` runs it and holds the lease for it.

        It asks the instance by reflection which gRPC services to declare.
        """
        port = free_port()
        lease = ("--registry", self.registry, "--ttl", str(TTL_SECONDS), "--service", service)
        record = ("--address", f"127.0.0.1:{port}", "--instance-id", name, "--label", f"version={version}")
        command = self._serving(service, name, version, port)
        return Child(self._guard, name, (*MESHWAY, "register", *lease, *record, "--", *command))

    def _serving(self, service: str, name: str, version: str, port: int) -> tuple[str, ...]:
        who = ("--instance", name, "--version", version, "--mesh", self.gateway)
        return (sys.executable, "-m", f"examples.{service}", "--listen", f"127.0.0.1:{port}", *who)

    async def _start(self, child: Child) -> str:
        self._children.append(child)
        return await child.start()

    async def _start_instance(self, child: Child) -> None:
        self.instances[child.name] = child
        await self._start(child)
