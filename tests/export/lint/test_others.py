"""Configs that others run give no error for pip Triton's release, which still has their backends; and what is
found in them is what docs/why/evidence.md says."""

import re
from collections import Counter
from pathlib import Path

import pytest

from export.common.release import PIP
from export.lint import lint
from tests.lint_corpus.one_worker import one_worker  # noqa: F401 (autouse)
from tests.lint_corpus.others import OTHERS, files
from tests.lint_corpus.parts import write

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "why" / "evidence.md").read_text()
ENOUGH = 100


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Findings of every repository, by its name."""
    return {
        repository: lint(write(tmp_path_factory.mktemp("others"), files(models)), releases=[PIP])
        for repository, models in OTHERS.items()
    }


@pytest.mark.parametrize("repository", OTHERS)
def test_what_others_run_has_no_error(found, repository):
    errors = [
        f"{finding.model}: {finding.code} {finding.message}"
        for finding in found[repository]
        if finding.severity == "error"
    ]
    assert not errors


def test_there_are_enough_of_them_and_the_page_says_how_many(found):
    configs = sum(len(models) for models in OTHERS.values())
    counted = Counter(finding.severity for findings in found.values() for finding in findings)
    line = (
        f"{configs} configs of {len(OTHERS)} repositories: {counted['error']} errors, "
        f"{counted['warning']} warnings, {counted['note']} notes"
    )
    print(line)
    assert configs >= ENOUGH
    assert line in re.sub(r"\s+", " ", PAGE)


def test_a_fault_among_them_is_found(tmp_path):
    """Else the test above could not fail."""
    models = {
        repository: {
            name: {**row, "input": [[entry[0], entry[1], [0]] for entry in row["input"]]}
            for name, row in rows.items()
            if "input" in row and "steps" not in row
        }
        for repository, rows in OTHERS.items()
    }
    for index, rows in enumerate(models.values()):
        findings = lint(write(tmp_path / str(index), files(rows))) if rows else []
        assert {finding.model for finding in findings if finding.code == "TV209"} == set(rows)
