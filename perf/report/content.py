"""What a report is made of: sections of a sentence, figures and tables, one for each raw result."""

from collections.abc import Callable
from dataclasses import dataclass, field

from matplotlib.axes import Axes

from perf.harness.raw import RawResult

__all__ = ["Figure", "Section", "Table", "number"]


@dataclass(frozen=True)
class Figure:
    """A drawing on axes. `name` is the end of its file's name; inches, at 150 dots each in the PNG."""

    name: str
    title: str
    draw: Callable[[Axes], None]
    width: float = 7.5
    height: float = 4.2


@dataclass(frozen=True)
class Table:
    """Rows of text under headings. The first `left` columns are words, the others numbers."""

    title: str
    headings: list[str]
    rows: list[list[str]]
    left: int = 1


@dataclass(frozen=True)
class Section:
    """One raw result.

    verdict  what came out, in one sentence; it stands on top of the page, too
    summary  how it came about: what was sent, how often it was measured
    doubts   its caveats
    name     of the raw file, without its ending
    """

    title: str
    verdict: str = ""
    summary: str = ""
    doubts: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    name: str = ""
    raw: RawResult | None = None


def number(value: float | None) -> str:
    """Three digits that count; nothing for None."""
    if value is None:
        return ""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
