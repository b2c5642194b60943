"""The facts of the release that is looked at: `release.json`, the lock of the project, read.

Of a container's server, the release that it says it is; of pip's, the one that the wheel holds.
"""

import json
import os
from pathlib import Path
from typing import Any

from .report import Facts

__all__ = ["LOCK", "facts_here", "facts_of", "releases"]

LOCK = Path(__file__).resolve().parents[2] / "release.json"  # a copy of the one at the root


def facts_here() -> Facts:
    """Of the tritonserver of this machine; where the lock does not know it, of the container's default."""
    version = os.environ.get("TRITON_SERVER_VERSION")  # set by NVIDIA's image
    lock = _lock()
    if version is None:
        return facts_of(lock["pip_release"]["value"])
    named = [name for name, facts in lock["releases"].items() if facts["triton"]["value"] == version]
    return facts_of(named[0] if named else lock["container_release"]["value"])


def facts_of(name: str) -> Facts:
    """By name, the facts of one release and those that are of none; its own name is "release"."""
    lock = _lock()
    shared = {key: fact for key, fact in lock.items() if key != "releases"}
    container = lock["releases"][lock["container_release"]["value"]]
    return {
        **shared,
        "container_image": container["image"],
        "newest_image": list(lock["releases"].values())[-1]["image"],
        **lock["releases"][name],
        "release": {"value": name},
    }


def releases() -> dict[str, Facts]:
    """Every release of the lock, oldest first."""
    return {name: facts_of(name) for name in _lock()["releases"]}


def _lock() -> dict[str, Any]:
    return dict(json.loads(LOCK.read_text(encoding="utf-8")))
