"""perf_analyzer is found, and says why it does not run or cannot measure."""

import pytest

from perf.harness.generators import analyzer


def test_an_analyzer_that_does_not_run_is_reported_with_the_loaders_words(tmp_path, monkeypatch):
    broken = tmp_path / "perf_analyzer"
    broken.write_text("#!/bin/sh\necho 'libb64.so.0d: cannot open' >&2\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setattr(analyzer.shutil, "which", lambda _: str(broken))
    monkeypatch.setattr(analyzer, "extract", lambda *_: broken)
    with pytest.raises(analyzer.AnalyzerError, match=r"libb64\.so\.0d: cannot open.*apt-get install"):
        analyzer.find_analyzer()


def test_libraries_that_others_may_be_loading_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path))
    links = [
        {path.name: path.lstat().st_mtime_ns for path in analyzer._library_folder().iterdir()}
        for _ in range(2)
    ]
    assert links[0].keys() == analyzer.RENAMED_LIBRARIES.keys()
    assert links[0] == links[1]


def test_an_analyzer_that_cannot_measure_is_an_error(tmp_path):
    with pytest.raises(analyzer.AnalyzerError, match="ended with status"):
        analyzer.find_analyzer().run(["-m", "nothing", "-u", "127.0.0.1:9"], tmp_path / "report.csv")


def test_a_window_too_short_for_an_answer_says_what_to_give(tmp_path):
    hurried = tmp_path / "perf_analyzer"
    hurried.write_text("#!/bin/sh\necho 'failed to find the requested model version' >&2\nexit 99\n")
    hurried.chmod(0o755)
    with pytest.raises(analyzer.AnalyzerError, match=r"status 99:\n.*\n.*more --seconds"):
        analyzer.Analyzer(hurried, {}).run([], tmp_path / "report.csv")
