"""Lints the repositories of others and prints what it found: `python -m tests.lint_corpus`."""

import tempfile
from collections import Counter
from pathlib import Path

from export.common.release import PIP
from export.lint import lint
from tests.lint_corpus.others import OTHERS, files
from tests.lint_corpus.parts import write


def main() -> None:
    found: Counter[tuple[str, str]] = Counter()
    for repository, models in OTHERS.items():
        with tempfile.TemporaryDirectory() as folder:
            for finding in lint(write(Path(folder), files(models)), releases=[PIP]):
                found[finding.severity, finding.code] += 1
                if finding.severity == "error":
                    print(f"{repository}: {finding.model}: {finding.code} {finding.message}")
    configs = sum(len(models) for models in OTHERS.values())
    counted = Counter({"error": 0, "warning": 0, "note": 0})
    for (severity, _), number in found.items():
        counted[severity] += number
    rules = ", ".join(f"{code} {number}" for (_, code), number in sorted(found.items()))
    print(
        f"{configs} configs of {len(OTHERS)} repositories: {counted['error']} errors, "
        f"{counted['warning']} warnings, {counted['note']} notes ({rules})"
    )


if __name__ == "__main__":
    main()
