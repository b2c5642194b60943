"""How far heatmaps can be trusted: deletion, insertion, and the pointing game, through the server.

    python -m perf explanations
    python -m perf explanations --output perf/results/explanations.json
    python -m perf explanations --masks 400 --as-photographed --output perf/results/explanations-masked.json

Deletion blurs a photograph away, the hottest places first, and asks the network at every step how probable
the photograph's class still is: the sooner it falls, the better the heatmap knew what mattered. Insertion
begins with the blurred photograph and brings the hottest places back (Petsiuk et al., "RISE", BMVC 2018).
Both are done by the heatmap and by baselines that do not look: the centre first; random maps as coarse as
the network's own; and random pixels, which is noise over the whole photograph.

Photographs are taken as they are, and made smaller in each corner of a texture, where the centre is wrong.
There the pointing game asks whether the hottest place lies in the photograph, which chance does as often as
its share of the area.

`--masks` measures the heatmap of so many masked copies beside the class activation map.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from statistics import mean
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from rich.table import Table

from export.model_code.decoding import CROP, RESIZE, decode
from export.sources.photographs import Photograph, photographs
from perf.harness.commands import add_result_options, console, hand_over, say
from perf.harness.errors import PerfError
from perf.harness.inputs import read_config
from perf.harness.raw import RawResult, output_path, record
from perf.harness.serving import ServedModel, serving
from perf.summaries.explanations import CURVES, HEATMAP, MASKED, METHODS, WHERE, beaten, measured

__all__ = ["areas_of", "orders", "stages"]

MODEL = "explain_objects"
BLUR = 20  # pixels, the deviation; what is blurred so has no class
CELLS = 7  # of a side of a random map, as the network's own
PASTED = 112  # pixels of a side, a quarter of the area
BACKGROUNDS = ("grass", "brick", "gravel")  # textures, which are no class of their own
SEED = 0
MOST = 8  # images of a request

Pixels = NDArray[np.uint8]  # [224, 224, 3]
Order = NDArray[np.floating[Any]]  # [224, 224]: the largest first


@dataclass(frozen=True)
class Scene:
    """What the network sees: pixels, the class, and the box of the photograph in them."""

    pixels: Pixels
    class_id: int
    top: int = 0
    left: int = 0
    side: int = CROP


class Asker:
    """The served models: heatmaps of the one, probabilities of the CNN behind it."""

    def __init__(self, served: ServedModel, cnn: str, client: grpc.InferenceServerClient) -> None:
        self._model, self._cnn, self._client = served.model, cnn, client

    def heatmap(self, scene: Scene, masks: int = 0) -> NDArray[np.float32]:
        """FP32 [224, 224], of the class map, or of that many masked copies.

        The pixels travel as a PNG that the decoder leaves as they are.
        """
        margin = (RESIZE - CROP) // 2
        whole = np.pad(scene.pixels, ((margin, margin), (margin, margin), (0, 0)))
        file = BytesIO()
        Image.fromarray(whole).save(file, "PNG")
        image, class_id = grpc.InferInput("encoded_image", [1, 1], "BYTES"), self._class(1, scene.class_id)
        image.set_data_from_numpy(np.array([[file.getvalue()]], object))
        answer = self._client.infer(self._model, [image, class_id], parameters={"masks": masks})
        return np.asarray(answer.as_numpy("heatmap")[0])

    def probabilities(self, images: NDArray[np.uint8], class_id: int) -> list[float]:
        """Of the class, for each of UINT8 [n, 224, 224, 3]."""
        found: list[float] = []
        for start in range(0, len(images), MOST):
            batch = images[start : start + MOST]
            tensor = grpc.InferInput("image", list(batch.shape), "UINT8")
            tensor.set_data_from_numpy(batch)
            wanted = [grpc.InferRequestedOutput("probabilities")]
            answer = self._client.infer(
                self._cnn, [tensor, self._class(len(batch), class_id)], outputs=wanted
            )
            found += answer.as_numpy("probabilities")[:, class_id].tolist()
        return found

    @staticmethod
    def _class(count: int, class_id: int) -> grpc.InferInput:
        tensor = grpc.InferInput("class_id", [count, 1], "INT32")
        tensor.set_data_from_numpy(np.full((count, 1), class_id, np.int32))
        return tensor


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and keep the result; returns the exit code. Raises `PerfError`."""
    output = output_path(arguments.output, "explanations")
    cnn = read_config(MODEL).parameters["cnn"].string_value
    found = [photograph for photograph in photographs() if photograph.class_index is not None]
    chosen = found[: arguments.photographs]
    if not chosen:
        raise PerfError(f"--photographs is {arguments.photographs}; there are {len(found)}, take 1 or more")
    backgrounds = [decode(one.path.read_bytes()) for one in photographs() if one.name in BACKGROUNDS]
    results = []
    with serving(MODEL) as served, grpc.InferenceServerClient(served.grpc_url) as client:
        asker = Asker(served, cnn, client)
        for number, photograph in enumerate(chosen, 1):
            say(f"{number} of {len(chosen)}: {photograph.name}")
            results += list(_measured(asker, photograph, backgrounds, number, arguments))
        raw = record(
            "explanations",
            model=served.facts,
            composing=served.composing,
            steps=arguments.steps,
            random_orders=arguments.random,
            masks=arguments.masks,
            blur=BLUR,
            pasted=PASTED,
            photographs=results,
        )
    hand_over(raw, output, as_json=arguments.json, show=_show)
    return 0


