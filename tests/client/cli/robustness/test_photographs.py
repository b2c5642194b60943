"""Which photographs are taken, and which class a label means."""

from collections import Counter
from pathlib import Path

import pytest

from client.cli.robustness.photographs import chosen, classes_of
from client.errors import InvalidInput
from client.results import Classification

NAMES = ("a.jpg", "great_white_shark/b.png", "tabby/c.webp", "tabby/more/d.jpg")
KNOWN = [
    Classification(label, index, 0.1)
    for index, label in enumerate(["tench", "Great white shark", "tabby", "crane", "7", "crane"])
]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "photos"
    for name in (*NAMES, "notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def labels_of(found):
    return {one.name: one.label for one in found}


def test_without_labels_all_are_taken(folder):
    skipped = Counter()
    assert labels_of(chosen(folder, skipped)) == dict.fromkeys(NAMES)
    assert skipped == {".txt": 1}


def test_folders_are_labels_at_any_depth(folder, capsys):
    found = chosen(folder, Counter(), by_folder=True)
    assert labels_of(found) == dict(zip(NAMES[1:], ("great_white_shark", "tabby", "tabby"), strict=True))
    assert capsys.readouterr().err == "left out 1 without a label: a.jpg.\n"


@pytest.mark.parametrize("start", ["", "file,label\n", "\ufeffFile, Label\r\n\r\n"])
def test_a_file_has_labels(folder, capsys, start):
    file = folder / "labels.csv"
    rows = f'{start}a.jpg,"crane, bird"\ntabby/../a.jpg,"crane, bird"\n{folder / NAMES[1]},1\nz.jpg,9\n'
    file.write_text(rows, encoding="utf-8")
    found = chosen(folder, Counter(), labels=file)
    assert labels_of(found) == {"a.jpg": "crane, bird", "great_white_shark/b.png": "1"}
    said = capsys.readouterr().err
    assert "left out 2 without a label: tabby/c.webp, tabby/more/d.jpg." in said
    assert f"1 labels are of no photograph here: {folder / 'z.jpg'}." in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a.jpg\n", r"row 1: 'a.jpg' is not file,label"),
        (b"a.jpg,tabby\nb.jpg,\n", r"row 2: 'b.jpg,' is not file,label"),
        (b"a.jpg,tabby\na.jpg,tench\n", "row 2: a.jpg has another label above"),
        (b"a.jpg;tabby\n", "row 1: 'a.jpg;tabby' is not file,label"),
        (b"a.jpg,\xff\xfe\n", "cannot be read as CSV"),
        (b"z.jpg,tabby\n", "none of 4 photographs has a label: each row of"),
        (None, "cannot be read as CSV: No such file"),
    ],
)
def test_files_that_are_no_labels(folder, tmp_path, text, said):
    file = tmp_path / "labels.csv"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(InvalidInput, match=said):
        chosen(folder, Counter(), labels=file)


def test_some_are_drawn_by_the_seed(folder):
    drawn = {tuple(labels_of(chosen(folder, Counter(), limit=2, seed=seed))) for seed in (0, 0, 1, 2, 3)}
    assert 1 < len(drawn) < 5
    assert all(sorted(names) == list(names) and len(names) == 2 for names in drawn)
    assert len(chosen(folder, Counter(), limit=9)) == 4
    assert len(chosen(folder, Counter(), by_folder=True, limit=3)) == 3


@pytest.mark.parametrize(
    ("path", "options", "said"),
    [
        ("a.jpg", {}, "is not a folder"),
        ("nowhere", {}, "is not a folder"),
        (".", {"limit": 0}, "--limit is 0"),
        ("great_white_shark", {"by_folder": True}, "--by-folder takes the name of the folder"),
    ],
)
def test_what_cannot_be(folder, path, options, said):
    with pytest.raises(InvalidInput, match=said):
        chosen(folder / path, Counter(), **options)


def test_a_folder_of_other_files(folder):
    for name in NAMES:
        (folder / name).unlink()
    with pytest.raises(InvalidInput, match=r"no images in .* \(skipped 1 that are no images: 1 .txt\)"):
        chosen(folder, Counter())


def test_labels_are_found_by_name_or_number():
    labels = ["TENCH", "great_white_shark", "2", "crane", "7", "5"]
    assert classes_of(labels, KNOWN) == {
        "TENCH": {0},
        "great_white_shark": {1},
        "2": {2},
        "crane": {3, 5},  # the model has two of this name, and cannot say which is meant
        "7": {4},  # a label before a number
        "5": {5},
    }


def test_labels_of_no_class_are_named():
    with pytest.raises(InvalidInput, match=r"2 of 3 labels .* 6 classes: 6, tabbi\. .* from 0\.") as told:
        classes_of(["tabbi", "tench", "6"], KNOWN)
    assert "near" not in str(told.value)
    with pytest.raises(InvalidInput, match="near tabbi are tabby"):
        classes_of(["tabbi"], KNOWN)
    with pytest.raises(InvalidInput, match="a 0, a 1, a 2, a 3, a 4 and 2 more"):
        classes_of([f"a {number}" for number in range(7)], KNOWN)


def test_names_that_a_terminal_would_obey_are_told_escaped(folder, capsys):
    Path(folder, "\x1b[31m.jpg").touch()
    chosen(folder, Counter(), by_folder=True)
    assert r"\x1b[31m.jpg" in capsys.readouterr().err
