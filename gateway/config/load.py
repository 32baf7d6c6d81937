"""From a file or a text to a Config, or to the list of all its mistakes."""

from pathlib import Path

from pydantic import ValidationError

from gateway.config.document import Document, read_document
from gateway.config.explain import explain, place
from gateway.config.model import Config
from gateway.config.problems import ConfigError, Loc, Problem


def load_config(path: str | Path) -> Config:
    """The config in a file. Raises ConfigError, also when the file cannot be read."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        problem = Problem(0, f"cannot be read ({error.strerror}): check the path and its permissions")
        raise ConfigError(str(path), [problem]) from None
    except UnicodeDecodeError as error:
        problem = Problem(0, f"is not UTF-8 text (byte {error.start}): save it as UTF-8")
        raise ConfigError(str(path), [problem]) from None
    return parse_config(text, str(path))


def parse_config(text: str, filename: str) -> Config:
    """The config in a text; ``filename`` is what mistakes are reported under. Raises ConfigError with all of them."""
    document = read_document(text, filename)
    problems = duplicate_names(document)
    try:
        config = Config.model_validate(document.data)
    except ValidationError as failure:
        for error in failure.errors(include_url=False):
            problems.append(Problem(document.line(place(error)), explain(error)))
    else:
        if not problems:
            return config
    raise ConfigError(filename, problems)


def duplicate_names(document: Document) -> list[Problem]:
    """Routes that share a name. Looks at the raw values, so that other mistakes do not hide these."""
    problems: list[Problem] = []
    first: dict[str, Loc] = {}
    data = document.data
    routes = data.get("routes") if isinstance(data, dict) else None
    for index, route in enumerate(routes if isinstance(routes, tuple) else ()):
        name = route.get("name") if isinstance(route, dict) else None
        if not isinstance(name, str):
            continue
        loc = ("routes", index, "name")
        known = first.setdefault(name, loc)
        if known != loc:
            text = f"routes[{index}].name: {name!r} is already the name of the route on line {document.line(known)}"
            problems.append(Problem(document.line(loc), f"{text}: give each route its own"))
    return problems
