"""The table for people, and the objects for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from ...images.corruptions import CORRUPTIONS
from ..display import show_table
from .tally import UNDISTURBED, Tally, interval

__all__ = ["rows", "show", "titles"]


def titles(tally: Tally) -> list[str]:
    """Who answered, and how it does undisturbed."""
    told = [
        f"{model} version {version}{f', weights: {weights}' if weights else ''}"
        for model, version, weights in tally.answered_by
    ]
    if tally.classes is None:
        return [*told, f"agreement with the undisturbed photograph, {_number(tally)}"]
    undisturbed = tally.count(UNDISTURBED) / tally.images
    return [*told, f"accuracy, {_number(tally)}; undisturbed {undisturbed:.0%}"]


def show(tally: Tally) -> None:
    """A row for each corruption, a column for each strength."""
    table = Table()
    table.add_column("Corruption", no_wrap=True)
    table.add_column("Strengths", overflow="fold")
    strengths = list(dict.fromkeys(one.strength for one in tally.variants if one.corruption))
    for strength in strengths:
        table.add_column(str(strength), justify="right", no_wrap=True)
    table.add_column("Mean", justify="right", no_wrap=True)
    for name in tally.corruptions:
        variants = tally.of(name)
        levels = ", ".join(f"{one.level:g}" for one in variants)
        shares = [tally.count(one) / tally.images for one in variants]
        cells = [f"{share:.0%}" for share in (*shares, sum(shares) / len(shares))]
        table.add_row(name, f"{CORRUPTIONS[name].unit}: {levels}", *cells)
    low, high = interval(tally.images / 2, tally.images)
    note = f"At {_number(tally)}, 50% has a 95% interval of {low:.0%} to {high:.0%}."
    show_table(titles(tally), table, note)


def rows(tally: Tally) -> Iterator[dict[str, Any]]:
    """An object for each strength of each corruption; the first, of strength 0, is undisturbed."""
    model, version, weights = next(reversed(tally.answered_by))
    for variant in tally.variants:
        name = variant.corruption
        labelled = tally.classes is not None
        yield {
            "model": model,
            "version": version,
            "weights": weights,
            "corruption": name,
            "strength": variant.strength,
            "level": variant.level,
            "unit": CORRUPTIONS[name].unit if name else None,
            "images": tally.images,
            "agreeing": tally.agreeing[variant],
            "agreement": round(tally.agreeing[variant] / tally.images, 4),
            "correct": tally.correct[variant] if labelled else None,
            "accuracy": round(tally.correct[variant] / tally.images, 4) if labelled else None,
        }


def _number(tally: Tally) -> str:
    return f"{tally.images:,} photograph{'' if tally.images == 1 else 's'}"