def _measured(
    asker: Asker,
    photograph: Photograph,
    backgrounds: list[Pixels],
    number: int,
    arguments: argparse.Namespace,
) -> Iterator[dict[str, Any]]:
    """One result for the photograph as it is, and one for it in the four corners."""
    pixels, class_id = decode(photograph.path.read_bytes()), photograph.class_index or 0
    whole = [Scene(pixels, class_id)]
    small = np.asarray(Image.fromarray(pixels).resize((PASTED, PASTED), Image.Resampling.LANCZOS))
    corners = []
    for turn, (top, left) in enumerate(np.ndindex(2, 2)):
        canvas = backgrounds[(number + turn) % len(backgrounds)].copy()
        top, left = top * (CROP - PASTED), left * (CROP - PASTED)
        canvas[top : top + PASTED, left : left + PASTED] = small
        corners.append(Scene(canvas, class_id, top, left, PASTED))
    random = np.random.default_rng([SEED, number])
    for where, scenes in zip(WHERE, (whole, [] if arguments.as_photographed else corners), strict=True):
        if not scenes:
            continue
        yield {
            "name": photograph.name,
            "class_id": class_id,
            "where": where,
            **_of_scenes(asker, scenes, random, arguments),
        }


def _of_scenes(
    asker: Asker, scenes: list[Scene], random: np.random.Generator, arguments: argparse.Namespace
) -> dict[str, Any]:
    curves: dict[str, dict[str, list[list[float]]]] = {}
    pointing = []
    probabilities = []
    for scene in scenes:
        heatmap = asker.heatmap(scene)
        pointing.append(_pointed(heatmap, scene))
        blurred = np.asarray(Image.fromarray(scene.pixels).filter(ImageFilter.GaussianBlur(BLUR)))
        probabilities += asker.probabilities(scene.pixels[None], scene.class_id)
        found = list(orders(heatmap, random, arguments.random))
        if arguments.masks:
            found.insert(1, (MASKED, asker.heatmap(scene, arguments.masks)))
        for method, order in found:
            of_method = curves.setdefault(method, {curve: [] for curve in CURVES})
            for curve, begin, end in (
                ("deletion", scene.pixels, blurred),
                ("insertion", blurred, scene.pixels),
            ):
                images = stages(begin, end, order, arguments.steps)
                of_method[curve].append(asker.probabilities(images, scene.class_id))
    means = {
        method: {curve: np.mean(many, 0).tolist() for curve, many in of_method.items()}
        for method, of_method in curves.items()
    }
    return {
        "probability": mean(probabilities),
        "areas": areas_of(means),
        "curves": {
            m: {c: [round(v, 5) for v in values] for c, values in of.items()} for m, of in means.items()
        },
        "pointed": [hit for hit, _ in pointing],
        "heat_inside": [round(share, 4) for _, share in pointing],
    }


