"""The inputs that a graph is traced and verified with.

A sample is one item without a batch dimension: a tuple of arrays in the order of the spec's inputs. The
first also serves as the exporter's example. Samples of different sizes are welcome where dims are -1.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.model_code.decoding import decode, decode_whole
from export.model_code.letterbox import Letterbox
from export.model_code.line_image import normalize_line
from export.sources.photographs import photographs
from export.sources.specs.spec import Sample, Tensor
from export.sources.text_lines import page_lines

__all__ = [
    "letterboxed_photographs",
    "line_pixels",
    "line_strips",
    "photograph_parts",
    "photograph_pixels",
    "random_samples",
    "random_shares",
    "whole_lines",
]

LINE_WIDTHS = (760, 250, 97)  # columns: whole lines, cut ones, and no multiple of the network's stride
STRIP_COLUMNS = 32

PARTS = 12  # photographs
PART_SIZES = ((60, 44), (33, 97))  # rows and columns where they are open

SIZE_MULTIPLE = 8  # as strided networks like it
VARIABLE_SIZES = (40, 24, 72)  # multiples of it, the largest last: tried for each dim of -1


def photograph_pixels() -> list[Sample]:
    """Every photograph as the served decoder makes it: UINT8 [224, 224, 3], one input.

    Raises `PackageError` where they cannot be downloaded, as `line_pixels`, `line_strips`, `whole_lines` do.
    """
    return [(decode(photograph.path.read_bytes()),) for photograph in photographs()]


def letterboxed_photographs(side: int) -> Callable[[], list[Sample]]:
    """Makes some photographs as detection pipelines hand them on: UINT8 [side, side, 3], in proportion."""

    def letterboxed() -> list[Sample]:
        letterbox = Letterbox(side, side)
        encoded = [photograph.path.read_bytes() for photograph in photographs()[::3]]
        return [(letterbox.placed(decode_whole(data)).pixels,) for data in encoded]

    return letterboxed


def photograph_parts(image: Tensor) -> list[Sample]:
    """Parts of photographs in each size that `image` may have, averaged into pixels that are no whole
    numbers: FP32 [height, width, 3]."""
    height, width, _ = (size if size != -1 else None for size in image.dims)
    sizes = [(height, width)] if height and width else PART_SIZES
    random = np.random.default_rng(0)
    samples: list[Sample] = []
    for (pixels,), (rows, columns) in itertools.product(photograph_pixels()[:PARTS], sizes):
        side = int(random.integers(min(rows, columns), len(pixels) + 1))
        top, left = random.integers(0, len(pixels) - side + 1, 2)
        part = Image.fromarray(pixels[top : top + side, left : left + side])
        planes = [
            np.asarray(plane.convert("F").resize((columns, rows), Image.Resampling.BOX))
            for plane in part.split()
        ]
        samples.append((np.stack(planes, 2),))
    return samples


def line_pixels() -> list[Sample]:
    """Lines of a photographed page as the server normalises them, at several widths: UINT8 [32, width]."""
    return [(_of_width(line, width),) for width in LINE_WIDTHS for line in whole_lines()]


def line_strips() -> list[Sample]:
    """The same lines, cut into strips from left to right, one line after the other: UINT8 [32, 32]."""
    strips: list[Sample] = []
    for line in whole_lines():
        padded = _of_width(line, -(-line.shape[1] // STRIP_COLUMNS) * STRIP_COLUMNS)
        strips += [(strip,) for strip in np.split(padded, padded.shape[1] // STRIP_COLUMNS, axis=1)]
    return strips


def random_samples(inputs: tuple[Tensor, ...]) -> list[Sample]:
    """Eight random samples of every variable size, the same ones at every call.

    Each has a level of its own, as photographs do: pure noise looks alike to most networks. Integers lie
    within 0 to 255, floats around 0 with a deviation of 1 to 2. No size is above the least `max_dims`.
    """
    random = np.random.default_rng(0)
    sizes = _variable_sizes(inputs)
    return [
        tuple(_random_array(random, tensor, size) for tensor in inputs) for size in sizes for _ in range(8)
    ]


def _variable_sizes(inputs: tuple[Tensor, ...]) -> tuple[int, ...]:
    """Of all open dims, which may have to be alike: `VARIABLE_SIZES`, or as many parts of the least bound."""
    dims = [(tensor, index) for tensor in inputs for index, dim in enumerate(tensor.dims) if dim == -1]
    largest = max(VARIABLE_SIZES)
    least = min((most for tensor, index in dims if (most := tensor.most(index)) > 0), default=largest)
    if not dims or least >= largest:
        return VARIABLE_SIZES if dims else VARIABLE_SIZES[:1]
    multiple = SIZE_MULTIPLE if least >= SIZE_MULTIPLE * len(VARIABLE_SIZES) else 1
    parts = (size * least // largest // multiple * multiple for size in VARIABLE_SIZES[:-1])
    return tuple(dict.fromkeys(max(part, multiple) for part in (*parts, least)))


def random_shares(classes: int) -> Callable[[], list[Sample]]:
    """Makes FP32 [classes] that add up to 1, from one class alone to all alike; the same every time."""

    def shares() -> list[Sample]:
        random = np.random.default_rng(0)
        return [
            (random.dirichlet(np.full(classes, sharpness)).astype(np.float32),)
            for sharpness in (0.001, 0.01, 0.1, 1.0, 100.0)
            for _ in range(4)
        ]

    return shares


def _random_array(random: np.random.Generator, tensor: Tensor, size: int) -> NDArray[Any]:
    dims = [size if dim == -1 else dim for dim in tensor.dims]
    dtype = np.dtype(tensor.dtype)
    if dtype.kind == "f":
        return random.normal(random.normal(), 1.0, dims).astype(dtype)
    if dtype.kind == "b":
        return random.random(dims) < random.random()
    low, high = sorted(random.integers(0, min(255, np.iinfo(dtype).max), 2, endpoint=True))
    return random.integers(low, high, dims, endpoint=True).astype(dtype)


def whole_lines() -> list[NDArray[Any]]:
    """Lines of a photographed page as the server normalises them, as wide as they are: UINT8 [32, width]."""
    return [normalize_line(line.image) for line in page_lines()]


def _of_width(line: NDArray[Any], width: int) -> NDArray[Any]:
    """UINT8 [32, width]: cut, or padded on the right with white."""
    missing = max(0, width - line.shape[1])
    return np.pad(line[:, :width], ((0, 0), (0, missing)), constant_values=255)
