"""Which SavedModel a path means, and what is said of a path that is none."""

import zipfile
from pathlib import Path

import pytest

from export.cli.commands import run
from export.common.errors import SpecError
from export.pipelines.savedmodels.files import found_at


def saved_model(folder: Path, content: bytes = b"graph") -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(content)
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def test_the_newest_of_numbered_versions(tmp_path: Path):
    for number in (2, 10, 9):
        saved_model(tmp_path / "digits" / str(number), b"%d" % number)
    (tmp_path / "digits" / "11").mkdir()
    found = found_at(tmp_path / "digits")
    assert (found.path.name, found.name, found.version) == ("10", "digits", 10)
    assert "version 10 of 2, 9, 10" in found.note


def test_a_version_is_named_by_the_folder_above(tmp_path: Path):
    found = found_at(saved_model(tmp_path / "digits" / "3"))
    assert (found.name, found.version) == ("digits", 3)
    found = found_at(saved_model(tmp_path / "net"))
    assert (found.name, found.version) == ("net", None)


def test_weights_are_those_of_graph_and_variables(tmp_path: Path):
    one, same = saved_model(tmp_path / "one"), saved_model(tmp_path / "same")
    assert found_at(one).weights == found_at(same).weights
    (same / "variables" / "variables.index").write_bytes(b"other")
    assert found_at(one).weights != found_at(same).weights


def a_zip(path: Path, member: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, "{}")


def test_a_keras_file(tmp_path: Path):
    a_zip(tmp_path / "net.keras", "config.json")
    found = found_at(tmp_path / "net.keras")
    assert found.name == "net"
    assert found.weights.startswith("keras ")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("missing", None, "there is no"),
        ("old.h5", b"\x89HDF\r\n\x1a\n...", "old Keras file"),
        ("old.keras", b"\x89HDF\r\n\x1a\n...", "old Keras file"),
        ("saved_model.pb", b"graph", "give its folder"),
        ("net.onnx", b"graph", "python -m export net.onnx"),
        ("net.tflite", b"TFL3", "not a Keras file"),
        ("cut.keras", b"PK\x03\x04", "not a zip archive"),
        ("empty.keras", b"", "not a zip archive"),
    ],
)
def test_other_files_are_told_from_models(tmp_path: Path, name: str, content: bytes | None, why: str):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SpecError, match=why):
        found_at(tmp_path / name)


def test_a_zip_and_a_folder_without_a_model(tmp_path: Path):
    a_zip(tmp_path / "net.keras", "other")
    with pytest.raises(SpecError, match=r"no config\.json"):
        found_at(tmp_path / "net.keras")
    with pytest.raises(SpecError, match=r"saved_model\.pb, and it has net\.keras"):
        found_at(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        ["--name", "a/b"],
        ["--version", "0"],
        ["--max-batch-size", "-1"],
        ["--batch", "--max-batch-size", "0"],
        ["--dims", "x"],
    ],
)
def test_wrong_usage_is_told_before_anything_is_made(tmp_path: Path, options: list[str], monkeypatch, capsys):
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SystemExit) as ended:
        run(["savedmodel", str(saved_model(tmp_path / "net")), *options])
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_a_path_that_is_none_ends_with_1(tmp_path: Path, capsys):
    assert run(["savedmodel", str(tmp_path)]) == 1
    assert "is not a SavedModel" in capsys.readouterr().err
