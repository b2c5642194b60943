"""Which fields and values of a config the release's own schema has: release_fields.json.

The parser is that of the tritonclient that is installed, whose schema may be newer; the release refuses a
config for one field that it does not know. `known` there is model_config.proto of NVIDIA's common repository
at the release's branch, by message and enum; `later` says with which release a field came that it lacks.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from export.common.release import CONTAINER_RELEASE

__all__ = ["TABLE", "came_later", "is_known", "short_name"]

TABLE = Path(__file__).with_name("release_fields.json")


def is_known(kind: str, name: str) -> bool:
    """Has the release this field of a message, or value of an enum? kind: its short name."""
    return name in _known().get(kind, ())


def came_later(kind: str, name: str) -> tuple[str, str] | None:
    """Of a field or value that the release lacks and a later one has: the fault and its remedy, in words."""
    first = _table()["later"].get(f"{kind}.{name}")
    if first is None:
        return None
    return (
        f"{name} came with release {first}; Triton {CONTAINER_RELEASE} knows no such field of a {kind} and "
        "refuses the whole config",
        f"remove it, or serve with {first} or later",
    )


def short_name(descriptor: Any) -> str:
    """Of a message or enum, without its package: ModelSequenceBatching.Control.Kind."""
    return str(descriptor.full_name.partition(".")[2])


@cache
def _table() -> dict[str, Any]:
    return json.loads(TABLE.read_text(encoding="utf-8"))


@cache
def _known() -> dict[str, frozenset[str]]:
    return {kind: frozenset(names.split()) for kind, names in _table()["known"].items()}
