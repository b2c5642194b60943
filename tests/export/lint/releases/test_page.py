"""The page of releases has the facts of the lock, of each release."""

import json

import pytest

from export.common import release
from export.lint.releases import advisories, page
from export.lint.releases.page import PAGE, table, written
from tests.conftest import ROOT


def test_the_page_is_that_of_the_lock():
    text = PAGE.read_text(encoding="utf-8")
    assert text == written(text), "run `python -m export releases --page`"


@pytest.mark.parametrize("name", release.RELEASES)
@pytest.mark.parametrize("fact", ["onnx_opset", "driver", "client_shared_memory", "tensorrt", "onnxruntime"])
def test_a_planted_fact_makes_the_page_another(name, fact, monkeypatch):
    each = release.RELEASES[name]
    wrong = release.Fact("planted", each.facts[fact].confirmed, each.facts[fact].source)
    planted = release.Release(name, {**each.facts, fact: wrong})
    monkeypatch.setattr(page, "RELEASES", {**release.RELEASES, name: planted})
    text = PAGE.read_text(encoding="utf-8")
    assert "planted" in table()
    assert text != written(text)


def test_the_counts_of_vulnerabilities_on_the_pages_are_those_of_the_table():
    rows = json.loads(advisories.TABLE.read_text())["advisories"]
    counts = {name: sum(row["fixed"] > name for row in rows) for name in release.RELEASES}
    said = " ".join(PAGE.read_text().split())
    assert f"24.10 has {counts['24.10']}, 25.10 has {counts['25.10']}, 26.08 none" in said
    assert counts["26.08"] == 0
    assert f"{counts['24.10']} CVEs have been fixed" in " ".join(
        (ROOT / "docs" / "reference" / "security.md").read_text().split()
    )
