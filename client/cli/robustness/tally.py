"""What came out: how many photographs were answered as before, and how many rightly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...images.corruptions import CORRUPTIONS, STRENGTHS
from ...results import Prediction
from .photographs import Photograph

__all__ = ["UNDISTURBED", "Tally", "Variant", "interval"]

Z = 1.96  # of the normal distribution, for 95 %


@dataclass(frozen=True)
class Variant:
    """One corruption at one strength."""

    corruption: str | None  # None: the photograph as it is
    strength: int = 0

    @property
    def level(self) -> float | None:
        """What the strength means, in the corruption's unit."""
        if self.corruption is None:
            return None
        return CORRUPTIONS[self.corruption].levels[STRENGTHS.index(self.strength)]


UNDISTURBED = Variant(None)


@dataclass
class Tally:
    """Counts of the photographs whose variants were all answered, so that each count is of the same ones.

    variants: in the order of the answers, `UNDISTURBED` first. classes: those that a label means; None where
    nobody says what the photographs show.
    """

    variants: Sequence[Variant]
    classes: Mapping[str, frozenset[int]] | None = None
    images: int = 0
    agreeing: Counter[Variant] = field(default_factory=Counter)
    correct: Counter[Variant] = field(default_factory=Counter)
    answered_by: dict[tuple[str, str, str | None], None] = field(default_factory=dict)  # in order
    has_random_weights: bool = False

    def add(self, photograph: Photograph, answers: Sequence[Prediction]) -> None:
        """Counts one photograph; answers: of its variants."""
        right = self.classes[photograph.label or ""] if self.classes is not None else frozenset()
        self.images += 1
        for variant, answer in zip(self.variants, answers, strict=True):
            self.agreeing[variant] += answer.best.index == answers[0].best.index
            self.correct[variant] += answer.best.index in right
            self.answered_by[answer.model, answer.version, answer.weights] = None
            self.has_random_weights |= answer.has_random_weights

    @property
    def measure(self) -> str:
        """What is shown: the accuracy, where labels are known, else the agreement."""
        return "agreement" if self.classes is None else "accuracy"

    def count(self, variant: Variant) -> int:
        """How many photographs the measure counts."""
        return (self.agreeing if self.classes is None else self.correct)[variant]

    def of(self, corruption: str) -> list[Variant]:
        """The strengths of a corruption that were asked, weakest first."""
        return [variant for variant in self.variants if variant.corruption == corruption]

    @property
    def corruptions(self) -> list[str]:
        """Those that were asked, in order."""
        return list(dict.fromkeys(one.corruption for one in self.variants if one.corruption))


def interval(count: float, images: int) -> tuple[float, float]:
    """Between which shares 95 % lie, by Wilson's score interval (1927); images: 1 or more."""
    share, spread = count / images, Z * Z / images
    middle = (share + spread / 2) / (1 + spread)
    half = (spread * share * (1 - share) + spread * spread / 4) ** 0.5 / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
