"""Writes facenet_reference.json beside this file: what facenet-pytorch's own MTCNN finds in the photographs.

    python -m tests.serving.facenet_reference

Tests compare detect_faces with that file, so that they need no further package. Here the package's own code
runs, out of its wheel and as it is. It imports torchvision, of which MTCNN uses one function, and packages
that it does not use for this: both are stood in for, the function by a plain one that does what torchvision's
pages say of it.
"""

import importlib.metadata
import json
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from PIL import Image, ImageOps

from export.common.packages import FACENET_PYTORCH, fetch, file_sha256
from export.sources.face_photographs import face_photographs

REFERENCE = Path(__file__).with_suffix(".json")


def batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, image_numbers: torch.Tensor, most: float
) -> torch.Tensor:
    """Greedy non-maximum suppression of the boxes of one image, best first: IoU above `most` goes."""
    assert not image_numbers.any(), "one photograph at a time"
    corners = boxes.numpy().astype(np.float64)
    stays: list[int] = []
    for index in np.argsort(-scores.numpy(), kind="stable"):
        if all(iou(corners[index], corners[other]) <= most for other in stays):
            stays.append(int(index))
    return torch.tensor(stays, dtype=torch.int64)


def iou(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def stand_in(name: str, **members: object) -> None:
    module = ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module


def main() -> None:
    for name in ("torchvision", "torchvision.ops", "requests"):
        stand_in(name)
    stand_in("torchvision.transforms", functional=None)
    stand_in("torchvision.ops.boxes", batched_nms=batched_nms)
    stand_in("requests.adapters", HTTPAdapter=None)
    stand_in("tqdm", tqdm=None)
    wheel = fetch(FACENET_PYTORCH)
    folder = wheel.parent.parent / "files" / "facenet-reference"
    folder.mkdir(parents=True, exist_ok=True)
    zipfile.ZipFile(wheel).extractall(folder)
    sys.path.insert(0, str(folder))
    from facenet_pytorch import MTCNN

    detector = MTCNN(keep_all=True)
    found = {}
    for photograph in face_photographs():
        image = ImageOps.exif_transpose(Image.open(photograph.path)).convert("RGB")
        boxes, scores, landmarks = detector.detect(image, landmarks=True)
        found[photograph.name] = {
            "sha256": file_sha256(photograph.path),
            "boxes": [] if boxes is None else rounded(boxes),
            "scores": [] if boxes is None else rounded(scores, 6),
            "landmarks": [] if boxes is None else rounded(landmarks),
        }
    packages = ("torch", "numpy", "pillow")
    versions = {name: importlib.metadata.version(name) for name in packages}
    made_by = {"facenet-pytorch": FACENET_PYTORCH.requirement.partition("==")[2], **versions}
    REFERENCE.write_text(json.dumps({"made_by": made_by, "photographs": found}, indent=1) + "\n")
    print(
        f"{sum(len(one['scores']) for one in found.values())} faces in {len(found)} photographs: {REFERENCE}"
    )


def rounded(array, digits: int = 3):
    return np.asarray(array, np.float64).round(digits).tolist()


if __name__ == "__main__":
    main()
