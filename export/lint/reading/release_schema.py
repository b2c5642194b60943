"""What one release has and another lacks: fields and values of a config, and what its backends take.

The parser is that of the tritonclient that is installed, whose schema may be newer; a release refuses a
config for one field that it does not know. release_fields.json: `known` is model_config.proto of NVIDIA's
common repository at the branch of the oldest release, by message and enum; `later` says with which release a
field came that it lacks; `changes` with which release anything else came or went, and what says so.
"""

import json
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["TABLE", "came_with", "has", "is_known", "lacking", "short_name"]

TABLE = Path(__file__).with_name("release_fields.json")


def is_known(kind: str, name: str, release: str) -> bool:
    """Has the release (as in 24.10) this field of a message, or value of an enum? kind: its short name."""
    first = came_with(kind, name)
    return first <= release if first else name in _known().get(kind, ())


def came_with(kind: str, name: str) -> str | None:
    """The first release with a field or value that the oldest of the table lacks; None for any other."""
    first: str | None = _table()["later"].get(f"{kind}.{name}")
    return first


def lacking(change: str, releases: Collection[str]) -> tuple[str, ...]:
    """Of these releases, those that lack what `changes` lists under that name."""
    return tuple(release for release in releases if not has(change, release))


def has(change: str, release: str) -> bool:
    """Is the release one of those, `from` the first and before `until`, that `changes` gives?"""
    entry = _table()["changes"][change]
    return bool(entry.get("from", "") <= release < entry.get("until", "99"))


def short_name(descriptor: Any) -> str:
    """Of a message or enum, without its package: ModelSequenceBatching.Control.Kind."""
    return str(descriptor.full_name.partition(".")[2])


@cache
def _table() -> dict[str, Any]:
    return dict(json.loads(TABLE.read_text(encoding="utf-8")))


@cache
def _known() -> dict[str, frozenset[str]]:
    return {kind: frozenset(names.split()) for kind, names in _table()["known"].items()}
