"""Names of what a route can send calls to: a service, or those of its instances that carry certain labels."""

import re
from collections.abc import Mapping
from typing import Final

# What the notation of a key itself uses.
SPECIAL: Final = re.compile(r"([\\,={}])")


class TargetSpec:
    """A service and the labels that its instances must carry; no labels means all of them.

    ``key`` is the one name of it: ``cart``, or ``cart{version=v2}`` with the labels in order.
    """

    def __init__(self, service: str, labels: Mapping[str, str]) -> None:
        self.service: Final = service
        self.labels: Final = dict(labels)
        self.key: Final = target_key(service, labels)

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether an instance with these labels belongs to it."""
        return all(labels.get(name) == value for name, value in self.labels.items())


def target_key(service: str, labels: Mapping[str, str]) -> str:
    """The key of a service's subset. Two different subsets never share one: special characters are escaped."""
    if not labels:
        return service
    pairs = [f"{escaped(name)}={escaped(labels[name])}" for name in sorted(labels)]
    return f"{service}{{{','.join(pairs)}}}"


def escaped(text: str) -> str:
    """The text with a backslash before each character of the notation."""
    return SPECIAL.sub(r"\\\1", text)
