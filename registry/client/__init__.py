"""The registry's SDK: register an instance and keep it registered; watch, resolve and list the mesh.

    from registry.client import Registration, watch

    async with Registration("127.0.0.1:7500", service="cart", address="10.0.0.7:50051") as lease:
        ...

    async for view in watch("127.0.0.1:7500", services=["cart"]):
        print(view.revision, [instance.addresses for instance in view.instances])

Programs without an event loop use SyncRegistration in a plain ``with``.
"""

from registry.client.catalog import CatalogView, Departure, Instance, InstanceState, RemovalReason
from registry.client.dial import DEFAULT_REGISTRY, parse_addresses, split_address
from registry.client.errors import RegistrationError, RegistryError, SupersededError
from registry.client.queries import RegistryClient, Resolution, ServiceSummary
from registry.client.record import InstanceRecord
from registry.client.registration import DEFAULT_TTL, Registration
from registry.client.standing import LeaseState
from registry.client.sync import SyncRegistration
from registry.client.watcher import Watcher, WatchTimings, watch

__all__ = [
    "DEFAULT_REGISTRY",
    "DEFAULT_TTL",
    "CatalogView",
    "Departure",
    "Instance",
    "InstanceRecord",
    "InstanceState",
    "LeaseState",
    "Registration",
    "RegistrationError",
    "RegistryClient",
    "RegistryError",
    "RemovalReason",
    "Resolution",
    "ServiceSummary",
    "SupersededError",
    "SyncRegistration",
    "WatchTimings",
    "Watcher",
    "parse_addresses",
    "split_address",
    "watch",
]
