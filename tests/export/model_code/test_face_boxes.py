"""Boxes between the networks that find faces."""

import numpy as np

from export.model_code import face_boxes
from export.model_code.face_boxes import Candidates

RNG = np.random.default_rng(0)


def random_boxes(count):
    starts = RNG.uniform(0, 60, (count, 2))
    return np.concatenate([starts, starts + RNG.uniform(5, 40, (count, 2))], 1).astype(np.float32)


def test_many_candidates_are_bounded_and_the_best():
    scores = RNG.random(500).astype(np.float32)
    candidates = Candidates(random_boxes(500), scores, RNG.random((500, 4)).astype(np.float32))
    best = candidates.best(50)
    assert sorted(best.scores) == sorted(scores)[-50:]
    assert candidates.best(500) is candidates
    assert len(Candidates.joined([])) == 0
    assert len(Candidates.joined([candidates, best])) == 550


def test_a_scale_has_a_bounded_number_of_windows(monkeypatch):
    monkeypatch.setattr(face_boxes, "MOST_OF_A_SCALE", 7)
    scores = RNG.random((40, 40)).astype(np.float32)
    found = face_boxes.windows(scores, np.zeros((40, 40, 4), np.float32), 0.3, 0.0)
    assert len(found) == 7
    assert found.scores.max() == scores.max()


def test_windows_lie_where_their_scores_do():
    scores, offsets = np.zeros((9, 9), np.float32), RNG.random((9, 9, 4)).astype(np.float32)
    scores[2, 5], scores[8, 0] = 0.6, 0.59
    found = face_boxes.windows(scores, offsets, 0.5, 0.6)
    np.testing.assert_array_equal(
        found.boxes, [[22, 10, 44, 32]]
    )  # (2 x 5 + 1) / 0.5, (2 x 5 + 12) / 0.5 ...
    np.testing.assert_array_equal(found.offsets, offsets[2, 5][None])


def test_sides_are_moved_by_parts_of_them():
    boxes = np.array([[10, 20, 30, 60]], np.float32)
    offsets = np.array([[0.1, -0.1, 0.2, 0]], np.float32)
    np.testing.assert_allclose(face_boxes.moved(boxes, offsets, edge=0), [[12, 16, 34, 60]])
    np.testing.assert_allclose(face_boxes.moved(boxes, offsets), [[12.1, 15.9, 34.2, 60]], rtol=1e-6)


def test_squares_keep_their_centre():
    boxes = np.array([[10, 20, 30, 60], [0, 0, 9, 3]], np.float32)
    np.testing.assert_allclose(face_boxes.squared(boxes), [[0, 20, 40, 60], [0, -3, 9, 6]])


def test_landmarks_are_parts_of_their_box():
    points = np.zeros((1, 5, 2), np.float32)
    points[0, 1] = 0.5, 1
    found = face_boxes.landmarks_of(np.array([[10, 20, 29, 59]], np.float32), points)
    np.testing.assert_allclose(found[0, :2], [[9, 19], [19, 59]])
