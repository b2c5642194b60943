"""Raw results: one JSON file a measurement, with everything beside it that is needed to judge or repeat it.

Measuring writes these files; reports only read them.
"""

import hashlib
import json
import os
import re
from datetime import datetime, timezone
from pathlib import Path

from perf.machine import describe
from server import config_path

__all__ = ["OUT", "RawError", "load", "model_facts", "output_path", "record", "save"]

OUT = Path("perf/out")  # git-ignored


class RawError(ValueError):
    """A file is no raw result, or one of another kind; the message names it."""


def record(kind: str, **content) -> dict:
    """A raw result of a kind ("run", "compare", ...): `content`, the time (UTC) and the machine."""
    taken = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"kind": kind, "taken": taken, "machine": describe(), **content}


def model_facts(repository: Path, model: str) -> dict:
    """What is served: its config as text, the newest version, and the SHA-256 of each of its files."""
    folder = Path(repository) / model
    versions = sorted(int(path.name) for path in folder.glob("[0-9]*") if re.fullmatch(r"\d+", path.name))
    files = sorted((folder / str(versions[-1])).iterdir()) if versions else []
    return {
        "name": model,
        "config_pbtxt": config_path(repository, model).read_text(),
        "version": versions[-1] if versions else None,
        "sha256": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()
        },
    }


def save(path: Path, raw: dict) -> None:
    """Write a raw result. Raises `RawError` if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(raw, indent=1) + "\n")
    except OSError as error:
        raise RawError(f"{path} cannot be written: {error.strerror}; choose another with --output") from None


def output_path(asked: Path | None, name: str) -> Path:
    """Where a raw result goes: `asked`, or a new file in perf/out. Raises `RawError` if it could not.

    Ask before measuring: minutes of it should not end in a full or foreign folder.
    """
    path = asked or OUT / f"{name}-{datetime.now(timezone.utc):%Y%m%dT%H%M%S}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RawError(f"{path.parent} cannot be made: {error.strerror}") from None
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise RawError(f"{path} cannot be written; choose another with --output")
    return path


def load(path: Path, kind: str | None = None) -> dict:
    """The raw result in a file. Raises `RawError` if it cannot be read or is of another kind."""
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RawError(f"{path} is no raw result: {error}") from None
    if not isinstance(raw, dict) or (kind and raw.get("kind") != kind):
        found = raw.get("kind") if isinstance(raw, dict) else None
        raise RawError(f"{path} is of kind {found!r}, not {kind!r}")
    return raw
