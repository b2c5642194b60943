"""CTC decoding against its definition: every path, written out, on alphabets small enough for that."""

import itertools
from collections import defaultdict

import numpy as np
import pytest

from export.model_code import ctc


def random_log_probs(steps, classes, seed, sharpness=2.0):
    logits = np.random.default_rng(seed).normal(0, sharpness, (steps, classes))
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def collapsed(path):
    joined = [label for label, _ in itertools.groupby(path)]
    return tuple(label for label in joined if label != ctc.BLANK)


def probabilities_of_all_texts(log_probs):
    texts = defaultdict(float)
    steps, classes = log_probs.shape
    for path in itertools.product(range(classes), repeat=steps):
        texts[collapsed(path)] += np.exp(sum(log_probs[step, label] for step, label in enumerate(path)))
    return texts


CASES = [(1, 2), (2, 3), (4, 3), (5, 4), (7, 3)]


@pytest.mark.parametrize(("steps", "classes"), CASES)
@pytest.mark.parametrize("seed", range(6))
def test_beam_search_without_a_limit_finds_the_likeliest_text(steps, classes, seed):
    log_probs = random_log_probs(steps, classes, seed)
    texts = probabilities_of_all_texts(log_probs)
    assert sum(texts.values()) == pytest.approx(1, abs=1e-5)
    found = tuple(ctc.beam_search(log_probs, width=10**6, least_probability=0))
    assert texts[found] == pytest.approx(max(texts.values()))


@pytest.mark.parametrize(("steps", "classes"), CASES)
@pytest.mark.parametrize("seed", range(6))
def test_log_probability_is_the_sum_over_all_paths(steps, classes, seed):
    log_probs = random_log_probs(steps, classes, seed)
    texts = probabilities_of_all_texts(log_probs)
    possible = [list(text) for text in texts]
    found = ctc.log_probability([log_probs] * len(possible), possible)
    np.testing.assert_allclose(np.exp(found), list(texts.values()), rtol=1e-5)


def test_lines_of_different_lengths_are_summed_as_if_alone():
    lines = [random_log_probs(steps, 5, steps) for steps in (3, 40, 17)]
    texts = [ctc.greedy(line) for line in lines]
    together = ctc.log_probability(lines, texts)
    alone = [ctc.log_probability([line], [text])[0] for line, text in zip(lines, texts, strict=True)]
    np.testing.assert_allclose(together, alone)


def test_a_text_that_no_path_gives_has_probability_zero():
    log_probs = random_log_probs(2, 3, 0)
    assert ctc.log_probability([log_probs], [[1, 1]])[0] == -np.inf  # equal neighbours need a blank between
    assert ctc.log_probability([log_probs], [[1, 2, 1]])[0] == -np.inf


def test_a_long_line_does_not_leave_the_range_of_floats():
    log_probs = np.full((4000, 122), np.log(1 / 122), np.float32)
    assert -4000 * np.log(122) < ctc.log_probability([log_probs], [[5] * 20])[0] < -15000
    assert len(ctc.beam_search(log_probs[:400], 2)) <= 400


@pytest.mark.parametrize("seed", range(6))
def test_greedy_is_the_likeliest_path(seed):
    log_probs = random_log_probs(12, 4, seed)
    assert tuple(ctc.greedy(log_probs)) == collapsed(log_probs.argmax(1).tolist())


def test_repeats_are_joined_and_blanks_separate_them():
    path = [0, 1, 1, 0, 1, 2, 2, 2, 0, 0, 3]
    log_probs = np.log(np.eye(4)[path] * 0.97 + 0.01)
    for decode in (ctc.greedy, lambda steps: ctc.beam_search(steps, 8)):
        assert decode(log_probs) == [1, 1, 2, 3]
        assert decode(np.log(np.eye(4)[[0, 0, 0]] * 0.97 + 0.01)) == []


def test_the_beam_joins_paths_that_the_best_path_misses():
    """The textbook's case: blank is the likeliest class twice, yet "a" is the likelier text: 0.64."""
    log_probs = np.log([[0.6, 0.4], [0.6, 0.4]])
    assert ctc.greedy(log_probs) == []
    assert ctc.beam_search(log_probs, 2) == [1]


def test_a_wider_beam_finds_no_less_likely_text():
    log_probs = random_log_probs(30, 6, 3, sharpness=1.0)
    found = [ctc.beam_search(log_probs, width) for width in (1, 4, 16, 64)]
    likelihoods = ctc.log_probability([log_probs] * 4, found)
    assert likelihoods[-1] >= likelihoods[0]
    assert likelihoods[-1] >= ctc.log_probability([log_probs], [ctc.greedy(log_probs)])[0]


def path_of(spans, text, steps):
    """The path that spans stand for: their classes, and blanks between."""
    path = [ctc.BLANK] * steps
    for (first, end), label in zip(spans, text, strict=True):
        path[first:end] = [label] * (end - first)
    return path


@pytest.mark.parametrize(("steps", "classes"), CASES)
@pytest.mark.parametrize("seed", range(6))
def test_an_alignment_is_the_likeliest_path_of_its_text(steps, classes, seed):
    log_probs = random_log_probs(steps, classes, seed)
    best = defaultdict(lambda: -np.inf)
    for path in itertools.product(range(classes), repeat=steps):
        text = collapsed(path)
        best[text] = max(best[text], sum(log_probs[step, label] for step, label in enumerate(path)))
    for text, score in best.items():
        path = path_of(ctc.align(log_probs, list(text)), text, steps)
        assert collapsed(path) == text
        assert sum(log_probs[step, label] for step, label in enumerate(path)) == pytest.approx(
            score, abs=1e-5
        )
