"""Which decoder is fastest, and how far its pixels lie from the reference's.

    python -m perf decoders --output perf/results/decoders.json

Times, one image and one thread at a time, JPEG bytes to 224 x 224 pixels by everything that is installed of:
what image_decoder serves, Pillow, simplejpeg, OpenCV, libvips, imagecodecs, kornia-rs and cykooz-resizer.
Candidates alternate, round by round. The reference is Pillow: the whole photograph decoded, its short side
resized to 256 (bicubic, antialiased, rows first), the centre cropped. Differences are in grey levels of 0 to
255; top-1 is EfficientNet-Lite0's. The project needs Pillow and cykooz-resizer only; for the others:

    pip install simplejpeg 'opencv-python-headless<4.12' pyvips pyvips-binary imagecodecs kornia-rs
"""

import argparse
import importlib.metadata
import io
import statistics
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image

from perf.decoding.candidates import CANDIDATES, Decode, Missing, Pixels
from perf.harness.commands import add_result_options, say
from perf.harness.inputs import REPOSITORY
from perf.harness.jpeg_in_process import jpeg_files
from perf.harness.raw import check_output, record, save
from perf.harness.serving import newest_graph

__all__ = ["add_arguments", "differences", "inputs", "reference", "run"]

RESIZE, CROP = 256, 224  # as image_decoder has it
SERVED = "image_decoder"
PACKAGES = (
    *("pillow", "cykooz-resizer", "simplejpeg", "opencv-python-headless", "pyvips", "pyvips-binary"),
    *("imagecodecs", "kornia-rs"),
)
# name: megapixels, quality, how many photographs; as cameras write them: baseline, 4:2:0
ENLARGED = {"2 MP": (2, 85, 6), "12 MP": (12, 92, 3)}
# Photographs side by side, sharp down to the pixel, which enlarged ones are not. These short sides are the
# smallest that Pillow decodes at half size when told to stay at 2, 3, 4 or 6 x 256.
MOSAICS = {f"mosaic {short}": short for short in (1024, 1536, 2048, 3072)}
MOSAIC_QUALITY = 88
MOSAICS_EACH = 2
KINDS = ("photographs", *ENLARGED, *MOSAICS)


def reference(encoded: bytes) -> Pixels:
    """torchvision's Resize(256, bicubic) and CenterCrop(224) with Pillow: UINT8 [224, 224, 3]."""
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    short = min(image.size)
    width, height = (int(RESIZE * side / short) for side in image.size)
    for size in ((width, image.height), (width, height)):  # Pillow 13 begins with the columns of tall images
        image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = round((image.width - CROP) / 2), round((image.height - CROP) / 2)
    return np.asarray(image.crop((left, top, left + CROP, top + CROP)))


def inputs(kind: str) -> list[bytes]:
    """JPEG files of one of `KINDS`: photographs as they are, enlarged to camera sizes, or mosaics of them."""
    files = jpeg_files()
    if kind in ENLARGED:
        megapixels, quality, count = ENLARGED[kind]
        return [_enlarged(data, megapixels, quality) for data in files[:count]]
    if kind in MOSAICS:
        return [_mosaic(files[n:] + files[:n], MOSAICS[kind]) for n in range(MOSAICS_EACH)]
    return files


def _enlarged(data: bytes, megapixels: float, quality: int) -> bytes:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
    size = round(image.width * scale), round(image.height * scale)
    return _jpeg(image.resize(size, Image.Resampling.LANCZOS), quality)


