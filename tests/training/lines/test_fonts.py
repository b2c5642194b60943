"""The families of fonts: pinned, in one split each, and able to draw every character."""

import re

from training.lines.fonts import TABLE, faces, families, missing_characters
from training.lines.words import SPLITS


def test_a_family_is_in_one_split_and_every_wheel_is_pinned():
    rows = families()
    assert len({row.name for row in rows}) == len(rows)
    assert len(rows) == sum(not line.startswith("#") for line in TABLE.read_text().splitlines())
    counts = {split: len(families(split)) for split in SPLITS}
    assert counts["training"] >= 60
    assert counts["validation"] >= 5
    assert counts["test"] >= 10
    assert all(re.fullmatch("[0-9a-f]{64}", row.package.sha256) for row in rows)
    relatives = {row.split for row in rows if row.name.startswith("PT ")}
    assert relatives == {"test"}, "a superfamily stays together"


def test_every_face_draws_every_character():
    for family, faces_of in zip(families("validation"), faces("validation"), strict=True):
        assert faces_of, family.name
        assert not missing_characters(faces_of[0])
