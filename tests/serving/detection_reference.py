"""What `detect_objects` is to answer, worked out another way: photographs opened with Pillow, npm's graph run
op by op, boxes dropped in a plain loop."""

import io

import numpy as np
from PIL import Image, ImageOps

from tests.nanodet_graph import boxes_and_scores

SIDE, GREY = 416, 114
SCORE, IOU = 0.4, 0.6  # those of detect_objects
SAME_SCORE = 1e-3


def upright(encoded):
    """In RGB, transparent pixels over white."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    if image.mode.startswith("I"):  # 16 bits; Pillow would clip them
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.has_transparency_data:
        over = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(over, image.convert("RGBA"))
    return image.convert("RGB")


def letterboxed(image):
    """UINT8 [416, 416, 3], the scales of both sides, and left and top of the photograph in it."""
    scale = SIDE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    left, top = (SIDE - width) // 2, (SIDE - height) // 2
    whole = Image.new("RGB", (SIDE, SIDE), (GREY,) * 3)
    whole.paste(image.resize((width, height), Image.Resampling.BICUBIC), (left, top))
    return np.asarray(whole), (image.width / width, image.height / height), (left, top)


def shared(one, other):
    """What both boxes share, of what they cover together."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(0, width) * max(0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return common / (sum(areas) - common) if common else 0


def expected(encoded, score=SCORE, iou=IOU):
    """What is to be answered, best first: [(box in pixels of the upright photograph, score, class, ties)].
    Ties are boxes of the class whose scores are the same but for rounding, so that they may be answered
    instead."""
    image = upright(encoded)
    pixels, scales, start = letterboxed(image)
    boxes, scores = boxes_and_scores(pixels)
    own = np.clip((boxes.reshape(-1, 2, 2) - start) * scales, 0, image.size).reshape(-1, 4)
    candidates = sorted(zip(*np.nonzero(scores >= score), strict=True), key=lambda pair: -scores[pair])
    kept = []
    for place, number in candidates:
        if all(other != number or shared(boxes[place], boxes[at]) <= iou for at, other in kept):
            kept.append((place, number))
    found = []
    for place, number in kept:
        if (own[place, 2:] > own[place, :2]).all():
            ties = own[np.abs(scores[:, number] - scores[place, number]) < SAME_SCORE]
            found.append((own[place], float(scores[place, number]), int(number), ties))
    return found
