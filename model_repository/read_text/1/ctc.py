"""Connectionist temporal classification: from probabilities of classes over time to a text.

A path names one class for every time step. It stands for the text that remains when equal neighbours are
joined and blanks, class 0, are dropped; the probability of a text is the sum over all of its paths.
Graves et al., "Connectionist Temporal Classification", ICML 2006. It needs numpy only.

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

from heapq import nlargest
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLANK", "align", "beam_search", "greedy", "log_probability"]

BLANK = 0
LEAST_PROBABILITY = 1e-5  # of a class at a time step; the beam takes what is below for impossible
# Beginnings times likely classes, over all steps. Text has two to five likely classes a step, so that 4,096
# columns need 200,000 with a beam of 64; noise has a hundred, and took 39 s.
MOST_EXPANSIONS = 400_000


def greedy(log_probs: NDArray[Any]) -> list[int]:
    """The text of the likeliest path of FP [steps, classes], as classes without blanks."""
    best = log_probs.argmax(1)
    kept = best != BLANK
    kept[1:] &= best[1:] != best[:-1]
    return best[kept].tolist()


def beam_search(
    log_probs: NDArray[Any], width: int, least_probability: float = LEAST_PROBABILITY
) -> list[int]:
    """A likely text of FP [steps, classes], natural logarithms, as classes without blanks.

    Prefix beam search: after every step the `width` likeliest beginnings of a text remain, each with the
    probability of all of its paths, those that end in a blank apart. With no limit on width it finds the
    likeliest text. Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition using
    Bi-Directional Recurrent DNNs", arXiv 1408.2873, algorithm 1, without a language model.

    Where so many classes are likely that this would take many seconds, as in noise, the beam is narrower.
    """
    all_probabilities = np.exp(log_probs.astype(np.float64))
    all_likely = all_probabilities > least_probability
    width = max(1, min(width, MOST_EXPANSIONS // max(1, np.count_nonzero(all_likely))))
    parents, lasts = [0], [BLANK]  # the beginnings as a tree: each is its parent and one more class
    children: dict[tuple[int, int], int] = {}
    beams = {0: (1.0, 0.0)}  # the probabilities of the paths that end in a blank, and in the last class
    for probabilities, is_likely in zip(all_probabilities, all_likely, strict=True):
        likely = np.flatnonzero(is_likely).tolist()
        step = dict(zip(likely, probabilities[likely].tolist(), strict=True))
        blank = step.pop(BLANK, 0.0)
        grown: dict[int, list[float]] = {}
        for beam, (in_blank, in_last) in beams.items():
            both = in_blank + in_last
            last = lasts[beam]
            same = grown.setdefault(beam, [0.0, 0.0])
            same[0] += both * blank
            same[1] += in_last * step.get(last, 0.0)
            for character, probability in step.items():
                child = children.get((beam, character))
                if child is None:
                    child = children[beam, character] = len(lasts)
                    parents.append(beam)
                    lasts.append(character)
                before = in_blank if character == last else both
                grown.setdefault(child, [0.0, 0.0])[1] += before * probability
        best = nlargest(width, grown.items(), key=_total)
        scale = 1 / (_total(best[0]) or 1.0)  # keeps long lines within the range of floats
        beams = {beam: (pair[0] * scale, pair[1] * scale) for beam, pair in best}
    beam, text = next(iter(beams)), []
    while beam:
        text.append(lasts[beam])
        beam = parents[beam]
    return text[::-1]


def log_probability(log_probs: list[NDArray[Any]], texts: list[list[int]]) -> NDArray[Any]:
    """The natural logarithm of the probability of one text for each FP [steps, classes]; FP64 [n].

    The forward algorithm (Graves et al., section 4.1) over the text with blanks around and between its
    classes, for all lines at once. -inf for a text that no path gives.
    """
    steps = max(map(len, log_probs), default=0)
    states = 2 * max(map(len, texts), default=0) + 1
    rows = np.arange(len(texts))
    labels = np.zeros((len(texts), states), np.intp)
    # After the end of a line only "blank" remains, with probability 1: it changes no sum.
    probabilities = np.zeros((steps, len(texts), log_probs[0].shape[1] if texts else 1))
    probabilities[:, :, BLANK] = 1
    for line, (line_log_probs, text) in enumerate(zip(log_probs, texts, strict=True)):
        labels[line, 1 : 2 * len(text) : 2] = text
        probabilities[: len(line_log_probs), line] = np.exp(line_log_probs.astype(np.float64))
    skips = np.zeros((len(texts), states))  # 1 where the blank before a class may be left out
    skips[:, 3::2] = labels[:, 3::2] != labels[:, 1:-2:2]

    forward = np.zeros((len(texts), states + 2))  # two more in front, always 0, to look back at
    forward[:, 2] = 1  # as if a blank had gone before
    logarithm = np.zeros(len(texts))
    for step in range(steps):
        arrived = forward[:, 2:] + forward[:, 1:-1] + forward[:, :-2] * skips
        arrived *= probabilities[step][rows[:, None], labels]
        forward[:, 2:] = arrived
        if step % 8 == 7:
            logarithm += _rescale(forward)
    logarithm += _rescale(forward)
    ends = 2 * np.array([len(text) for text in texts], np.intp) + 2
    with np.errstate(divide="ignore"):
        return logarithm + np.log(forward[rows, ends] + np.where(ends > 2, forward[rows, ends - 1], 0))


def align(log_probs: NDArray[Any], text: list[int]) -> list[tuple[int, int]]:
    """The steps that made each class of `text`, first and behind the last, on the likeliest of its paths.

    log_probs: FP [steps, classes]. The Viterbi algorithm over the same states as `log_probability`, with
    blanks around and between the classes; the text has a path in so many steps, as what was decoded has.
    """
    labels = np.zeros(2 * len(text) + 1, np.intp)
    labels[1::2] = text
    scores = log_probs.astype(np.float64)[:, labels]
    may_skip = np.zeros(len(labels), bool)  # the blank before a class that is another than the last
    may_skip[3::2] = labels[3::2] != labels[1:-2:2]
    best = np.full(len(labels), -np.inf)
    best[:2] = scores[0, :2]
    came_from = np.zeros(scores.shape, np.int8)  # so many states further left
    for step in range(1, len(scores)):
        before = np.concatenate(([-np.inf, -np.inf], best))
        choices = np.stack((best, before[1:-1], np.where(may_skip, before[:-2], -np.inf)))
        came_from[step] = choices.argmax(0)
        best = choices.max(0) + scores[step]
    state = len(labels) - 1
    if text and best[state - 1] > best[state]:
        state -= 1
    spans = [(len(scores), 0)] * len(text)
    for step in range(len(scores) - 1, -1, -1):
        if state % 2:
            first, end = spans[state // 2]
            spans[state // 2] = min(first, step), max(end, step + 1)
        state -= int(came_from[step, state])
    return spans


def _total(beam: tuple[int, list[float]]) -> float:
    return beam[1][0] + beam[1][1]


def _rescale(forward: NDArray[Any]) -> NDArray[Any]:
    """Divides each row by its largest value and returns the logarithm of that."""
    largest = forward.max(1, keepdims=True)
    largest[largest == 0] = 1
    forward /= largest
    return np.log(largest[:, 0])
