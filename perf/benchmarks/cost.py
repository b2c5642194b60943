"""How cost grows with the work: with batch size, with the size of a JPEG file, with the width of a line.

    python -m perf cost
    python -m perf cost width --rounds 3

One request at a time: what the work takes in-process, and what a client waits for over gRPC, in turn.
Batches are of photographs as pixels, in requests of that batch; files are one photograph, scaled; lines are a
photographed one, repeated and cut.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.table import Table

from export.sources.photographs import photographs
from export.sources.samples import whole_lines
from perf.harness.commands import add_result_options, console, hand_over, say
from perf.harness.errors import PerfError
from perf.harness.generators.analyzer import Analyzer, AnalyzerError, find_analyzer
from perf.harness.in_process import measure_alone
from perf.harness.inputs import (
    REPOSITORY,
    bytes_content,
    read_config,
    tensor_content,
    write_inputs,
    write_steps,
)
from perf.harness.load import Load, Target, measure
from perf.harness.raw import RawResult, output_path, record
from perf.harness.serving import ServedModel, newest_graph, serving, sessions_and_threads

__all__ = ["CURVES", "Curve"]

BATCHES = (1, 2, 4, 8, 16, 32)
SHORT_SIDES = (224, 512, 1024, 2048, 4096)  # pixels; 4096 x 4096 is a telephone's 16 megapixels
WIDTHS = (128, 256, 512, 1024, 2048, 4096)  # columns, of those read_text pads to
REQUESTS_A_WINDOW = 8  # at least: the largest work takes half a second
JPEG_QUALITY = 90
PHOTOGRAPH = "imagenet_10_541"  # the largest, 1024 x 683


@dataclass(frozen=True)
class Point:
    """One size of the work: `x` of the curve, the inputs, and items in a request."""

    x: float
    data: Path
    batch: int = 1


@dataclass(frozen=True)
class Curve:
    """What grows, on which model, the unit of x, and how its points are made in a folder."""

    title: str
    model: str
    unit: str
    points: Callable[[Path], Iterator[Point]]


def batches(folder: Path) -> Iterator[Point]:
    """Photographs as pixels, UINT8 [x, 224, 224, 3] in one request, x of `BATCHES`."""
    data = write_inputs("efficientnet_lite0", folder / "pixels.json").path
    for batch in BATCHES:
        yield Point(batch, data, batch)


def files(folder: Path) -> Iterator[Point]:
    """One photograph as JPEG files whose short sides are `SHORT_SIDES`; x is megapixels."""
    photo = next(photo for photo in photographs() if photo.name == PHOTOGRAPH)
    with Image.open(photo.path) as opened:
        image = opened.convert("RGB")
    for side in SHORT_SIDES:
        scale = side / min(image.size)
        encoded = BytesIO()
        size = tuple(round(length * scale) for length in image.size)
        image.resize(size, Image.Resampling.BICUBIC).save(encoded, "JPEG", quality=JPEG_QUALITY)
        steps = [{"encoded_image": bytes_content(encoded.getvalue())}]
        yield Point(size[0] * size[1] / 1e6, write_steps(steps, folder / f"{side}.json"))


def widths(folder: Path) -> Iterator[Point]:
    """One line, UINT8 [32, x], repeated and cut to x columns of `WIDTHS`."""
    line = np.concatenate(whole_lines(), axis=1)
    for width in WIDTHS:
        long = np.tile(line, -(-width // line.shape[1]))[:, :width]
        yield Point(width, write_steps([{"line": tensor_content(long)}], folder / f"{width}.json"))


CURVES = {
    "batch": Curve(
        "Photographs in one request, pixels to classes", "efficientnet_lite0", "photographs", batches
    ),
    "file": Curve("Size of a JPEG file, image_decoder", "image_decoder", "megapixels", files),
    "width": Curve("Width of a line, text_recognizer", "text_recognizer", "columns", widths),
}


def run(arguments: argparse.Namespace) -> int:
    """Measure the curves asked for; 1 if a point could not be measured, which `failed` of the result names.

    Raises `PerfError` for a curve that is not there.
    """
    chosen = arguments.curve or list(CURVES)
    if unknown := [name for name in chosen if name not in CURVES]:
        raise PerfError(f"there is no curve {unknown[0]!r}, but {', '.join(CURVES)}")
    output = output_path(arguments.output, "cost")
    analyzer = find_analyzer()
    curves, models, failed = [], {}, []
    for name in chosen:
        curve = CURVES[name]
        with tempfile.TemporaryDirectory() as scratch, serving(curve.model) as served:
            models[curve.model] = served.facts
            points = list(curve.points(Path(scratch)))
            rows = []
            for number in range(1, arguments.rounds + 1):
                for point in points:
                    say(f"{curve.title}: {point.x:g} {curve.unit}, round {number} of {arguments.rounds}")
                    alone = in_process(curve.model, point, arguments.seconds)
                    seconds = max(arguments.seconds, REQUESTS_A_WINDOW * alone / 1000)
                    try:
                        level = over_grpc(analyzer, served, point, seconds)
                    except AnalyzerError as error:
                        failed.append(f"{point.x:g} {curve.unit}: {error}")
                        continue
                    rows.append({"round": number, "x": point.x, "in_process_ms": alone, **level})
        told = {"title": curve.title, "unit": curve.unit, "model": curve.model}
        curves.append({"name": name, **told, "rows": rows})
    raw = record(
        "cost",
        model=models.pop(CURVES[chosen[0]].model),
        composing=list(models.values()),
        triton=served.version,
        analyzer=analyzer.version(),
        window_seconds=arguments.seconds,
        curves=[curve for curve in curves if curve["rows"]],
        failed=failed,
    )
    hand_over(raw, output, as_json=arguments.json, show=print_tables)
    for one in failed:
        say(f"warning: not measured: {one}")
    return 1 if failed else 0


def in_process(model: str, point: Point, seconds: float) -> float:
    """Median milliseconds of one request's work, in a process of its own."""
    if model == "image_decoder":
        graph, threads = None, 1
    else:
        graph = newest_graph(REPOSITORY / model)
        _, threads = sessions_and_threads(read_config(model))
    return measure_alone(
        graph,
        threads=threads,
        batch=point.batch,
        input_data=point.data,
        files=graph is None,
        seconds=seconds,
    )["p50_ms"]


def over_grpc(analyzer: Analyzer, served: ServedModel, point: Point, seconds: float) -> dict[str, Any]:
    """What a client waits for, and what of it Triton spent computing; milliseconds."""
    batch = ("-b", str(point.batch)) if point.batch > 1 else ()
    target = Target(served.model, served.grpc_url, served.http_url, input_data=point.data, arguments=batch)
    level = measure(analyzer, target, Load(1), seconds=seconds)
    return {
        "served_ms": level["p50_ms"],
        "compute_ms": level["models"][served.model]["infer_us"] / 1000,
        "stable": level["stable"],
    }


def print_tables(raw: RawResult) -> None:
    """A table for each curve, a row for each point and round; milliseconds."""
    for curve in raw["curves"]:
        table = Table(title=curve["title"], title_justify="left")
        for heading in (curve["unit"], "round", "in-process ms", "served ms", "of it computing"):
            table.add_column(heading, justify="right")
        for row in curve["rows"]:
            figures = (row[key] for key in ("in_process_ms", "served_ms", "compute_ms"))
            table.add_row(f"{row['x']:g}", str(row["round"]), *(f"{figure:.2f}" for figure in figures))
        console().print(table)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument("curve", nargs="*", help=f"of {', '.join(CURVES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=1, help="of a window (default: %(default)s)")
    add_result_options(parser)
