"""Reports: every kind that is measured is drawn, numbers beside figures, and README's table is not stale."""

import argparse
import json
import re
import subprocess
import sys

import pytest

from perf.benchmarks.run import add_arguments
from perf.cli import main
from perf.harness.load import BREAKDOWN
from perf.harness.raw import RawError, load, record, save
from perf.report import report
from perf.report.content import Table
from perf.report.kinds import KINDS
from perf.report.kinds import section as section_of
from perf.report.page import table
from perf.report.readme import END, START, readme_table, rewritten
from perf.report.style import svg
from perf.tuning.decision import Objective
from perf.tuning.policy import Policy
from perf.tuning.tuner import Outcome, content
from tests.conftest import ROOT

COMMITTED = sorted((ROOT / "perf" / "results").glob("*.json"))
MODEL = {"name": "cnn", "config_pbtxt": 'name: "cnn"', "version": 1, "sha256": {"model.onnx": "0" * 64}}


def level(concurrency=1, throughput=100.0, transport="grpc", **values):
    return {
        "round": 1,
        "transport": transport,
        "concurrency": concurrency,
        "request_rate": None,
        "distribution": None,
        "throughput": throughput,
        **{f"p{p}_ms": p / 10 for p in (50, 90, 95, 99)},
        "breakdown_us": dict.fromkeys(BREAKDOWN, 100.0),
        "windows": [[throughput, 5000.0]],
        "stable": True,
        "models": {"cnn": {"inferences": 300, "executions": 100, "infer_us": 100.0}},
        **values,
    }


def run_of(levels, **values):
    inputs = {"content": "photographs", "real": True, "items": 2, "sequences": None}
    facts = {"title": "A <title>", "model": MODEL, "composing": [], "triton": "2.51.0", "inputs": inputs}
    return record("run", **{**facts, "levels": levels, "failed": [], **values})


def raws():
    """One raw result of each kind that this folder of the project measures itself."""
    row = {"round": 1, "sent": "pixels", "p50_ms": 5.0, "p99_ms": 6.0}
    cost = [
        {"round": 1, "x": x, "in_process_ms": x, "served_ms": x + 1, "compute_ms": x, "stable": True}
        for x in (1, 2)
    ]
    rate = {"request_rate": 50.0, "distribution": "poisson"}
    both = {"with": level(), "without": level(throughput=40.0)}
    one = {"in_process": 200.0, "throughput": 180.0, "p50_ms": 1.0, "p99_ms": 2.0}
    return {
        "run": run_of([level(), level(8, 400.0), level(1, 90.0, "http")]),
        "run-rate": run_of([level(None, 50.0, **rate)]),
        "waterfall": record(
            "waterfall",
            model=MODEL,
            rows=[
                {**row, "way": "in-process", "stages_ms": {"infer": 5.0}},
                {**row, "way": "grpc", "stages_ms": {"network": 0.5, "infer": 5.0}},
            ],
        ),
        "batching": record("batching", model=MODEL, rounds=[both, both], concurrency=32, transport="grpc"),
        "cost": record(
            "cost",
            model=MODEL,
            curves=[
                {"name": "batch", "title": "Batches", "unit": "photographs", "model": "cnn", "rows": cost}
            ],
        ),
        "throughput": record(
            "throughput",
            model=MODEL,
            shared_memory=False,
            concurrency=8,
            sessions=2,
            threads=1,
            in_process_batch=4,
            rounds=[one, one],
        ),
        "tune": tuned(),
        "compare": compared(),
        "capacity": record(
            "capacity",
            model=MODEL,
            peak=340.0,
            comparison=[
                {
                    "share": 0.4,
                    "rate": 135.0,
                    **{key: compared_figure(10.0, 11.0) for key in ("throughput", "p50_ms", "p99_ms")},
                },
                {
                    **{"share": None, "rate": None, "concurrency": 12},
                    **{key: compared_figure(10.0, 11.0) for key in ("throughput", "p50_ms", "p99_ms")},
                },
            ],
        ),
        "precision": record(
            "precision",
            models=[MODEL, {**MODEL, "name": "cnn_int8"}],
            in_process={"1": [[100.0, 220.0], [110.0, 220.0]]},
            concurrency=8,
            served=[[level(), level(throughput=180.0)]],
        ),
        "decoders": record(
            "decoders",
            rounds=5,
            left_out={"libvips": "not installed"},
            rows=[
                {
                    **{"kind": "photographs", "decoder": "Pillow", "images": 22, "ms": 4.0},
                    **{"speed_to_served": 1.0, "max": 1, "beyond_1": 0.0, "same_top_1": 22},
                }
            ],
        ),
        "surprise": record("surprise", anything=1),
    }


