"""The house is kept: modules of one idea, folders seen at a glance, a class for a name, pages that hold."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.documented import ROOT
from tests.test_pages import PAGES, tracked

CODE = ("client", "export", "perf", "server", "training")
# What runs beside other modules in a process of Triton's, and imports nothing of ours.
ALONE = ("export/model_code", "server/backends")
MOST_LINES = 400
MOST_ROOMS = 12
# Names that are right in several places, each with the reason.
SEVERAL = {
    (
        "export",
        "Agreement",
    ): "between releases, and of a lighter sibling with its model",
    ("export", "SamePadConv2d"): "a network is one file that can be read and hashed alone",
    (
        "server",
        "Refusal",
    ): "what HAProxy answers, and what TensorFlow Serving's interfaces raise",
}
PATH = re.compile(rf"(?<![\w/.:$\"<-])((?:{'|'.join(CODE)}|deploy|examples|tests)/[\w./*-]*[\w*])")
MADE = re.compile(r"perf/out/|training/runs/|.*\b[A-Z]{2,}\b")  # by commands, or a name to fill in


@pytest.fixture(scope="module")
def modules():
    return [path for path in tracked() if path.suffix == ".py" and path.is_file()]


def place(path):
    return path.relative_to(ROOT).as_posix()


def test_no_module_is_longer_than_an_idea(modules):
    lines = {place(path): len(path.read_text().splitlines()) for path in modules}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_no_folder_shows_more_than_a_dozen_rooms(modules):
    """Files and folders with code; a package's `__init__.py` is its door."""
    rooms = defaultdict(set)
    for path in modules:
        parts = Path(place(path)).parts
        for depth in range(1, len(parts)):
            if parts[0] in CODE and parts[depth] != "__init__.py":
                rooms["/".join(parts[:depth])].add(parts[depth])
    assert {folder: sorted(its) for folder, its in rooms.items() if len(its) > MOST_ROOMS} == {}


def test_a_class_has_its_name_alone(modules):
    """In its root folder; private ones are their module's own."""
    found = defaultdict(list)
    for path in modules:
        name = place(path)
        if name.startswith(CODE) and not name.startswith(ALONE):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[name.split("/")[0], node.name].append(name)
    several = {key: places for key, places in found.items() if len(places) > 1}
    assert {key: places for key, places in several.items() if key not in SEVERAL} == {}
    assert SEVERAL.keys() <= several.keys()


def test_what_pages_name_is_there():
    """Files and folders of code, tests and deployment. Decisions tell of what was."""
    named = {
        (place(page), name)
        for page in PAGES
        if "decisions" not in page.parts
        for name in PATH.findall(page.read_text())
        if not MADE.match(name)
    }
    assert sorted((page, name) for page, name in named if not list(ROOT.glob(name))) == []
    assert len(named) > 100
