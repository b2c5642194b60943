"""Raw results: read as they were written; what is of another version or kind is named."""

import json

import pytest

from perf.cli import main
from perf.harness import raw
from perf.harness.raw import RawError, output_path


def test_raw_results_of_another_kind_are_refused(tmp_path):
    raw.save(tmp_path / "a.json", raw.record("run", levels=[]))
    assert raw.load(tmp_path / "a.json", "run").machine["cores"]
    with pytest.raises(raw.RawError, match=r"a\.json is of kind 'run', not 'compare'"):
        raw.load(tmp_path / "a.json", "compare")
    (tmp_path / "b.json").write_text("no JSON")
    with pytest.raises(raw.RawError, match=r"b\.json is not a raw result"):
        raw.load(tmp_path / "b.json")


def test_raw_results_are_read_as_they_were_written(tmp_path):
    levels = [{"p50_ms": 1.5, "windows": [[1.0, 2.0]] * 30, "words": 'a\n"b"'}]
    one = raw.record("run", levels=levels, failed=[], empty={}, note=None)
    raw.save(tmp_path / "a.json", one)
    assert raw.load(tmp_path / "a.json") == one
    raw.save(tmp_path / "b.json", raw.record("run", by_batch={n: (n, n) for n in range(50)}))
    assert raw.load(tmp_path / "b.json")["by_batch"] == {str(n): [n, n] for n in range(50)}
    written = (tmp_path / "a.json").read_text()
    assert json.loads(written)["format"] == raw.FORMAT
    assert max(map(len, written.splitlines())) < 200


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"format": raw.FORMAT + 1}, f"of another version, format {raw.FORMAT + 1}; format {raw.FORMAT} is"),
        ({"format": None}, "of another version, before formats had numbers; .* Measure again"),
        ({"kind": None}, "names no kind"),
        ({"machine": ["fast"]}, "its machine is not an object"),
    ],
)
def test_raw_results_of_another_version_are_named(tmp_path, changed, told):
    file = tmp_path / "a.json"
    file.write_text(json.dumps({**raw.record("run", levels=[]).as_json(), **changed}))
    with pytest.raises(raw.RawError, match=rf"a\.json is .*{told}"):
        raw.load(file)


def test_results_that_could_not_be_written_are_told_before_measuring(tmp_path):
    with pytest.raises(RawError, match="cannot be"):
        output_path(tmp_path, "run")
    (tmp_path / "file").touch()
    with pytest.raises(RawError, match="cannot be made"):
        output_path(tmp_path / "file" / "raw.json", "run")


MEASURING = ("throughput", "kills", "precision", "streaming", "decoders", "run", "batching", "waterfall")


@pytest.mark.parametrize("command", [*MEASURING, "cost", "explanations", "gateway", "all", "inputs"])
def test_where_results_cannot_go_is_told_before_anything_is_measured(command, tmp_path, monkeypatch, capsys):
    """A file stands where a folder has to be: nothing can be written below it, by whomever."""
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("server.TritonServer.__enter__", lambda self: pytest.fail("a server was started"))
    model = {"precision": ["efficientnet_lite0", "int8"], "run": ["text_stream"], "inputs": ["text_stream"]}
    output = str(tmp_path / "file" / "x" / "raw.json")
    assert main([command, *model.get(command, []), "--output", output]) == 1
    error = capsys.readouterr().err
    assert "file" in error
    assert "Traceback" not in error
