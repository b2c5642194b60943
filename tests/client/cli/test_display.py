"""A folder of anybody's files: names that a terminal would obey, that are no UTF-8, and pipes."""

import contextlib
import io
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from client.cli.display import classification_tables, printable, reading_lines
from client.errors import InvalidImage
from client.images.inputs import files_in
from client.results import Classification, Prediction, Reading

HOSTILE = "a\x1b[31mred\r\nb\x9b2J\u2028c" + os.fsdecode(b"\xff") + ".jpg"


def shown_by(show: Callable, results: list) -> str:
    """On a standard output as it is under most locales: what is no UTF-8 is an error."""
    written = io.BytesIO()
    with io.TextIOWrapper(written, "utf-8", errors="strict", write_through=True) as output:
        with contextlib.redirect_stdout(output):
            show(iter(results))
        return written.getvalue().decode()


def failed(source: str) -> InvalidImage:
    error = InvalidImage("first line\nsecond line \x1b]0;title\x07")
    error.source = source
    return error


@pytest.mark.parametrize("show", [classification_tables, reading_lines])
def test_names_are_shown_and_not_obeyed(show):
    reading = Reading(HOSTILE, "m", "1", "w", "text\x1b[2J", 0.5)
    shown = shown_by(show, [failed(HOSTILE), *([reading] if show is reading_lines else [])])
    assert not {"\x1b", "\r", "\x9b", "\x07", "\u2028"} & set(shown)
    assert r"\x1b" in shown


def test_labels_too():
    prediction = Prediction(HOSTILE, "m", "1", None, (Classification("kite\x1b[31m", 0, 0.5),))
    assert "\x1b" not in shown_by(classification_tables, [prediction])


def test_other_scripts_stay_as_they_are():
    name = "écran 写真\u3000\xa0\N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER}.png"
    assert printable(name) == name
    assert printable("a\nb", keep="\n") == "a\nb"


def test_a_linked_folder_is_skipped_and_counted(tmp_path):
    """It may lead back to where it lies."""
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "photo.jpg").touch()
    skipped = Counter()
    assert [path.name for path in files_in(Path(tmp_path), skipped)] == ["photo.jpg"]
    assert skipped == {"linked folders": 1}


def test_a_pipe_in_a_folder_is_skipped(tmp_path):
    """Opening it waits for a writer, for ever."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "linked.jpg").symlink_to(tmp_path / "photo.jpg")
    (tmp_path / "photo.jpg").touch()
    skipped = Counter()
    assert [path.name for path in files_in(Path(tmp_path), skipped)] == [
        "gone.jpg",
        "linked.jpg",
        "photo.jpg",
    ]
    assert skipped == {"pipes and devices": 2}
