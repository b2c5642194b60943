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
