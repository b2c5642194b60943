"""What a detector's file says of itself beside its outputs: its size, its task, the names of its classes."""

import ast
import json
from collections.abc import Sequence
from typing import Any

import onnx

from export.common.errors import DetectorError

__all__ = ["check_task", "class_names", "image_size"]

TASKS = {  # those of ultralytics that answer more than upright boxes
    "obb": "boxes that are turned",
    "pose": "key points",
    "segment": "masks",
    "classify": "classes without boxes",
}
MOST_CLASSES = 100_000


def image_size(
    model: onnx.ModelProto, shape: Sequence[int | str | None], given: Sequence[int] | None
) -> tuple[int, int]:
    """Height and width of a detector's only input, [batch, 3, height, width] or [batch, height, width, 3].

    given: dims of --dims, without the batch. Raises `DetectorError` where nothing tells them, or both do.
    """
    name = model.graph.input[0].name
    if shape and isinstance(shape[0], int) and shape[0] > 1:
        raise DetectorError(
            f"its input {name} is {list(shape)}, of {shape[0]} photographs at a time: export it with an open "
            "batch (ultralytics: dynamic=True), or with a batch of 1"
        )
    if len(shape) != 4 or not (shape[1] == 3 or shape[3] == 3 or given):
        raise DetectorError(
            f"its input {name} is {list(shape)}; a detector takes [batch, 3, height, width], or [batch, "
            "height, width, 3]"
        )
    if given and (len(given) != 3 or not all(map(_fits, shape[1:], given))):
        raise DetectorError(
            f"--dims {name}={','.join(map(str, given))}: its input is {list(shape)}, the batch first; give a "
            "number for each of the others, those that it has included"
        )
    dims = list(given or shape[1:])
    sizes = dims[1:] if dims[0] == 3 else dims[:2]
    if all(isinstance(size, int) and size > 0 for size in sizes):
        return int(sizes[0] or 0), int(sizes[1] or 0)
    trained = _value(model, "imgsz")
    if isinstance(trained, list) and len(trained) == 2 and all(isinstance(size, int) for size in trained):
        return trained[0], trained[1]
    raise DetectorError(
        f"its input {name} is {list(shape)}, of any size, and a pipeline has one: give that which it was "
        f"trained at, such as --dims {name}=3,640,640"
    )


def _fits(dim: int | str | None, given: int) -> bool:
    return not isinstance(dim, int) or dim == given


def check_task(model: onnx.ModelProto) -> None:
    """Raises `DetectorError` where the file says that it does something else than find upright boxes."""
    task = next((entry.value for entry in model.metadata_props if entry.key == "task"), "")
    if task in TASKS:
        raise DetectorError(
            f"its metadata say that its task is {task}: it answers {TASKS[task]}, which no pipeline of boxes "
            "serves. Give a network of the task detect"
        )


def class_names(model: onnx.ModelProto) -> list[str] | None:
    """Those that the file's metadata tell, as ultralytics writes them: a list, or a mapping from numbers.

    A number without a name is "class N". None where there are none; raises `DetectorError` for what is no
    such thing, as names that are left out would name other classes.
    """
    names = _value(model, "names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        return None
    try:
        numbered = {int(number): str(name) for number, name in names.items()}
    except (TypeError, ValueError):
        numbered = {}
    if len(numbered) != len(names) or min(numbered) < 0 or max(numbered) >= MOST_CLASSES:
        raise DetectorError(
            f"the names of classes in its metadata are {str(names)[:80]}, and not numbered from 0: give them "
            "with --labels FILE, one per line"
        )
    return [numbered.get(number, f"class {number}") for number in range(max(numbered) + 1)]


def _value(model: onnx.ModelProto, key: str) -> Any:
    """As Python or JSON writes it; None where the file does not say, or what cannot be read."""
    text = next((entry.value for entry in model.metadata_props if entry.key == key), "")
    for read in (ast.literal_eval, json.loads):
        try:
            return read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return None
