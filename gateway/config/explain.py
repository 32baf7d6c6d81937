"""Validation errors in the words of the person who wrote the file."""

import difflib
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from gateway.config.model import Config
from gateway.config.problems import Loc, where

EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}


def place(error: ErrorDetails) -> Loc:
    """Where the mistake is; a check over several keys says which one it means."""
    # A mistake in a mapping's key itself is marked so; the key is the part before.
    loc = tuple(part for part in error["loc"] if part != "[key]")
    key = error.get("ctx", {}).get("at")
    return loc if key is None else (*loc, key)


def explain(error: ErrorDetails) -> str:
    """One sentence: where, what is wrong, and what to do."""
    loc = place(error)
    kind = error["type"]
    if kind == "extra_forbidden":
        return unknown_key(loc)
    if kind == "missing":
        return f"{where(loc[:-1])}: {loc[-1]!r} is missing: add it"
    return f"{where(loc)}: {complaint(error, kind)}"


def complaint(error: ErrorDetails, kind: str) -> str:
    """What is wrong with a value."""
    context: dict[str, Any] = error.get("ctx", {})
    value = error["input"]
    if kind in EXPECTED:
        return wrong_type(EXPECTED[kind], value)
    if kind == "literal_error":
        # The one literal that is no text is True, which YAML writes in lower case.
        return f"{shown(value)} is not known here: use {context['expected'].replace('True', 'true')}"
    if kind == "greater_than_equal":
        return f"{value} is too small: use {context['ge']} or more"
    if kind == "less_than_equal":
        return f"{value} is too large: use {context['le']} or less"
    if kind == "value_error":
        return str(context["error"])
    return error["msg"]


def wrong_type(expected: str, value: object) -> str:
    """A value of another type than the key takes."""
    if value is None:
        return f"has no value, where {expected} belongs: give it one, or remove the key"
    if expected == "text" and isinstance(value, bool | int | float):
        return f"{shown(value)} is not text to YAML: put it in quotes"
    if expected == "a list":
        return f"{shown(value)} is not a list: put its items in brackets, as in [A, B]"
    return f"{shown(value)} is not {expected}: write {expected}"


def shown(value: object) -> str:
    """A value as YAML has it, in short."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, tuple):
        return "a list"
    return repr(value)


def unknown_key(loc: Loc) -> str:
    """A key that the model at this place does not have, with the nearest that it has."""
    known = known_keys(loc[:-1])
    near = difflib.get_close_matches(str(loc[-1]), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return f"{where(loc[:-1])}: unknown key {loc[-1]!r}: {hint}"


def known_keys(loc: Loc) -> list[str]:
    """The keys that the config takes at this place, which must be a model's."""
    shape: Any = Config
    for part in loc:
        if is_model(shape):
            shape = shape.model_fields[str(part)].annotation
            if get_origin(shape) is not UnionType:
                continue
        # The part is an index or a key of a container; or the shape was "a model or None".
        shape = next(option for option in get_args(shape) if is_model(option))
    return list(shape.model_fields)


def is_model(shape: Any) -> bool:
    """Whether it is one of the config's models."""
    return isinstance(shape, type) and issubclass(shape, BaseModel)