def orders(heatmap: Order, random: np.random.Generator, repeats: int) -> Iterator[tuple[str, Order]]:
    """The heatmap and the baselines, each as numbers of which the largest come first."""
    yield HEATMAP, heatmap
    rows, columns = np.indices(heatmap.shape)
    middle_row, middle_column = ((side - 1) / 2 for side in heatmap.shape)
    yield "centre", -np.hypot(rows - middle_row, columns - middle_column)
    for _ in range(repeats):
        coarse = Image.fromarray(random.random((CELLS, CELLS)).astype(np.float32))
        yield (
            "random map",
            np.asarray(coarse.resize((heatmap.shape[1], heatmap.shape[0]), Image.Resampling.BILINEAR)),
        )
    yield "random pixels", random.random(heatmap.shape)


def stages(begin: Pixels, end: Pixels, order: Order, steps: int) -> NDArray[np.uint8]:
    """UINT8 [steps + 1, ...]: `begin`, with ever more pixels of `end`, the largest of `order` first."""
    places = np.argsort(-order.ravel(), kind="stable")
    images = np.repeat(begin[None], steps + 1, 0)
    flat, source = images.reshape(steps + 1, -1, begin.shape[-1]), end.reshape(-1, end.shape[-1])
    for step in range(1, steps + 1):
        taken = places[: round(step * len(places) / steps)]
        flat[step, taken] = source[taken]
    return images


def areas_of(curves: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """The area below each curve, by trapezoids over 0 to 1."""
    return {
        method: {
            curve: float(np.mean((np.array(values[1:]) + np.array(values[:-1])) / 2))
            for curve, values in found.items()
        }
        for method, found in curves.items()
    }


def _pointed(heatmap: Order, scene: Scene) -> tuple[bool, float]:
    """Whether the hottest place lies in the photograph, and the share of the heat that does."""
    inside = np.s_[scene.top : scene.top + scene.side, scene.left : scene.left + scene.side]
    warm = np.maximum(heatmap, 0)
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    is_hit = scene.top <= row < scene.top + scene.side and scene.left <= column < scene.left + scene.side
    return bool(is_hit), float(warm[inside].sum() / max(warm.sum(), np.finfo(np.float32).tiny))


def _show(raw: RawResult) -> None:
    table = Table("photographs", "", "better than", "deletion", "insertion", box=None, pad_edge=False)
    for method in measured(raw):
        for one in beaten(raw, method):
            shares = (f"{wins} of {one.photographs}" for wins in (one.deletion, one.insertion))
            table.add_row(WHERE[one.where], METHODS[method], one.baseline, *shares)
    console().print(table)
    moved = [one for one in raw["photographs"] if one["where"] == "off-centre"]
    if not moved:
        return
    hits, heat = ([value for one in moved for value in one[name]] for name in ("pointed", "heat_inside"))
    print(
        f"pointing game: {sum(hits)} of {len(hits)} hits, {mean(heat):.0%} of the heat inside, where chance "
        f"has {(raw['pasted'] / CROP) ** 2:.0%}"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `python -m perf explanations`."""
    parser.add_argument(
        "--photographs", type=int, metavar="N", help="only the first N of the labelled ones (default: all)"
    )
    parser.add_argument("--steps", type=int, default=14, help="of a curve (default: %(default)s)")
    parser.add_argument(
        "--random",
        type=int,
        default=3,
        metavar="N",
        help="random maps for each photograph (default: %(default)s)",
    )
    parser.add_argument(
        "--masks",
        type=int,
        default=0,
        metavar="N",
        help="measure the heatmap of N masked copies as well (default: not)",
    )
    parser.add_argument(
        "--as-photographed", action="store_true", help="only photographs as they are, none off-centre"
    )
    add_result_options(parser)
