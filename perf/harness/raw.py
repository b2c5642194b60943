"""Raw results: one JSON file for each measurement, with all that is needed to judge or repeat it.

Measuring writes these files; reports only read them. Both do it here, so that what is written is read:

    {"format": 1, "kind": "run", "taken": "2026-01-31T12:00:00+00:00", "machine": {...}, ...}

`format` is the version of that, and of what each kind holds beside it: who changes the meaning of a key, or
takes one away, raises `FORMAT`. Files of another version are named and left out, never guessed at.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypedDict

from perf.harness.errors import PerfError
from perf.harness.machine import describe
from server import config_path
from server.environment.repository import config_text

__all__ = [
    "FORMAT",
    "OUT",
    "RESULTS",
    "ModelFacts",
    "RawError",
    "RawResult",
    "check_output",
    "load",
    "model_facts",
    "output_path",
    "reading",
    "record",
    "save",
]

FORMAT = 1
OUT = Path("perf/out")  # git-ignored
RESULTS = Path(__file__).parents[1] / "results"  # committed
WIDTH = 110  # characters of a line in a file; a list of numbers has one line of any length


class RawError(ValueError):
    """A file is not a raw result, or one of another version or kind; the message names it."""


class ModelFacts(TypedDict):
    """What is served.

    config_pbtxt  as text; "" where there is none, and Triton completes the config from the files
    version       the newest, which is served; None if it is not known
    sha256        {file: hash} of that version's files
    """

    name: str
    config_pbtxt: str
    version: int | None
    sha256: dict[str, str]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass
class RawResult:
    """One measurement.

    kind     of measurement: "run", "compare", ...; a module of that name in perf/report/kinds draws it
    content  what was measured, by names that belong to the kind; JSON values only
    taken    when, UTC, ISO 8601
    machine  on what: names to values, for people
    """

    kind: str
    content: dict[str, Any]
    taken: str = field(default_factory=_now)
    machine: dict[str, str] = field(default_factory=describe)

    def __getitem__(self, name: str) -> Any:
        return self.content[name]

    def as_json(self) -> dict[str, Any]:
        """As it is written; `of_json` reads it again."""
        about = {"format": FORMAT, "kind": self.kind, "taken": self.taken, "machine": self.machine}
        return {**about, **self.content}

    @classmethod
    def of_json(cls, written: object) -> "RawResult":
        """Raises `RawError` if that is not a raw result, or one of another version."""
        if not isinstance(written, dict):
            raise RawError(f"is not a raw result: it holds {type(written).__name__}, not an object")
        content = dict(written)
        kind, taken = content.pop("kind", None), content.pop("taken", "")
        version, machine = content.pop("format", None), content.pop("machine", {})
        if not isinstance(kind, str):
            raise RawError("is not a raw result: it names no kind")
        if version != FORMAT:
            told = "before formats had numbers" if version is None else f"format {version!r}"
            raise RawError(f"is of another version, {told}; format {FORMAT} is read here. Measure again")
        if not isinstance(machine, dict) or not isinstance(taken, str):
            raise RawError("is not a raw result: its machine is not an object, or its date no text")
        return cls(kind, content, taken, machine)


def record(kind: str, **content: Any) -> RawResult:
    """A raw result that was taken now, on this machine."""
    return RawResult(kind, content)


def model_facts(repository: Path, model: str) -> ModelFacts:
    """Of a model in a repository: its config, the newest version, and the SHA-256 of each of its files."""
    folder = Path(repository) / model
    versions = sorted(int(path.name) for path in folder.glob("[0-9]*") if re.fullmatch(r"\d+", path.name))
    files = sorted((folder / str(versions[-1])).iterdir()) if versions else []
    return {
        "name": model,
        "config_pbtxt": config_text(config) if (config := config_path(repository, model)).is_file() else "",
        "version": versions[-1] if versions else None,
        "sha256": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()
        },
    }


def save(path: Path, raw: RawResult) -> None:
    """Write a raw result. Raises `RawError` if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = json.loads(json.dumps(raw.as_json()))  # as it will be read: keys are text, tuples are lists
        path.write_text(_text(whole) + "\n")
    except OSError as error:
        raise RawError(f"{path} cannot be written: {error.strerror}; choose another with --output") from None


def _text(value: object, indentation: str = "") -> str:
    """JSON in lines that people can read: what is short, and a list without parts, has one."""
    whole = json.dumps(value)
    if not isinstance(value, (dict, list)) or len(indentation + whole) <= WIDTH:
        return whole
    inner = indentation + " "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {_text(part, inner)}" for key, part in value.items()]
    elif any(isinstance(part, (dict, list)) for part in value):
        parts = [_text(part, inner) for part in value]
    else:
        return whole
    brackets = "{}" if isinstance(value, dict) else "[]"
    lines = ",\n".join(inner + part for part in parts)
    return f"{brackets[0]}\n{lines}\n{indentation}{brackets[1]}"


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


def check_output(asked: Path | None) -> None:
    """As `output_path`, where a result is kept only if a file is named. Raises `RawError`."""
    if asked:
        output_path(asked, "")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Around what reads the contents of a raw result that `load` has loaded.

    The file may be anyone's, or damaged: whatever goes wrong is its fault, and raised as a `RawError` that
    names it.
    """
    try:
        yield
    except (PerfError, RawError, OSError):
        raise
    except Exception as error:
        raise RawError(f"{path} has not what belongs there ({error!r}); measure again") from None


def load(path: Path, kind: str | None = None) -> RawResult:
    """The raw result in a file. Raises `RawError` if it cannot be read, or is of another version or kind."""
    try:
        written = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise RawError(f"{path} is not a raw result: {error}") from None
    try:
        raw = RawResult.of_json(written)
    except RawError as error:
        raise RawError(f"{path} {error}") from None
    if kind and raw.kind != kind:
        raise RawError(f"{path} is of kind {raw.kind!r}, not {kind!r}")
    return raw
