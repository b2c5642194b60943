"""Two texts, line by line."""

import difflib

__all__ = ["text_difference"]


def text_difference(found: str, expected: str, what: str, source: str = "derived from the spec") -> list[str]:
    """One text to show, in the format of `diff -u`; none if they are equal."""
    lines = difflib.unified_diff(found.splitlines(), expected.splitlines(), what, source, lineterm="")
    return [text] if (text := "\n".join(lines)) else []
