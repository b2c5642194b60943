"""What a pipeline from photographs to boxes is, beside its detector."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from export.common.errors import SpecError

__all__ = ["LETTERBOX", "STRETCH", "Detection"]

LETTERBOX, STRETCH = "letterbox", "stretch"


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

    def __post_init__(self) -> None:
        if self.fit not in (LETTERBOX, STRETCH):
            raise SpecError(f"fit of {self.name} is {self.fit!r}; choose {LETTERBOX} or {STRETCH}")

    def label_text(self) -> str:
        """`labels.txt`, one name per line. Raises `SpecError` for names that a request could not ask for."""
        labels = list(self.labels())
        if not labels or any(not label.strip() or "\n" in label or "," in label for label in labels):
            raise SpecError(
                f"the labels of {self.name} need one name per class, without line breaks and commas: "
                "requests name classes with commas between them"
            )
        return "\n".join(labels) + "\n"
