"""How each kind of raw result is drawn: a module of that name with `section(raw) -> Section`."""

import importlib
from dataclasses import replace
from pathlib import Path

from perf.harness.raw import RawResult, reading
from perf.report.content import Section

__all__ = ["KINDS", "section"]

KINDS = (
    *("run", "waterfall", "batching", "cost", "throughput"),
    *("compare", "tune", "capacity", "decoders", "precision", "explanations"),
)


def section(path: Path, raw: RawResult) -> Section:
    """The section of a raw result. Raises `RawError` if its kind is known but something is missing in it."""
    if raw.kind not in KINDS:
        made = Section(
            raw.kind if raw.kind == path.stem else f"{raw.kind}: {path.stem}",
            summary="There are no figures of this kind.",
        )
    else:
        module = importlib.import_module(f"perf.report.kinds.{raw.kind}")
        with reading(path):
            made = module.section(raw)
    return replace(made, name=path.stem, raw=raw)
