"""What can be wrong with a config, said so that a person can find it and knows what to do."""

from dataclasses import dataclass

# Where a value is in the document: keys and list indexes from the top.
Loc = tuple[str | int, ...]


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake: the line (from 1; 0 when the file as a whole is meant) and one sentence."""

    line: int
    text: str


class ConfigError(ValueError):
    """The config must not be used. ``problems`` are all mistakes found, one ``FILE:LINE: sentence`` each."""

    def __init__(self, filename: str, problems: list[Problem]) -> None:
        self.problems = [
            f"{filename}:{problem.line}: {problem.text}" if problem.line else f"{filename}: {problem.text}"
            for problem in sorted(set(problems))
        ]
        super().__init__("\n".join(self.problems))


def where(loc: Loc) -> str:
    """The place as people write it: ``routes[0].matches[1].method``; ``the file`` for the top."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the file"
