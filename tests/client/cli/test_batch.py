"""A run of the command over many images: what is shown, what is not cut, and the closing line."""

import argparse
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from client.cli.batch import Batch
from client.cli.display import IMAGES_PER_TABLE, classification_tables
from client.errors import InvalidImage, RequestTimeout
from client.results import Classification, Prediction
from tests.conftest import ROOT

LONG = "/home/somebody/photographs/holiday in the mountains/2024-07-13/IMG_20240713_182233.jpg"
MESSAGE = "cannot be decoded: image file is truncated (12 bytes not processed). " * 2


def prediction(source="", label="tabby"):
    return Prediction(source, "recognize_objects", "1", "pretrained", (Classification(label, 0, 0.5),))


def failed(kind=InvalidImage, source="bad.jpg"):
    return kind(MESSAGE).about(source, None)


def batch(*sources, as_json=False):
    return Batch(argparse.Namespace(images=list(sources), json=as_json))


SHOW = f"""
from client.cli.display import classification_tables
from tests.client.cli.test_batch import failed, prediction
classification_tables(iter([prediction({LONG!r}), failed()]))
classification_tables(iter([prediction("cat.jpg"), failed()]))
"""


def shown_in_a_terminal(columns):
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-c", SHOW], cwd=ROOT, stdout=terminal, env=environment):
        os.close(terminal)
        shown = b""
        try:
            while chunk := os.read(screen, 65536):
                shown += chunk
        except OSError:  # the other end is closed
            pass
    os.close(screen)
    return re.sub(r"\x1b\[[\d;]*m", "", shown.decode()).splitlines()


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_names_are_whole_in_a_terminal_of_any_width(columns):
    lines = shown_in_a_terminal(columns)
    assert any(LONG in line for line in lines)
    assert any("cat.jpg" in line for line in lines)
    table = [line for line in lines if line[:1] in "┏┃│"]
    assert all(len(line) <= columns for line in table)
    if columns >= 80:  # errors have a column of their own
        assert any(re.search("┃ Image +┃ Class +┃ Probability ┃ Error", line) for line in lines)


def test_nothing_is_folded_in_a_file(capsys):
    classification_tables(iter([prediction(LONG, "a label of some length, " * 3), failed()]))
    shown = capsys.readouterr().out
    assert LONG in shown
    assert MESSAGE.strip() in shown


def test_without_errors_there_is_no_column_for_them(capsys):
    classification_tables(iter([prediction("cat.jpg")]))
    assert "Error" not in capsys.readouterr().out
    classification_tables(iter([failed()]))
    assert "Probability" not in capsys.readouterr().out


def interrupted_after(results):
    yield from results
    raise KeyboardInterrupt


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_keeps_what_was_answered_and_says_how_much(as_json, capsys):
    sources = [f"{number}.jpg" for number in range(1000)]
    answered = [prediction(), failed(), *[prediction()] * IMAGES_PER_TABLE]
    status = batch(*sources, as_json=as_json).report(
        interrupted_after([[one] for one in answered]), classification_tables
    )
    shown, told = capsys.readouterr()
    assert status == 130
    if as_json:
        images = [json.loads(line)["image"] for line in shown.splitlines()]
    else:
        images = re.findall(r"│ (\d+\.jpg) ", shown)
    assert images == sources[: len(answered)]  # each once
    assert re.fullmatch(
        r"interrupted: 27 of 1,000 images in [\d.]+ s, [\d,.]+ a second; "
        r"1 of 1,000 images failed: 1 InvalidImage\.\n",
        told,
    )


@pytest.mark.parametrize(("unit", "told"), [("images", "1 image in "), ("lines", "1 line of 1 image in ")])
def test_one_is_one(unit, told, capsys):
    assert batch("1.jpg").report([[failed()]], classification_tables, unit=unit) == 1
    line = capsys.readouterr().err
    assert line.startswith(told)
    assert line.endswith(f"; 1 of 1 {unit.removesuffix('s')} failed: 1 InvalidImage.\n")


def test_the_closing_line_says_how_many_how_fast_and_what_failed(capsys):
    results = [prediction(), failed(), failed(RequestTimeout), failed(), prediction()]
    status = batch(*"abcde").report([[one] for one in results], classification_tables)
    assert status == 1
    assert re.fullmatch(
        r"5 images in [\d.]+ s, [\d,.]+ a second; 3 of 5 images failed: 2 InvalidImage, 1 RequestTimeout\.\n",
        capsys.readouterr().err,
    )


def test_one_image_that_is_answered_needs_no_closing_line(capsys):
    assert batch("cat.jpg").report([[prediction()]], classification_tables) == 0
    assert capsys.readouterr().err == ""
