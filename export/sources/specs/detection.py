"""What a pipeline from photographs to boxes is, beside its detector."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from unicodedata import category

from export.common.errors import SpecError

__all__ = ["LETTERBOX", "STRETCH", "Detection"]

LETTERBOX, STRETCH = "letterbox", "stretch"
UNNAMEABLE = ("Cc", "Zl", "Zp", "Cs")  # Unicode's control characters, line and paragraph ends, surrogates


@dataclass(frozen=True)
class Detection:
    """What a pipeline makes of photographs, and of what its detector answers. Raises `SpecError` for no such
    thing.

    name, detector   of the pipeline, and of the model that it calls: `image` UINT8 [height, width, 3] to
    `boxes`
                     FP32 [places, 4], left, top, right and bottom in pixels of the input, and `scores` FP32
                     [places, classes]
    width, height    of the detector's input, in pixels
    fit              "letterbox", photographs in proportion with grey borders, or "stretch"
    labels           returns the name of each class
    score_threshold, iou_threshold
                     what a request gets that does not say; an iou_threshold of 1 drops no box for another
    detector_batch   the most photographs that the detector takes at a time
    family           what the detector's scores and boxes are made of; a threshold for one means nothing to
                     another
    """

    name: str
    detector: str
    width: int
    height: int
    fit: str
    labels: Callable[[], Sequence[str]]
    score_threshold: float = 0.4
    iou_threshold: float = 0.6
    detector_batch: int = 16
    family: str = "own"

    def __post_init__(self) -> None:
        if self.fit not in (LETTERBOX, STRETCH):
            raise SpecError(f"fit of {self.name} is {self.fit!r}; choose {LETTERBOX} or {STRETCH}")

    def label_text(self) -> str:
        """`labels.txt`, one name per line. Raises `SpecError` for names that a request could not ask for."""
        labels = list(self.labels())
        for number, label in enumerate(labels):
            if not label.strip() or "," in label or any(category(sign) in UNNAMEABLE for sign in label):
                raise SpecError(
                    f"the name of class {number} of {self.name} is {label!r}; it needs one without commas, "
                    "line breaks and control characters: labels.txt has a line for each class, and "
                    "requests name classes with commas between them. Give other names with --labels FILE"
                )
        if not labels:
            raise SpecError(f"{self.name} has no classes")
        return "".join(f"{label.strip()}\n" for label in labels)
