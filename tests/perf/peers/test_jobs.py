"""What counts as the right answer."""

import pytest

from perf.peers.jobs import ComparedJob, same


@pytest.mark.parametrize(
    ("found", "right", "expected"),
    [
        ([[1, 0.6], [2, 0.3]], [[1, 0.6], [2, 0.3]], True),
        ([[2, 0.30004], [1, 0.3]], [[1, 0.30002], [2, 0.3]], True),  # neighbours that rounding exchanged
        ([[2, 0.6], [1, 0.3]], [[1, 0.6], [2, 0.3]], False),
        ([[1, 0.6], [7, 0.3]], [[1, 0.6], [2, 0.3]], False),
        ([[1, 0.6]], [[1, 0.6], [2, 0.3]], False),
    ],
)
def test_classes_count_as_the_same_up_to_rounding(tmp_path, found, right, expected):
    assert same(ComparedJob("jpeg", "", tmp_path, tmp_path, []), found, right) is expected


BOXES = [[0, 0.9, [1.0, 2.0, 30.0, 40.0]], [15, 0.5, [5.0, 5.0, 9.0, 9.0]]]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (BOXES, True),
        ([[0, 0.905, [1.2, 2.0, 30.0, 39.8]], BOXES[1]], True),
        ([[1, *BOXES[0][1:]], BOXES[1]], False),
        ([[0, 0.8, BOXES[0][2]], BOXES[1]], False),
        ([[0, 0.9, [2.0, 2.0, 30.0, 40.0]], BOXES[1]], False),
        (BOXES[:1], False),
        ([], False),
    ],
)
def test_boxes_count_as_the_same_within_half_a_pixel(tmp_path, found, expected):
    assert same(ComparedJob("detect", "", tmp_path, tmp_path, []), found, BOXES) is expected
