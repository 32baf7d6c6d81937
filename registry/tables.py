"""Lists for people and for programs: a table on a terminal, plain columns in a pipe, JSON on request."""

import json
from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from registry.client import Instance, InstanceState, ServiceSummary

_COLOURS = {
    InstanceState.READY: "green",
    InstanceState.NOT_READY: "red",
    InstanceState.DRAINING: "yellow",
    InstanceState.SUSPECT: "magenta",
}

Rows = Sequence[Sequence[str]]


def show(out: TextIO, headings: Sequence[str], rows: Rows) -> None:
    """Columns: drawn and coloured on a terminal, else padded with spaces, never cut."""
    if out.isatty():
        table = Table(*headings, box=None, header_style="bold", pad_edge=False)
        for row in rows:
            table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))  # type: ignore[call-overload]
        Console(file=out).print(table)
        return
    lines = [tuple(headings), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        out.write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n")


def show_json(out: TextIO, value: object) -> None:
    """One JSON document, indented."""
    json.dump(value, out, indent=2)
    out.write("\n")


def service_rows(services: Sequence[ServiceSummary]) -> Rows:
    """One row a service, by name: its counts, and the gRPC services that it declares."""
    return [
        (s.service, str(s.ready), str(s.not_ready), str(s.draining), str(s.suspect), ", ".join(s.grpc_services) or "-")
        for s in sorted(services, key=lambda s: s.service)
    ]


def instance_rows(instances: Sequence[Instance]) -> Rows:
    """One row an instance, by service and id."""
    return [
        (
            one.service,
            one.instance_id,
            ", ".join(one.addresses),
            one.state.value,
            str(one.weight),
            ", ".join(f"{key}={value}" for key, value in sorted(one.labels.items())) or "-",
            one.not_ready_reason or "-",
        )
        for one in sorted(instances, key=lambda one: one.key)
    ]


def service_json(service: ServiceSummary) -> Mapping[str, object]:
    """A service as JSON."""
    return {
        "namespace": service.namespace,
        "service": service.service,
        "ready": service.ready,
        "not_ready": service.not_ready,
        "draining": service.draining,
        "suspect": service.suspect,
        "grpc_services": list(service.grpc_services),
    }


def instance_json(one: Instance) -> Mapping[str, object]:
    """An instance as JSON; times are seconds."""
    return {
        "namespace": one.namespace,
        "service": one.service,
        "instance_id": one.instance_id,
        "addresses": list(one.addresses),
        "state": one.state.value,
        "not_ready_reason": one.not_ready_reason,
        "weight": one.weight,
        "labels": dict(one.labels),
        "grpc_services": list(one.grpc_services),
        "incarnation": one.incarnation,
        "revision": one.revision,
        "descriptor_digest": one.descriptor_digest,
        "ttl_seconds": one.ttl,
        "drain_remaining_seconds": one.drain_remaining,
    }
