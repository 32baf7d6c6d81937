"""Regular expressions from the config, made safe to run on what a caller sends.

``re`` backtracks, so a repeat inside a repeat can take exponential time on a crafted value and stop every call of the
process. Such patterns are refused when the config is read. Python's possessive repeats (``++``, ``*+``) never give
back what they took, so they are the way to write the inner one.
"""

import re
from typing import Final

# Longer values match no pattern: two adjacent repeats take quadratic time, three cubic. Real method names and the
# metadata that routes look at (tenants, versions, user ids) are far shorter.
MAX_PATTERN_INPUT: Final = 512


def compile_pattern(text: str) -> "re.Pattern[bytes]":
    """The pattern over bytes, to be used with ``fullmatch``. Raises ValueError, saying what to write instead."""
    if nested_repeat(text):
        raise ValueError(
            f"the regular expression {text!r} repeats a group that itself repeats, which can take exponential time "
            "on a crafted value: make the inner repeat possessive (`++` or `*+`), or write it without the group"
        )
    try:
        return re.compile(text.encode())
    except re.error as error:
        raise ValueError(f"the regular expression {text!r} does not compile: {error}") from None


def nested_repeat(pattern: str) -> bool:
    """Whether an unbounded repeat applies to a group that holds another; possessive ones and atomic groups are safe."""
    holds = [False]  # for each open group: whether an unbounded, giving-back repeat is inside
    atomic = [False]  # for each open group: whether it is (?>...)
    last_holds = False  # whether the item before this position is such a group
    at = 0
    while at < len(pattern):
        char = pattern[at]
        width = repeat_width(pattern, at)
        if width:
            possessive = pattern[at + width : at + width + 1] == "+"
            if is_unbounded(pattern[at : at + width]) and not possessive:
                if last_holds:
                    return True
                holds[-1] = True
            at += width
            if pattern[at : at + 1] in ("+", "?"):
                at += 1
            last_holds = False
            continue
        last_holds = False
        if char == "(":
            holds.append(False)
            atomic.append(pattern.startswith("(?>", at))
            # The question mark of "(?" is no repeat.
            at += 2 if pattern.startswith("(?", at) else 1
        elif char == ")" and len(holds) > 1:
            last_holds = holds.pop() and not atomic.pop()
            holds[-1] = holds[-1] or last_holds
            at += 1
        else:
            at = after_item(pattern, at)
    return False


def repeat_width(pattern: str, at: int) -> int:
    """The length of the repeat that starts here (``*``, ``+``, ``?``, ``{m,n}``), or 0."""
    char = pattern[at]
    if char in "*+?":
        return 1
    if char == "{":
        end = pattern.find("}", at)
        bounds = pattern[at + 1 : end]
        if end > 0 and bounds not in ("", ",") and bounds.replace(",", "", 1).isdigit():
            return end + 1 - at
    return 0


def is_unbounded(repeat: str) -> bool:
    """Whether a repeat has no upper bound."""
    return repeat in ("*", "+") or repeat.endswith(",}")


def after_item(pattern: str, at: int) -> int:
    """The position after the escape, the character class or the plain character that starts here."""
    char = pattern[at]
    if char == "\\":
        return at + 2
    if char != "[":
        return at + 1
    at += 1
    if pattern[at : at + 1] == "^":
        at += 1
    first = at  # a bracket in first place is an ordinary member
    while at < len(pattern) and (pattern[at] != "]" or at == first):
        at += 2 if pattern[at] == "\\" else 1
    return at + 1
