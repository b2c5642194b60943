"""The pages hang together: links and anchors lead somewhere, every page is of one kind and in the site."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.documented import ROOT

DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "client/README.md", "server/README.md")),
    *sorted(DOCS.rglob("*.md")),
]
KINDS = {"start", "how-to", "reference", "why", "decisions"}
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s#]*)(?:#([^)\s]+))?\)")
NO_TEXT = {".binpb", ".png", ".safetensors", ".onnx", ".jpg"}
# What a page of docs/ is called elsewhere: `docs/how-to/client.md`, `docs/decisions/0005`.
NAMED = re.compile(r"(?<![\w/.-])docs/[\w/.-]*\w")
THEIRS = {  # pages of other projects, whose facts we name
    *("docs/config.md", "docs/examples", "docs/readme.md", "docs/user_guide/metrics.md"),
}


def slug(heading):
    """The anchor of a heading, as GitHub makes it."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\s-]", "", text).replace(" ", "-")


def anchors(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)} | set(
        re.findall(r'<a id="(\w+)">', text)
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_anchors_lead_somewhere(page):
    dead = []
    for target, anchor in LINK.findall(page.read_text()):
        file = (page.parent / target).resolve() if target else page
        # A folder has a page on GitHub, and none in the site.
        if not file.is_file() or (anchor and anchor not in anchors(file)):
            dead.append(f"{target}#{anchor}")
    assert dead == []


def tables(page):
    """Runs of rows, each with the line before it; code blocks are none."""
    before, table, inside = "", [], False
    for line in [*page.read_text().splitlines(), ""]:
        inside ^= line.lstrip().startswith("```")
        if line.lstrip().startswith("|") and not inside:
            table.append(line.strip())
            continue
        if table:
            yield before, table
        before, table = line, []


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_every_row_belongs_to_a_table(page):
    """As both GitHub and the site read them: a blank line, a header, a rule, and rows of as many cells."""
    for before, table in tables(page):
        assert before.strip() == "", table[0]
        assert len(table) > 1, table[0]
        assert re.fullmatch(r"\|(\s*:?-+:?\s*\|)+", table[1]), table[0]
        for row in table:
            assert len(re.findall(r"(?<!\\)\|", row)) == table[1].count("|"), row


def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("there is no git to list files with")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_every_page_that_is_named_anywhere_exists():
    """In code, help, messages, configs and pages; the number of a decision is name enough."""
    dead, seen = [], 0
    for file in tracked():
        skipped = file.suffix in NO_TEXT or "results" in file.parts or file.name == "others.json"
        if skipped or not file.is_file():
            continue
        for name in NAMED.findall(file.read_text()):
            seen += 1
            there = name in THEIRS or (ROOT / name).exists() or list(ROOT.glob(f"{name}-*.md"))
            if not there:
                dead.append(f"{file.relative_to(ROOT)}: {name}")
    assert dead == []
    assert seen > 100


def site():
    """mkdocs.yml; its tags for Python names are read as text."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)
    return yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)


def in_the_menu(entries):
    for entry in entries:
        for target in entry.values() if isinstance(entry, dict) else [entry]:
            yield from in_the_menu(target) if isinstance(target, list) else [target]


def test_every_page_is_of_one_kind_and_in_the_menu():
    pages = {page.relative_to(DOCS) for page in DOCS.rglob("*.md")}
    assert {page.parts[0] for page in pages if len(page.parts) > 1} == KINDS
    menu = list(in_the_menu(site()["nav"]))
    notes = {page for page in pages if re.match(r"decisions/\d", str(page))}
    assert sorted(map(Path, menu)) == sorted(pages - notes)
    front = {Path(target) for target, _ in LINK.findall((DOCS / "README.md").read_text())}
    assert sorted(pages - notes - front) == [Path("README.md")]


def test_every_decision_is_listed():
    listed = (DOCS / "decisions" / "README.md").read_text()
    notes = sorted(page.name for page in (DOCS / "decisions").glob("[0-9]*.md"))
    assert [note for note in notes if f"({note})" not in listed] == []


def test_the_threat_model_names_tests_that_exist():
    text = (ROOT / "docs/reference/threat-model.md").read_text()
    short = {
        "gateway": "tests/server/operations/gateway",
        "rules": "tests/server/operations/gateway/rules",
        "control": "tests/server/operations/control",
        "trust": "tests/server/environment/trust",
    }
    named = re.findall(r"`(rules|gateway|trust|control|tests)/([\w/.]+)`", text)
    assert len(named) > 20
    for folder, path in named:
        assert (ROOT / short.get(folder, folder) / path).exists(), f"{folder}/{path}"
