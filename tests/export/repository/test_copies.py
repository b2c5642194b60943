"""Copies that models hold: written from one place, and held equal by `python -m export --check`."""

import ast
import json
import shutil
from pathlib import Path

import pytest

from export.cli.commands import run
from export.common.errors import PublishError
from export.repository import copies
from export.repository.copies import CODE, DETECTION, SHARED, check_copies, copies_of, write_copies
from export.repository.detection.pipelines import is_detection
from tests.conftest import ROOT


@pytest.fixture
def repository(tmp_path):
    """Ours, without the graphs."""
    ignored = shutil.ignore_patterns("*.onnx", "__pycache__")
    shutil.copytree(ROOT / "model_repository", tmp_path / "models", symlinks=True, ignore=ignored)
    return tmp_path / "models"


def check(repository, *names):
    return run([*names, "--check", "--model-repository", str(repository)])


def test_what_is_committed_needs_no_link_and_differs_nowhere():
    assert not [path for path in (ROOT / "model_repository").rglob("*") if path.is_symlink()]
    assert check(ROOT / "model_repository", *SHARED) == 0


def test_every_import_of_a_model_is_beside_it():
    """One that imports shared code without an entry in SHARED would load in this repository by luck alone."""
    known = {path.stem for path in CODE.rglob("*.py")}
    for folder in (ROOT / "model_repository").iterdir():
        nodes = [node for file in folder.glob("*/*.py") for node in ast.walk(ast.parse(file.read_text()))]
        imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        shared = SHARED.get(folder.name, DETECTION if is_detection(folder) else None)
        assert imported & known == {Path(module).name for module in (shared.modules if shared else ())}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED)
def test_a_changed_a_missing_and_a_linked_copy_are_told_and_mended(repository, name, capsys):
    for copy in copies_of(name, repository):
        text = copy.read_text()
        for damage in (
            lambda copy: copy.write_text(copy.read_text() + "one more\n"),
            lambda copy: copy.unlink(),
            lambda copy: (
                copy.rename(copy.with_suffix(".other")),
                copy.symlink_to(copy.with_suffix(".other")),
            ),
        ):
            damage(copy)
            assert check(repository, name) == 1
            told = capsys.readouterr().out
            assert str(copy) in told
            assert "run `python -m export copies`" in told
            assert run(["copies", "--model-repository", str(repository), "--json"]) == 0
            assert json.loads(capsys.readouterr().out) == [str(copy.relative_to(repository))]
            assert copy.read_text() == text
            assert not copy.is_symlink()
            assert check(repository, name) == 0
            capsys.readouterr()


def test_the_server_carries_the_projects_lock_and_licence(tmp_path, monkeypatch, capsys):
    for copy, original in copies.PROJECT_COPIES.items():
        assert copy.read_bytes() == original.read_bytes()
    (tmp_path / "original").write_text("new")
    (tmp_path / "copy").write_text("old")
    monkeypatch.setattr(copies, "PROJECT_COPIES", {tmp_path / "copy": tmp_path / "original"})
    assert check(tmp_path) == 1
    assert f"-old\n  +new\n  edit {tmp_path / 'original'}, then run `python" in capsys.readouterr().out
    assert run(["copies", "--model-repository", str(tmp_path)]) == 0
    assert (tmp_path / "copy").read_text() == "new"
    assert check(tmp_path) == 0


def test_the_labels_follow_the_model_that_is_called(repository, capsys):
    config = repository / "recognize_objects" / "configs" / "cpu.pbtxt"
    called = repository / "mobilenet_v2" / "labels.txt"
    called.write_text("".join(f"class {number}\n" for number in range(1000)))
    for file in (config, repository / "recognize_objects" / "config.pbtxt"):
        file.write_text(file.read_text().replace('"efficientnet_lite0"', '"mobilenet_v2"'))
    assert check(repository, "recognize_objects") == 1
    assert run(["copies", "--model-repository", str(repository)]) == 0
    assert capsys.readouterr().out.endswith("written recognize_objects/labels.txt\n")
    assert (repository / "recognize_objects" / "labels.txt").read_text() == called.read_text()


def test_a_repository_without_these_models_gets_none(tmp_path, capsys):
    assert run(["copies", "--model-repository", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "every copy is as its original\n"
    assert list(tmp_path.iterdir()) == []


def test_an_original_that_is_missing_is_told(repository, monkeypatch):
    monkeypatch.setattr(copies, "CODE", repository)
    told, *_ = check_copies("image_decoder", repository)
    assert "decoding.py is missing, of which" in told
    with pytest.raises(PublishError, match=r"decoding\.py, of which .* is a copy, cannot be read"):
        write_copies("image_decoder", repository)
