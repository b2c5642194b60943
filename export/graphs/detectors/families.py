"""The families of detectors: what their outputs hold, and how photographs are handed to them.

Outputs as their projects export them, without the batch:

`yolo`         [4 + classes, places], or turned: centre, width and height in pixels, then a probability for
               each class (YOLOv8 to v13)
`yolo-object`  [places, 5 + classes]: the fifth number is that of any object, which multiplies the others
               (YOLOv5, v7, YOLOX with --decode_in_inference)
`end-to-end`   [boxes, 6]: corners in pixels, a score and a class, overlaps dropped inside (YOLOv10, nms=True)
`queries`      [queries, 4 + classes]: centre, width and height in shares of the input, then a probability for
               each class (RT-DETR of ultralytics)
`rt-detr`      logits [queries, classes], each class by itself, and boxes [queries, 4]: centre, width and
               height in shares of the input (RT-DETR, RF-DETR, D-FINE)
`detr`         the same, but softmax over the classes and a last one for none (DETR)
`ssd`          probabilities [places, 1 + classes], the first of which is none, or the last, and boxes
               [places, 4]
`boxes-and-scores`
               boxes [places, 4], and probabilities [places, classes] or turned, each class by itself
"""

from dataclasses import dataclass

from export.sources.specs.detection import LETTERBOX, STRETCH

__all__ = ["AUTO", "FAMILIES", "PIXELS", "Family", "Pixels"]

AUTO = "auto"


@dataclass(frozen=True)
class Pixels:
    """(pixel - mean) / std of red, green and blue, from 0 to 255."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# unit: 0 to 1; bytes: 0 to 255; signed: -1 to 1; imagenet: less the mean, by the deviation, of its
# photographs
PIXELS = {
    "unit": Pixels((0, 0, 0), (255, 255, 255)),
    "bytes": Pixels((0, 0, 0), (1, 1, 1)),
    "signed": Pixels((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "imagenet": Pixels((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}


@dataclass(frozen=True)
class Family:
    """name: as above. pixels: a key of `PIXELS`, "" where each project has its own. fit, score_threshold and
    iou_threshold: as of `Detection` (1: the graph has dropped overlaps). boxes: a key of `FORMATS`, "" where
    each project has its own. others: who takes other pixels than these, or which, for people to read.
    queries: places are no grid's, and boxes are shares of the input."""

    name: str
    pixels: str
    fit: str
    score_threshold: float
    iou_threshold: float
    boxes: str = ""
    others: str = ""
    queries: bool = False


OTHER_QUERIES = "RF-DETR, Deformable DETR and DINO take --pixels imagenet"
FAMILIES = {
    family.name: family
    for family in (
        Family("yolo", "unit", LETTERBOX, 0.25, 0.7, "cxcywh"),
        Family("yolo-object", "unit", LETTERBOX, 0.25, 0.45, "cxcywh"),
        Family("end-to-end", "unit", LETTERBOX, 0.25, 1.0, "xyxy"),
        Family("queries", "unit", STRETCH, 0.5, 1.0, "cxcywh", queries=True),
        Family("rt-detr", "unit", STRETCH, 0.5, 1.0, "cxcywh", OTHER_QUERIES, queries=True),
        Family("detr", "imagenet", STRETCH, 0.5, 1.0, "cxcywh", queries=True),
        Family("ssd", "", STRETCH, 0.5, 0.45),
        Family("boxes-and-scores", "", LETTERBOX, 0.3, 0.5),
    )
}
