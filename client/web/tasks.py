"""What the page asks the server, and the answers as JSON; knows nothing of HTTP."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import anyio
from PIL import Image

from ..clients.aio import AsyncVisionClient
from ..common import defaults
from ..errors import AccessDenied, InvalidInput
from ..images.overlays import coloured, scaled
from ..results import Detections, Explanation, Faces, ModelStatistics, Prediction, TextExplanation

__all__ = ["TASKS", "answer"]

COUNTED_WITHIN_S = 0.1  # the server counts a request just after it has answered
BETWEEN_S = 0.005

Result: TypeAlias = Prediction | Detections | Faces | TextExplanation | Explanation
Ask: TypeAlias = Callable[[AsyncVisionClient, bytes, int | None], Awaitable[Result]]


@dataclass(frozen=True)
class Task:
    """One of the things to recognise: by which model, and how it is asked."""

    model: str
    ask: Ask


async def _objects(vision: AsyncVisionClient, image: bytes, class_id: int | None) -> Prediction:
    return await vision.classify(image)


async def _located(vision: AsyncVisionClient, image: bytes, class_id: int | None) -> Detections:
    return await vision.detect(image)


async def _scene(vision: AsyncVisionClient, image: bytes, class_id: int | None) -> Prediction:
    return await vision.classify(image, model=defaults.SCENE_CLASSIFIER)


async def _faces(vision: AsyncVisionClient, image: bytes, class_id: int | None) -> Faces:
    return await vision.detect_faces(image)


async def _text(vision: AsyncVisionClient, image: bytes, class_id: int | None) -> TextExplanation:
    return await vision.explain_text(image)


async def _explanation(vision: AsyncVisionClient, image: bytes, class_id: int | None) -> Explanation:
    return await vision.explain(image, class_id)


TASKS = {
    "objects": Task(defaults.CLASSIFIER, _objects),
    "located": Task(defaults.DETECTOR, _located),
    "scene": Task(defaults.SCENE_CLASSIFIER, _scene),
    "faces": Task(defaults.FACE_DETECTOR, _faces),
    "text": Task(defaults.LINE_READER, _text),
    "explanation": Task(defaults.EXPLAINER, _explanation),
}


async def answer(vision: AsyncVisionClient, name: str, image: bytes, class_id: int | None) -> dict[str, Any]:
    """What the server says to the task `name`, and where the time went, as JSON has it.

    class_id: of an explanation, the class that is asked about; None: the likeliest. Raises VisionError.
    """
    task = TASKS[name]
    if class_id is not None and name != "explanation":
        raise InvalidInput(f"class is of an explanation, not of {name}.")
    before = await _statistics(vision, task.model)
    began = time.perf_counter()
    found = await task.ask(vision, image, class_id)
    client_ms = 1000 * (time.perf_counter() - began)
    server = await _spent(vision, task.model, found.version, before)
    return {
        "task": name,
        "model": found.model,
        "version": found.version,
        "weights": found.weights,
        "has_random_weights": found.has_random_weights,
        **await anyio.to_thread.run_sync(_told, found),
        "timing": {"client_ms": client_ms, "server": server},
    }


async def _statistics(vision: AsyncVisionClient, model: str) -> dict[str, ModelStatistics] | None:
    """By version; None where the server keeps them to itself."""
    try:
        return {one.version: one for one in await vision.statistics(model)}
    except AccessDenied:
        return None


async def _spent(
    vision: AsyncVisionClient, model: str, version: str, before: dict[str, ModelStatistics] | None
) -> dict[str, float] | None:
    """Milliseconds per request in the server, over the requests of all clients since `before`."""
    if before is None or version not in before:
        return None
    earlier = before[version]
    for _ in range(round(COUNTED_WITHIN_S / BETWEEN_S)):
        later = (await _statistics(vision, model) or {}).get(version)
        if later and (requests := later.requests - earlier.requests) > 0:
            return {
                "requests": requests,
                "total_ms": (later.total_ms - earlier.total_ms) / requests,
                "queue_ms": (later.queue_ms - earlier.queue_ms) / requests,
                "compute_ms": (later.compute_ms - earlier.compute_ms) / requests,
            }
        await anyio.sleep(BETWEEN_S)
    return None


def _told(found: Result) -> dict[str, Any]:
    if isinstance(found, Prediction):
        return {"classes": [asdict(one) for one in found.classes]}
    if isinstance(found, Detections):
        return {"objects": [asdict(one) for one in found.objects]}
    if isinstance(found, Faces):
        return {"faces": [asdict(face) for face in found.faces]}
    if isinstance(found, TextExplanation):
        characters = [{**asdict(one), "colour": _colour(one.confidence)} for one in found.characters]
        return {"text": found.text, "confidence": found.confidence, "characters": characters}
    return {
        "label": found.label,
        "index": found.index,
        "probability": found.probability,
        "crop": found.crop,
        "layer": base64.b64encode(_layer(found)).decode(),
    }


def _layer(found: Explanation) -> bytes:
    """A PNG to lay over the crop: the colours of `overlay`, as opaque as the evidence is strong."""
    heat = scaled(found.heatmap)
    layer = coloured(heat)
    layer.putalpha(heat)
    file = io.BytesIO()
    layer.save(file, "PNG")
    return file.getvalue()


def _colour(confidence: float) -> str:
    """As `text_overlay` draws it, "#fde725"."""
    level = round(255 * min(1, max(0, confidence)))
    red, green, blue = coloured(Image.new("L", (1, 1), level)).tobytes()
    return f"#{red:02x}{green:02x}{blue:02x}"
