"""CER of readers on lines that no training saw: the test families and the test words.

The same lines go to every reader: `SETS` of the kinds "english", "numbers", "portuguese" in both levels.
Results come with the errors per family and per character, which say where to look.
"""

import datetime
import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from training.evaluation.readers import reader_versions
from training.lines.generator import GeneratedLine, LineSource
from training.metrics import character_error_rate, edit_distance

__all__ = ["SETS", "TARGETS", "Score", "evaluate", "report", "score"]

SETS = (
    ("english", "clean"),
    ("english", "degraded"),
    ("numbers", "clean"),
    ("numbers", "degraded"),
    ("portuguese", "clean"),
    ("portuguese", "degraded"),
)
TARGETS = {  # percent, of the project
    "text_recognizer": {
        "english clean": 1.0,
        "english degraded": 2.5,
        "numbers clean": 0.3,
        "portuguese clean": 0.5,
    },
    "text_stream": {"english clean": 2.0},
}
FIRST_LINE = 5_000_000
CHUNK = 50  # lines between two reports of progress
SHOWN = 25  # confusions, and wrong lines, that a score keeps


@dataclass
class Score:
    """One reader on one set. `families` are CERs in percent; `confusions` count (true, read) pieces."""

    set: str
    lines: int
    characters: int
    cer_percent: float
    wrong_lines_percent: float
    families: dict[str, float]
    confusions: dict[str, int]
    examples: list[dict[str, str]] = field(default_factory=list)


def evaluate(
    readers: list[Any], count: int, seed: int, advance: Callable[[str, int], None] = lambda name, done: None
) -> dict[str, list[Score]]:
    """Scores per reader's name, one per set of `count` lines.

    advance: gets the name of a reader, and how many more lines it has read.
    """
    source = LineSource("test", seed)
    scores: dict[str, list[Score]] = {reader.name: [] for reader in readers}
    for number, (kind, level) in enumerate(SETS):
        first = FIRST_LINE + number * 1_000_000
        lines = [source.line(first + i, level, kind) for i in range(count)]
        for reader in readers:
            read = []
            for start in range(0, count, CHUNK):
                read += reader.read(lines[start : start + CHUNK])
                advance(reader.name, len(lines[start : start + CHUNK]))
            scores[reader.name].append(score(f"{kind} {level}", lines, read))
    return scores


def score(name: str, lines: list[GeneratedLine], read: list[str]) -> Score:
    """What a reader made of a set."""
    pairs = list(zip(read, (line.text for line in lines), strict=True))
    by_family: dict[str, list[tuple[str, str]]] = {}
    for line, pair in zip(lines, pairs, strict=True):
        by_family.setdefault(line.face.family, []).append(pair)
    wrong = [
        {"true": line.text, "read": text, "face": line.face.name}
        for line, text in zip(lines, read, strict=True)
        if text != line.text
    ]
    wrong.sort(key=lambda example: -edit_distance(example["read"], example["true"]))
    return Score(
        name,
        len(lines),
        sum(len(line.text) for line in lines),
        round(character_error_rate(pairs), 3),
        round(100 * len(wrong) / len(lines), 2),
        {family: round(character_error_rate(by_family[family]), 3) for family in sorted(by_family)},
        dict(confusions(pairs).most_common(SHOWN)),
        wrong[:SHOWN],
    )


def confusions(pairs: Iterable[tuple[str, str]]) -> Counter[str]:
    """How often which piece was read as which other, as "true>read"; an empty piece is a missing one."""
    counts: Counter[str] = Counter()
    for read, true in pairs:
        for tag, i, j, k, m in SequenceMatcher(None, true, read, autojunk=False).get_opcodes():
            if tag != "equal":
                counts[f"{true[i:j]}>{read[k:m]}"] += 1
    return counts


def report(
    model: str, readers: list[Any], scores: dict[str, list[Score]], count: int, seed: int
) -> dict[str, Any]:
    """All that is worth keeping, as JSON's types: scores, targets, readers, machine, versions, seeds."""
    return {
        "model": model,
        "taken": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "lines_of_each_set": count,
        "seed": seed,
        "targets_cer_percent": TARGETS[model],
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": reader_versions(),
        "readers": {reader.name: reader.version for reader in readers},
        "scores": {name: [vars(one) for one in many] for name, many in scores.items()},
    }


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
