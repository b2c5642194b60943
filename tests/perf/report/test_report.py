"""Reports: every kind that is measured is drawn, numbers beside figures, and no table is stale."""

import argparse
import html
import json
import re
import subprocess
import sys

import pytest

from perf.benchmarks.run import add_arguments
from perf.cli import main
from perf.harness.raw import RawError, record, save
from perf.report import report
from perf.report.content import Table
from perf.report.kinds import KINDS
from perf.report.page import table
from perf.report.readme import END, START, readme_table, rewritten
from tests.conftest import ROOT
from tests.perf.report.made_up import MODEL, level, raws, run_of, tuned

COMMITTED = sorted((ROOT / "perf" / "results").glob("*.json"))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    paths = []
    for name, raw in raws().items():
        paths.append(folder / f"{name}.json")
        save(paths[-1], raw)
    page, sections, skipped = report(paths, folder / "out")
    assert not skipped
    return page, sections


@pytest.mark.slow
def test_every_kind_is_drawn_and_unknown_ones_are_listed(drawn):
    page, sections = drawn
    text = page.read_text()
    assert set(KINDS) <= {section.raw.kind for section in sections}
    for section in sections:
        assert bool(section.figures) is (section.raw.kind in KINDS)
        for figure in section.figures:
            picture = page.parent / f"{section.name}-{figure.name}.png"
            assert picture.read_bytes().startswith(b"\x89PNG")
    in_short, _, below = text.partition("</nav>")
    assert "There are no figures of this kind." not in in_short  # says nothing of what came out
    assert "There are no figures of this kind." in below
    assert "<li>Raw numbers alone: <a" in in_short
    assert text.count("<svg") == sum(len(section.figures) for section in sections)


def test_the_page_loads_nothing_and_escapes_what_it_shows(drawn):
    text = drawn[0].read_text()
    assert not re.search(r'(src|href)="(?!#)', text)
    assert not re.search(r"<(script|link|img|iframe)|@import|url\((?!#)", text)
    assert "A &lt;title&gt;" in text
    assert "A <title>" not in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)


def test_every_section_tells_numbers_machine_and_what_was_served(drawn):
    text = drawn[0].read_text()
    assert "<td class=left>grpc, concurrency 8</td><td>400</td>" in text
    assert "2.50 times" in text  # batching: 100 to 40
    assert "reaches 0.900 of in-process" in text
    assert "far behind" in text
    assert "bentoml could not be installed: no wheel" in text
    assert "<td>1.50</td>" in text  # compare: 90 to 60
    assert "+10.0 %" in text
    assert text.count("cores ") >= len(drawn[1])
    assert "0" * 64 in text


def test_doubts_are_told(tmp_path):
    inputs = {"content": "random values", "real": False, "items": 2, "sequences": None}
    raw = run_of(
        [level(stable=False)], inputs=inputs, failed=[{"level": "http, concurrency 9", "error": "no"}]
    )
    save(tmp_path / "run.json", raw)
    text = report([tmp_path / "run.json"], tmp_path)[0].read_text()
    for doubt in ("Unstable", "The inputs were random", "Not measured: http, concurrency 9"):
        assert doubt in text


def test_tables_escape_and_align():
    assert table(Table("t", ["a"], [["<b>"]])).count("<td class=left>&lt;b&gt;</td>") == 1


BROKEN = {
    "empty": b"",
    "cut short": json.dumps(raws()["run"].as_json()).encode()[:500],
    "no text": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "a list": b"[]",
    "a number": b"1",
    "of an older version": json.dumps(
        {"kind": "precision", "models": [], "images_per_cpu_second": {}}
    ).encode(),
    "of a newer version": json.dumps({**raws()["run"].as_json(), "format": 99}).encode(),
    "with a level that is empty": json.dumps(record("run", title="t", levels=[{}]).as_json()).encode(),
    "with no level": json.dumps(run_of([]).as_json()).encode(),
    "with words for numbers": json.dumps(run_of([level(throughput="fast")]).as_json()).encode(),
    "with nothing for numbers": json.dumps(run_of([level(), level(8, None)]).as_json()).encode(),
    "with a division by nothing": json.dumps(
        record("throughput", model=MODEL, rounds=[{"in_process": 0, "throughput": 1.0}]).as_json()
    ).encode(),
    "with a machine that is a list": json.dumps(
        {**raws()["surprise"].as_json(), "machine": ["fast"]}
    ).encode(),
    "with a model without facts": json.dumps({**raws()["surprise"].as_json(), "model": {"a": 1}}).encode(),
    "a folder": None,
}


@pytest.fixture
def with_broken(tmp_path):
    """A sound raw result among all the broken ones."""
    for name, written in BROKEN.items():
        path = tmp_path / f"{name}.json"
        path.mkdir() if written is None else path.write_bytes(written)
    save(tmp_path / "sound.json", raws()["run"])
    return tmp_path


