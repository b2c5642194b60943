"""Raw results: one JSON file a measurement, with everything beside it that is needed to judge or repeat it.

Measuring writes these files; reports only read them.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from perf.harness.errors import PerfError
from perf.harness.machine import describe
from server import config_path

__all__ = ["OUT", "RawError", "load", "model_facts", "output_path", "reading", "record", "save"]

OUT = Path("perf/out")  # git-ignored


class RawError(ValueError):
    """A file is no raw result, or one of another kind; the message names it."""


def record(kind: str, **content) -> dict:
    """A raw result of a kind ("run", "compare", ...): `content`, the time (UTC) and the machine."""
    taken = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"kind": kind, "taken": taken, "machine": describe(), **content}


def model_facts(repository: Path, model: str) -> dict:
    """What is served: its config as text, the newest version, and the SHA-256 of each of its files.

    The text is "" where there is none, and Triton completes the config from the files.
    """
    folder = Path(repository) / model
    versions = sorted(int(path.name) for path in folder.glob("[0-9]*") if re.fullmatch(r"\d+", path.name))
    files = sorted((folder / str(versions[-1])).iterdir()) if versions else []
    return {
        "name": model,
        "config_pbtxt": config.read_text() if (config := config_path(repository, model)).is_file() else "",
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


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Around what reads the contents of a raw result that `load` has loaded.

    The file may be anyone's, of another version, or cut: whatever goes wrong is its fault, and raised as a
    `RawError` that names it.
    """
    try:
        yield
    except (PerfError, RawError, OSError):
        raise
    except Exception as error:
        raise RawError(f"{path} has not what belongs there ({error!r}); measure again") from None


def load(path: Path, kind: str | None = None) -> dict:
    """The raw result in a file. Raises `RawError` if it cannot be read or is of another kind."""
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise RawError(f"{path} is no raw result: {error}") from None
    if not isinstance(raw, dict):
        raise RawError(f"{path} is no raw result: it holds {type(raw).__name__}, not an object")
    if kind and raw.get("kind") != kind:
        raise RawError(f"{path} is of kind {raw.get('kind')!r}, not {kind!r}")
    return raw
