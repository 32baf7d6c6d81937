"""YAML to plain values, remembering on which line each stands. Knows nothing of what the values mean.

Stricter than YAML: a key given twice, a key that is not text and a tag of one's own are mistakes, not surprises.
"""

import yaml

from gateway.config.problems import ConfigError, Loc, Problem, where

# An alias repeats what it names, so a few lines can stand for billions of values. A real config is far below both.
MAX_VALUES = 100_000
MAX_DEPTH = 32

PLAIN_TAGS = ("str", "int", "float", "bool", "null", "timestamp")
TAG_PREFIX = "tag:yaml.org,2002:"


class Document:
    """The values of one file (dict, tuple, str, int, float, bool, None), and the line of each."""

    def __init__(self, data: object, lines: dict[Loc, int]) -> None:
        self.data = data
        self._lines = lines

    def line(self, loc: Loc) -> int:
        """The line, from 1, of the value at this place or of the nearest known one around it."""
        while loc and loc not in self._lines:
            loc = loc[:-1]
        return self._lines.get(loc, 1)


def read_document(text: str, filename: str) -> Document:
    """Parse one YAML document; an empty one is an empty mapping. Raises ConfigError with all mistakes found."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(filename, [syntax_problem(error)]) from None
    except yaml.YAMLError as error:
        raise ConfigError(filename, [Problem(0, f"not YAML: {' '.join(str(error).split())}")]) from None
    except RecursionError:
        raise ConfigError(filename, [Problem(0, "nested too deeply: a config needs no such depth")]) from None
    if node is None:
        return Document({}, {})
    reader = _Reader(filename)
    data = reader.value(node, ())
    if reader.problems:
        raise ConfigError(filename, reader.problems)
    return Document({} if data is None else data, reader.lines)


def syntax_problem(error: yaml.MarkedYAMLError) -> Problem:
    """What the parser found, at the line where it gave up."""
    mark = error.problem_mark or error.context_mark
    context = f" {error.context}" if error.context else ""
    return Problem(
        mark.line + 1 if mark else 0,
        f"not YAML: {error.problem}{context}; check the indentation, and put text with special characters in quotes",
    )


class _Reader:
    """One walk over the nodes of a document."""

    def __init__(self, filename: str) -> None:
        self._filename = filename
        self.lines: dict[Loc, int] = {}
        self.problems: list[Problem] = []
        self._count = 0
        self._constructor = yaml.constructor.SafeConstructor()

    def value(self, node: yaml.Node, loc: Loc) -> object:
        line = node.start_mark.line + 1
        self.lines.setdefault(loc, line)
        self._count += 1
        if self._count > MAX_VALUES or len(loc) > MAX_DEPTH:
            # Going on would only repeat it.
            text = f"more than {MAX_VALUES} values or {MAX_DEPTH} levels: write the aliases out, if there are any"
            raise ConfigError(self._filename, [Problem(line, text)])
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, loc)
        if isinstance(node, yaml.SequenceNode):
            return tuple(self.value(item, (*loc, index)) for index, item in enumerate(node.value))
        return self._scalar(node, loc, line)

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, object]:
        values: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != TAG_PREFIX + "str":
                self.problems.append(Problem(line, f"{where(loc)} has a key that is not text: put it in quotes"))
                continue
            if key in values:
                first = self.lines[(*loc, key)]
                self.problems.append(
                    Problem(line, f"{where(loc)} has the key {key!r} twice (first on line {first}): keep one of them")
                )
                continue
            self.lines[(*loc, key)] = line
            values[key] = self.value(value_node, (*loc, key))
        return values

    def _scalar(self, node: yaml.Node, loc: Loc, line: int) -> object:
        tag = node.tag.removeprefix(TAG_PREFIX)
        if tag not in PLAIN_TAGS:
            self.problems.append(Problem(line, f"{where(loc)} has the tag {node.tag}: only plain values are allowed"))
            return None
        # A date is text to everything that a config can say.
        if tag in ("str", "timestamp"):
            return node.value
        try:
            return self._constructor.construct_object(node)
        except ValueError:
            self.problems.append(Problem(line, f"{where(loc)} is not a number: put {node.value!r} in quotes"))
            return None
