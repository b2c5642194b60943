"""Scores of readers."""

import pytest

from training.evaluation.scoring import confusions, score


def test_scores_say_where_the_errors_are(source):
    lines = [source.line(number, "clean", "english") for number in range(4)]
    read = [line.text for line in lines]
    read[1] = read[1][:-1]
    result = score("english clean", lines, read)
    assert result.wrong_lines_percent == 25
    assert result.cer_percent == pytest.approx(100 / result.characters, abs=1e-3)
    assert result.families[lines[1].face.family] > 0
    assert confusions([("vvord", "word"), ("ok", "ok")]) == {"w>vv": 1}