def test_files_that_are_no_raw_results_are_skipped_and_named(with_broken, capsys):
    paths = sorted(with_broken.glob("*.json"))
    page, sections, skipped = report(paths, with_broken / "out")
    assert [section.name for section in sections] == ["sound"]
    told = capsys.readouterr().err
    for name in BROKEN:
        assert any(f"{name}.json" in why for why in skipped), name
        assert f"skipped: {with_broken / name}.json" in told
        assert f"{name}.json" in page.read_text()
    assert len(list((with_broken / "out").glob("*.png"))) == len(sections[0].figures)


@pytest.mark.slow
def test_the_command_fails_if_what_was_named_cannot_be_drawn(with_broken, monkeypatch, capsys):
    monkeypatch.chdir(with_broken)
    assert main(["report", "sound.json", "a list.json"]) == 1
    assert "1 results" in capsys.readouterr().err
    assert main(["report", "sound.json"]) == 0
    capsys.readouterr()
    assert main(["report", "a list.json"]) == 1
    assert "error: none of these files can be drawn" in capsys.readouterr().err


def test_the_page_begins_with_what_came_out(drawn):
    page, sections = drawn
    top = page.read_text().partition("<section")[0]
    assert "In short" in top
    for section in sections:
        assert html.escape(section.verdict) in top


def test_an_undecided_tuning_says_so_on_top(tmp_path):
    raw = tuned()
    raw.content["undecided"] = "other programs took the cores; tune again"
    save(tmp_path / "tune.json", raw)
    top = report([tmp_path / "tune.json"], tmp_path)[0].read_text().partition("<section")[0]
    assert "Undecided" in top
    assert "(1 caveat)" in top


def test_titles_that_several_results_have_are_told_apart(tmp_path):
    for name in ("poor", "good"):
        save(tmp_path / f"{name}.json", tuned())
    _, sections, _ = report(sorted(tmp_path.glob("*.json")), tmp_path / "out")
    assert [one.title for one in sections] == ["Tuning of cnn (good)", "Tuning of cnn (poor)"]


def test_the_table_of_figures_skips_them_too(with_broken, capsys):
    assert "| A <title> | grpc | 100 (9.90)" in readme_table(with_broken)
    assert f"skipped: {with_broken / 'cut short'}.json" in capsys.readouterr().err


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize(
    "command",
    [
        ["compare", "--show", "FILE"],
        ["compare", "--jobs", "gru", "--peers", "none", "--append", "--output", "FILE"],
        ["capacity", "--from", "FILE"],
    ],
)
def test_other_readers_name_them(command, name, with_broken, capsys):
    written = (BROKEN[name] or b"").replace(b'"kind": "run"', f'"kind": "{command[0]}"'.encode())
    file = with_broken / f"{name}.json"
    if written:
        file.write_bytes(written)
    assert main([word.replace("FILE", str(file)) for word in command]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert str(file) in told


def test_a_page_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    save(tmp_path / "fine.json", record("surprise"))
    with pytest.raises(RawError, match="cannot be written"):
        report([tmp_path / "fine.json"], tmp_path / "file" / "report")


def test_the_table_of_figures_is_made_from_the_committed_results():
    command = [sys.executable, "-m", "perf", "report", "--readme", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_table_of_figures_follows_the_results(tmp_path):
    save(tmp_path / "a.json", run_of([level(), level(8, 400.0), level(8, 90.0, "http")]))
    save(tmp_path / "b.json", raws()["batching"])
    made = readme_table(tmp_path)
    assert "| A <title> | grpc | 100 (9.90) | 400 (9.90) |  |" in made
    assert "`cnn` 2.5 times" in made
    text = rewritten(f"before\n{START}\nold\n{END}\nafter\n", made)
    assert text.startswith(f"before\n{START}\n\n| ")
    assert text.endswith(f"\n\n{END}\nafter\n")
    assert "old" not in text
    assert rewritten(text, made) == text
    with pytest.raises(RawError, match="has no lines"):
        rewritten("nothing", made)
    with pytest.raises(RawError, match="holds nothing for docs"):
        readme_table(tmp_path / "empty")


@pytest.mark.slow
def test_the_command_tells_where_the_page_is(tmp_path):
    save(tmp_path / "run.json", raws()["run"])
    command = [sys.executable, "-m", "perf", "report", str(tmp_path / "run.json"), f"--output={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}/index.html: 1 results, 4 figures" in done.stderr
    assert json.loads((tmp_path / "run.json").read_text())["kind"] == "run"


def test_every_option_of_runs_is_explained():
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    page = (ROOT / "docs" / "reference" / "perf.md").read_text()
    options = [option for action in parser._actions for option in action.option_strings]
    assert "--concurrency" in options
    assert [option for option in options if f"`{option}" not in page] == []
