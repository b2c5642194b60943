"""Frames, scores and landmarks over photographs, wherever in them a face is."""

import numpy as np
import pytest

from client import Face, face_overlay
from client.images.face_overlays import BOX

SIDE = 200
YELLOW = [int(BOX[place : place + 2], 16) for place in (1, 3, 5)]


def drawn(box):
    """Which pixels of a black photograph are of the frame's colour."""
    face = Face(box, 0.97, ())
    photograph = np.zeros((SIDE, SIDE, 3), np.uint8)
    return (np.asarray(face_overlay(photograph, [face])) == YELLOW).all(2)


@pytest.mark.parametrize("left", [-20, 0, 80, 170, 190])
@pytest.mark.parametrize("top", [-20, 0, 5, 80, 190])
def test_a_score_is_seen_whole_wherever_the_face_is(left, top):
    """Most of the ground that it has in the middle, in the rows above the frame or within it."""
    ground = np.count_nonzero(drawn((80, 80, 80, 80)))
    upper = max(0, top)
    found = drawn((left, top, left + 60, top + 60))[max(0, upper - 20) : upper + 20]
    assert np.count_nonzero(found) >= 0.75 * ground


def test_a_frame_is_seen_where_the_face_reaches_beyond_the_photograph():
    found = drawn((-30, -30, 230, 230))
    for edge in (found[0], found[-1], found[:, 0], found[:, -1]):
        assert edge.mean() > 0.8