def _mosaic(files: list[bytes], height: int) -> bytes:
    """A 4:3 photograph of photographs, each at its own size."""
    canvas = Image.new("RGB", (height * 4 // 3, height))
    corners = [(left, top) for top in range(0, height, 500) for left in range(0, canvas.width, 500)]
    for data, corner in zip(cycle(files), corners):
        canvas.paste(Image.open(io.BytesIO(data)).convert("RGB"), corner)
    return _jpeg(canvas, MOSAIC_QUALITY)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def differences(pixels: list[Pixels], expected: list[Pixels]) -> dict[str, float]:
    """How far pixels lie from those expected: maximum, 99.9th percentile, mean, and the share beyond 1."""
    levels = np.concatenate(
        [
            np.abs(ours.astype(int) - theirs.astype(int)).ravel()
            for ours, theirs in zip(pixels, expected, strict=True)
        ]
    )
    return {
        "max": int(levels.max()),
        "p99.9": float(np.percentile(levels, 99.9)),
        "mean": round(float(levels.mean()), 4),
        "beyond_1": float((levels > 1).mean()),
    }


def measure(
    kinds: dict[str, list[bytes]], decoders: dict[str, Decode], rounds: int, classify: Callable[[Pixels], int]
) -> list[dict[str, Any]]:
    """One row for each kind and decoder. Decoders alternate within a round; ms are medians over rounds."""
    rows = []
    for kind, files in kinds.items():
        expected = [reference(data) for data in files]
        top_1 = [classify(pixels) for pixels in expected]
        took: dict[str, list[float]] = {name: [] for name in decoders}
        for number in range(rounds):
            say(f"{kind}: round {number + 1} of {rounds}")
            for name, decode in decoders.items():
                start = time.perf_counter()
                for data in files:
                    decode(data)
                took[name].append((time.perf_counter() - start) / len(files) * 1000)
        for name, decode in decoders.items():
            pixels = [decode(data) for data in files]
            agree = sum(classify(ours) == theirs for ours, theirs in zip(pixels, top_1, strict=True))
            ratios = [ours / theirs for ours, theirs in zip(took[SERVED], took[name], strict=True)]
            rows.append(
                {
                    "kind": kind,
                    "decoder": name,
                    "images": len(files),
                    "ms": statistics.median(took[name]),
                    "ms_by_round": took[name],
                    "speed_to_served": statistics.median(ratios),
                    **differences(pixels, expected),
                    "same_top_1": agree,
                }
            )
    return rows


def installed(only: list[str] | None) -> tuple[dict[str, Decode], dict[str, str]]:
    """The candidates that can run here, what is served first, and for the others why not."""
    decoders, missing = {}, {}
    for name, make in CANDIDATES.items():
        if only and name != SERVED and not any(word in name for word in only):
            continue
        try:
            decoders[name] = make()
        except Missing as error:
            missing[name] = str(error)
    return decoders, missing


def classifier(graph: Path) -> Callable[[Pixels], int]:
    """A function of UINT8 [224, 224, 3] to the best class of that graph, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    (node,) = session.get_inputs()
    return lambda pixels: int(session.run(None, {node.name: pixels[None]})[0].argmax())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="only candidates with this in their names")
    told = f"of inputs: {', '.join(KINDS)} (default: all)"
    parser.add_argument("--kinds", nargs="+", choices=KINDS, metavar="KIND", help=told)
    add_result_options(parser, kept=False, json=False)


def run(arguments: argparse.Namespace) -> int:
    """Measure what is installed, and tell what is not; returns 0."""
    check_output(arguments.output)
    decoders, missing = installed(arguments.only)
    for name, why in missing.items():
        say(f"left out: {name}: {why}")
    say("making the inputs")
    kinds = {kind: inputs(kind) for kind in arguments.kinds or KINDS}
    classify = classifier(newest_graph(REPOSITORY / "efficientnet_lite0"))
    rows = measure(kinds, decoders, arguments.rounds, classify)
    print(f"{'':49}{'ms':>8}{'speed':>8}{'max':>5}{'p99.9':>7}{'mean':>8}{'top-1':>10}")
    for row in rows:
        print(
            f"{row['kind']:14}{row['decoder']:35}{row['ms']:8.2f}{row['speed_to_served']:8.2f}{row['max']:5}"
            f"{row['p99.9']:7.1f}{row['mean']:8.3f}{row['same_top_1']:>6} of {row['images']}"
        )
    if arguments.output:
        versions = {package: _version(package) for package in PACKAGES}
        save(
            arguments.output,
            record("decoders", rounds=arguments.rounds, versions=versions, rows=rows, left_out=missing),
        )
        say(f"raw results: {arguments.output}")
    return 0


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