def tuned():
    """As `perf tune` keeps it, with one policy tried."""
    outcome = content(Outcome(Policy(threads=1)))
    policy = outcome["current"]
    trial = {"stage": "current", "policy": policy, "levels": [level()], "error": "", "dropped": "far behind"}
    objective = vars(Objective("throughput", 60.0, None))
    return record("tune", model=MODEL, objective=objective, **{**outcome, "trials": [trial]})


def compared():
    """As `perf compare` keeps it: one job, ours and a peer, and one that failed."""

    def levels(rate):
        return {"levels": {c: {"rate": rate, "p99_ms": 20.0} for c in ("1", "8")}}

    limits = ("one loop, 1 thread", "one loop, 2 threads", "two processes")
    found = {
        "in_process": {name: {"rate": 100.0, "p99_ms": 17.0} for name in limits},
        "servers": {
            "triton-vision 2x1": levels(90.0),
            "FastAPI 2x1": levels(60.0),
            "Ray 2x1": {"error": "no"},
        },
    }
    one = {"job": "jpeg", "not_installable": {"bentoml": "tried\nno wheel"}, "rounds": [found]}
    return record("compare", runs=[one])


def compared_figure(measured, predicted):
    return {
        "measured": measured,
        "measured_spread": [measured - 1, measured + 1],
        "predicted": predicted,
        "error_percent": 10.0,
    }


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


def test_every_kind_is_drawn_and_unknown_ones_are_listed(drawn):
    page, sections = drawn
    text = page.read_text()
    assert set(KINDS) <= {section.raw.kind for section in sections}
    for section in sections:
        assert bool(section.figures) is (section.raw.kind in KINDS)
        for figure in section.figures:
            picture = page.parent / f"{section.name}-{figure.name}.png"
            assert picture.read_bytes().startswith(b"\x89PNG")
    assert "surprise: surprise" in text
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


def test_the_command_fails_if_what_was_named_cannot_be_drawn(with_broken, monkeypatch, capsys):
    monkeypatch.chdir(with_broken)
    assert main(["report", "sound.json", "a list.json"]) == 1
    assert "1 results" in capsys.readouterr().err
    assert main(["report", "sound.json"]) == 0
    capsys.readouterr()
    assert main(["report", "a list.json"]) == 1
    assert "error: none of these files can be drawn" in capsys.readouterr().err


@pytest.mark.parametrize(
    "path", sorted((ROOT / "perf" / "results").glob("*.json")), ids=lambda path: path.stem
)
def test_every_committed_result_has_what_its_kind_needs(path):
    made = section_of(path, load(path))
    for figure in made.figures:
        svg(figure, figure.name)


def test_readmes_table_skips_them_too(with_broken, capsys):
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


def test_readmes_table_is_made_from_the_committed_results():
    command = [sys.executable, "-m", "perf", "report", "--readme", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_readmes_table_follows_the_results(tmp_path):
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
    with pytest.raises(RawError, match="holds nothing for README"):
        readme_table(tmp_path / "empty")


def test_the_command_tells_where_the_page_is(tmp_path):
    save(tmp_path / "run.json", raws()["run"])
    command = [sys.executable, "-m", "perf", "report", str(tmp_path / "run.json"), f"--output={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}/index.html: 1 results, 3 figures" in done.stderr
    assert json.loads((tmp_path / "run.json").read_text())["kind"] == "run"


def test_every_option_of_runs_is_explained():
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    page = (ROOT / "docs" / "perf.md").read_text()
    options = [option for action in parser._actions for option in action.option_strings]
    assert "--concurrency" in options
    assert [option for option in options if f"`{option}" not in page] == []
