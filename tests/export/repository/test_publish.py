"""Publishing: a reader of the repository sees whole versions or none, whatever happens."""

import os
import threading
from pathlib import Path

import pytest

from export.common.errors import PublishError
from export.repository import publish as publishing
from export.repository.publish import newest_version, publish

TEXTS = {"labels.txt": "a\nb\n", "config.pbtxt": 'name: "m"\n'}


def graph(number: int, size: int = 1000) -> bytes:
    return bytes([number]) * size


def staging_left(folder: Path) -> list[Path]:
    return [path for path in folder.parent.parent.rglob("*") if path.name.startswith(".staging")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / "m"


def test_versions_count_up_and_the_same_bytes_are_not_published_twice(folder: Path):
    assert publish(folder, TEXTS, graph(1)) == 1
    assert publish(folder, TEXTS, graph(2)) == 2
    assert publish(folder, TEXTS, graph(2)) == 2
    assert publish(folder, TEXTS, None) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "config.pbtxt", "labels.txt"]
    assert (folder / "1" / "model.onnx").read_bytes() == graph(1)
    assert not staging_left(folder)


def test_unchanged_files_are_not_touched(folder: Path):
    publish(folder, TEXTS, graph(1))
    before = (folder / "config.pbtxt").stat()
    publish(folder, TEXTS, graph(2))
    assert (folder / "config.pbtxt").stat().st_mtime_ns == before.st_mtime_ns
    publish(folder, {**TEXTS, "config.pbtxt": 'name: "n"\n'}, None)
    assert (folder / "config.pbtxt").read_text() == 'name: "n"\n'


def test_a_number_that_something_else_has_taken_is_not_used(folder: Path):
    publish(folder, TEXTS, graph(1))
    (folder / "7").mkdir()
    assert newest_version(folder) == 1
    assert publish(folder, TEXTS, graph(2)) == 8


def test_a_number_of_ones_choice(folder: Path):
    assert publish(folder, TEXTS, graph(1), version=3) == 3
    assert publish(folder, TEXTS, graph(1), version=3) == 3, "the same bytes are there already"
    assert publish(folder, TEXTS, graph(1), version=12) == 12, "another number, though the bytes are the same"
    assert publish(folder, TEXTS, graph(2)) == 13
    for taken in (2, 12, 13):
        with pytest.raises(PublishError, match=f"versions up to 13, and {taken} is not above them"):
            publish(folder, TEXTS, graph(3), version=taken)
    assert sorted(path.name for path in folder.iterdir()) == ["12", "13", "3", "config.pbtxt", "labels.txt"]
    assert not staging_left(folder)


def test_who_polls_sees_only_whole_versions(folder: Path):
    size, versions = 4_000_000, 12
    torn: list[str] = []
    seen: set[str] = set()
    done = threading.Event()

    def poll() -> None:
        while not done.is_set():
            if folder.exists() and not (folder / "config.pbtxt").is_file():
                torn.append("a model folder without its config")
            for path in folder.glob("[0-9]*"):
                file = path / "model.onnx"
                if not file.is_file() or file.stat().st_size != size:
                    torn.append(f"half of version {path.name}")
                seen.add(path.name)

    poller = threading.Thread(target=poll)
    poller.start()
    try:
        for number in range(1, versions + 1):
            publish(folder, TEXTS, graph(number, size))
    finally:
        done.set()
        poller.join()
    assert not torn
    assert len(seen) > 1  # it did look while versions appeared


@pytest.mark.parametrize("failing", ["rename", "replace", "fsync"])
def test_what_was_published_stays_when_a_step_fails(folder: Path, monkeypatch, failing: str):
    publish(folder, TEXTS, graph(1))
    real = getattr(os, failing)

    def fail(*arguments, **options):
        # Only the way forward fails; taking a version back is a rename as well.
        if failing == "rename" and Path(arguments[1]).name == "version":
            return real(*arguments, **options)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(publishing.os, failing, fail)
        with pytest.raises(PublishError, match="No space left on device; nothing was published"):
            publish(folder, {**TEXTS, "config.pbtxt": "max_batch_size: 2\n"}, graph(2))
    assert newest_version(folder) == 1
    assert (folder / "config.pbtxt").read_text() == TEXTS["config.pbtxt"]
    assert not staging_left(folder)


def test_a_first_export_that_fails_leaves_no_folder(folder: Path, monkeypatch):
    def fail(descriptor: int):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(publishing.os, "fsync", fail)
        with pytest.raises(PublishError):
            publish(folder, TEXTS, graph(1))
    assert not folder.exists()
    assert not staging_left(folder)


def test_staging_of_a_killed_export_is_cleaned_up(folder: Path):
    publish(folder, TEXTS, graph(1))
    (folder / ".staging-123" / "version").mkdir(parents=True)
    (folder.parent.parent / ".staging-models+m+123").mkdir()
    publish(folder, TEXTS, graph(2))
    assert not staging_left(folder)


def test_exports_at_once_take_a_number_each(folder: Path):
    writers, rounds = 4, 5
    start = threading.Barrier(writers)
    errors: list[Exception] = []

    def write(writer: int) -> None:
        try:
            for turn in range(rounds):
                start.wait()
                publish(folder, TEXTS, graph(writer * rounds + turn))
        except Exception as error:
            errors.append(error)
            start.abort()

    threads = [threading.Thread(target=write, args=[writer]) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    versions = sorted(int(path.name) for path in folder.glob("[0-9]*"))
    assert versions == list(range(1, writers * rounds + 1))
    assert len({(folder / str(number) / "model.onnx").read_bytes() for number in versions}) == len(versions)
