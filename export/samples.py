"""The inputs that a graph is traced and verified with.

A sample is one item without a batch dimension: a tuple of arrays in the order of the spec's inputs. The
first also serves as the exporter's example. Samples of different sizes are welcome where dims are -1.
"""

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from export.photographs import photographs
from export.spec import Sample, Tensor

__all__ = ["photograph_pixels", "random_samples"]

REPOSITORY = Path(__file__).resolve().parent.parent
DECODING = REPOSITORY / "model_repository" / "image_decoder" / "1" / "decoding.py"

VARIABLE_SIZES = (40, 24, 72)  # tried for each dim of -1; multiples of 8, as strided networks like them


def photograph_pixels() -> list[Sample]:
    """Every photograph as the served decoder makes it: UINT8 [224, 224, 3], one input."""
    decode = _served_decode()
    return [(decode(photograph.path.read_bytes()),) for photograph in photographs()]


def random_samples(inputs: tuple[Tensor, ...]) -> list[Sample]:
    """Eight random samples of every variable size, the same ones at every call.

    Each has a level of its own, as photographs do: pure noise looks alike to most networks. Integers lie
    within 0 to 255, floats around 0 with a deviation of 1 to 2.
    """
    random = np.random.default_rng(0)
    sizes = VARIABLE_SIZES if any(-1 in tensor.dims for tensor in inputs) else VARIABLE_SIZES[:1]
    return [
        tuple(_random_array(random, tensor, size) for tensor in inputs) for size in sizes for _ in range(8)
    ]


def _random_array(random: np.random.Generator, tensor: Tensor, size: int) -> np.ndarray:
    dims = [size if dim == -1 else dim for dim in tensor.dims]
    dtype = np.dtype(tensor.dtype)
    if dtype.kind == "f":
        return random.normal(random.normal(), 1.0, dims).astype(dtype)
    if dtype.kind == "b":
        return random.random(dims) < random.random()
    low, high = sorted(random.integers(0, min(255, np.iinfo(dtype).max), 2, endpoint=True))
    return random.integers(low, high, dims, endpoint=True).astype(dtype)


@cache
def _served_decode() -> Callable[[bytes], np.ndarray]:
    """`decode` of the file that the server runs; a second implementation would drift from it."""
    spec = importlib.util.spec_from_file_location("image_decoder_decoding", DECODING)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.decode
