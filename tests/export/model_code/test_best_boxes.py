"""Which of the boxes that overlap are answered."""

import numpy as np
import pytest

from export.model_code import best_boxes
from export.model_code.best_boxes import Wanted, apart, chosen

RNG = np.random.default_rng(0)


def random_boxes(count):
    starts = RNG.uniform(0, 60, (count, 2))
    return np.concatenate([starts, starts + RNG.uniform(5, 40, (count, 2))], 1).astype(np.float32)


def overlap(one, other, of_smaller):
    edge = 1 if of_smaller else 0
    width = min(one[2], other[2]) - max(one[0], other[0]) + edge
    height = min(one[3], other[3]) - max(one[1], other[1]) + edge
    shared = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0] + edge) * (box[3] - box[1] + edge) for box in (one, other)]
    return shared / (min(areas) if of_smaller else sum(areas) - shared)


@pytest.mark.parametrize("of_smaller", [False, True])
@pytest.mark.parametrize("most", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("count", [0, 1, 2, 90])
def test_what_stays_is_what_a_plain_loop_leaves(count, most, of_smaller):
    boxes, scores = random_boxes(count), RNG.random(count).astype(np.float32)
    expected = []
    for index in np.argsort(-scores):
        if all(overlap(boxes[index], boxes[other], of_smaller) <= most for other in expected):
            expected.append(index)
    assert apart(boxes, scores, most, of_smaller).tolist() == expected


def test_of_equal_scores_the_first_stays():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [2, 0, 12, 10]], np.float32)
    assert apart(boxes, np.ones(3, np.float32), 0.5).tolist() == [0]


def test_an_overlap_of_just_so_much_stays():
    """Half of both together, to the pixel."""
    boxes = np.array([[0, 0, 30, 10], [10, 0, 40, 10], [11, 0, 41, 10]], np.float32)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    assert overlap(boxes[0], boxes[1], False) == 0.5
    assert apart(boxes[:2], scores[:2], 0.5).tolist() == [0, 1]
    assert apart(boxes, scores, 0.5).tolist() == [0, 1]


def answered(boxes, scores, score=0.3, iou=0.5, classes=None, most=100):
    found = chosen(
        np.array(boxes, np.float32), np.array(scores, np.float32), Wanted(score, iou, classes, most)
    )
    assert (found.boxes.dtype, found.scores.dtype, found.class_ids.dtype) == (
        np.float32,
        np.float32,
        np.int32,
    )
    assert len(found.boxes) == len(found.scores) == len(found.class_ids)
    return found


def test_boxes_are_the_best_first_and_each_of_its_classes():
    found = answered([[0, 0, 9, 9], [20, 20, 29, 29]], [[0.4, 0.9], [0.6, 0.1]])
    assert found.scores.tolist() == pytest.approx([0.9, 0.6, 0.4])
    assert found.class_ids.tolist() == [1, 0, 0]
    assert found.boxes[:, 0].tolist() == [0, 20, 0]


def test_only_boxes_of_one_class_drop_each_other():
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10], [0, 1, 10, 11]]
    found = answered(boxes, [[0.9, 0], [0.8, 0], [0, 0.7]])
    assert list(zip(found.class_ids, found.boxes[:, 0], strict=True)) == [(0, 0), (1, 0)]
    assert len(answered(boxes, [[0.9, 0], [0.8, 0], [0, 0.7]], iou=1).scores) == 3


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"score": 0.85}, [0.9]),
        ({"score": 0.9}, [0.9]),  # just so much is enough
        ({"most": 2}, [0.9, 0.8]),
        ({"classes": [1]}, [0.8, 0.35]),
        ({"classes": [1, 1]}, [0.8, 0.35]),
        ({"classes": []}, []),
        ({"score": 1}, []),
    ],
)
def test_what_is_asked_for_is_answered(asked, expected):
    boxes = [[0, 0, 9, 9], [20, 20, 29, 29], [50, 50, 59, 59]]
    found = answered(boxes, [[0.9, 0.35], [0.1, 0.8], [0.5, 0.2]], **asked)
    assert found.scores.tolist() == pytest.approx(expected)


def test_what_is_not_finite_is_no_box():
    boxes = [[0, 0, 9, np.nan], [0, 0, np.inf, 9], [1, 1, 5, 5], [2, 2, 6, 6]]
    found = answered(boxes, [[0.9], [0.8], [np.nan], [0.7]])
    assert found.boxes.tolist() == [[2, 2, 6, 6]]


def test_no_number_of_candidates_is_too_many(monkeypatch):
    """They are bounded before they are compared, and the best of them stay."""
    monkeypatch.setattr(best_boxes, "MOST_COMPARED", 50)
    scores = RNG.random((400, 6)).astype(np.float32)
    found = answered(random_boxes(400), scores, score=0, iou=1, most=1000)
    assert found.scores.tolist() == np.sort(scores, axis=None)[::-1][:50].tolist()
