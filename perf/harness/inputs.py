"""What a load sends: perf_analyzer's file of inputs, made from real photographs and lines of text.

Random values would be no load to speak of for a decoder, and the wrong widths for a text recogniser. Which
kind a model takes is told by its config; one that nobody here knows gets random values of the right shapes,
and the results say so.

The format is perf_analyzer's own (its documentation, "Input Data", JSON): a list of steps, sent one after the
other and over again; for models with sequence batching a list of lists, one a sequence. Contents are base64
of the raw tensor; an element of a BYTES tensor follows its length, four bytes, little-endian.
"""

import base64
import json
import struct
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import json_format, text_format
from numpy.typing import NDArray
from PIL import Image
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import triton_to_np_dtype

from export.sources.photographs import photographs
from export.sources.samples import photograph_pixels, whole_lines
from export.sources.text_lines import page_lines
from perf.harness.errors import PerfError
from server import config_path
from server.environment.repository import config_text

__all__ = [
    "REPOSITORY",
    "Inputs",
    "InputsError",
    "bytes_content",
    "fetch_config",
    "is_complete",
    "model_names",
    "read_config",
    "steps",
    "tensor_content",
    "write_inputs",
    "write_steps",
]

REPOSITORY = Path("model_repository")
PHOTOGRAPHS = 16  # decoded ones of 150 kB each; more would only fill caches
LINE_HEIGHT = 32
LINE_WIDTHS = (128, 192, 256, 384, 512, 768)  # columns, of read_text's parameter `widths`
VARIABLE_SIZE = 64  # of a dim of -1 in a model that nobody here knows
RANDOM_ITEMS = 16
RANDOM_SEQUENCES, RANDOM_STEPS = 16, 8
# Counted up from 1 and never used again, as a START of a live sequence is refused (docs/decisions/0008)
SEQUENCE_IDS = "--sequence-id-range=1:1000000000"


class InputsError(PerfError):
    """No inputs can be made for a model; the message says why."""


@dataclass(frozen=True)
class Inputs:
    """A file of inputs.

    path      for `--input-data`
    content   what it holds, for people
    real      False if the values are random
    items     requests in it; `sequences` of them if the model batches sequences, else None
    arguments more that perf_analyzer needs with it
    """

    path: Path
    content: str
    real: bool
    items: int
    sequences: int | None = None
    arguments: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """For raw results: all but the path."""
        return {
            "content": self.content,
            "real": self.real,
            "items": self.items,
            "sequences": self.sequences,
        }


def read_config(model: str, repository: Path = REPOSITORY) -> model_config_pb2.ModelConfig:
    """What is written of how a model is served here; of one that Triton is to complete, its name alone.

    Raises `InputsError` if there is no such model, or Triton would not read its config.
    """
    path, there = config_path(repository, model), model_names(repository)
    if model not in there:
        raise InputsError(f"{repository} holds no model {model!r}, but: {', '.join(there) or 'none'}")
    if not path.is_file():
        return model_config_pb2.ModelConfig(name=model)
    try:
        return text_format.Parse(config_text(path), model_config_pb2.ModelConfig())
    except (OSError, text_format.ParseError) as error:
        raise InputsError(f"{path} is not a model configuration: {error}") from None


def model_names(repository: Path) -> list[str]:
    """Folders with a config.pbtxt or, for models that Triton completes, a version."""
    found = [path.parent.name for path in Path(repository).glob("*/config.pbtxt")]
    found += [path.parent.name for path in Path(repository).glob("*/[0-9]*") if path.name.isdecimal()]
    return sorted(set(found))


def is_complete(config: model_config_pb2.ModelConfig) -> bool:
    """Whether it lists its tensors: what Triton completes from a graph, its server alone can tell."""
    return bool(config.input and config.output)


def fetch_config(model: str, http_url: str, timeout_s: float = 10) -> model_config_pb2.ModelConfig:
    """The config of a model that a server has loaded. Raises `InputsError`."""
    address = f"http://{http_url}/v2/models/{model}/config"
    try:
        with urllib.request.urlopen(address, timeout=timeout_s) as answer:
            return json_format.ParseDict(
                json.load(answer), model_config_pb2.ModelConfig(), ignore_unknown_fields=True
            )
    except urllib.error.HTTPError as error:
        raise InputsError(f"{http_url} serves no model {model!r}: {error.read().decode().strip()}") from None
    except OSError as error:
        raise InputsError(f"no server answers on {http_url}: {error}") from None


def write_inputs(
    model: str | model_config_pb2.ModelConfig, path: Path, repository: Path = REPOSITORY
) -> Inputs:
    """Write perf_analyzer's input file for a model, by name (in `repository`) or by config.

    Raises `InputsError`; `PackageError` if photographs cannot be downloaded.
    """
    config = read_config(model, repository) if isinstance(model, str) else model
    content, real, made = steps(config)
    with_sequences = config.HasField("sequence_batching")
    if with_sequences and not isinstance(made[0], list):
        made = [made[n : n + RANDOM_STEPS] for n in range(0, len(made), RANDOM_STEPS)]
    write_steps(made, path)
    return Inputs(
        path,
        content,
        real,
        sum(map(len, made)) if with_sequences else len(made),
        len(made) if with_sequences else None,
        (SEQUENCE_IDS,) if with_sequences else (),
    )


def write_steps(made: list[Any], path: Path) -> Path:
    """Write a file of steps, or of lists of them: sequences."""
    path.write_text(json.dumps({"data": made}))
    return path


def steps(config: model_config_pb2.ModelConfig) -> tuple[str, bool, list[Any]]:
    """What is sent, whether it is real, and the steps of perf_analyzer's file (lists of steps: sequences)."""
    required = [tensor for tensor in config.input if not tensor.optional]
    if len(required) == 1:
        (tensor,) = required
        dtype = model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_")
        dims = tuple(tensor.dims)
        if dtype == "UINT8" and len(dims) == 3 and dims[2] == 3 and min(dims) > 0:
            pixels = [_sized(sample[0], dims) for sample in photograph_pixels()[:PHOTOGRAPHS]]
            return "pixels of photographs", True, [{tensor.name: tensor_content(p)} for p in pixels]
        if (tensor.name, dtype, dims) == ("encoded_image", "STRING", (1,)):
            if any(output.name == "text" for output in config.output):
                lines = [_png(line.image) for line in page_lines()]
                return "photographed lines, PNG", True, [{tensor.name: bytes_content(line)} for line in lines]
            files = [photo.path.read_bytes() for photo in photographs() if photo.path.suffix == ".jpg"]
            return "photographs, JPEG", True, [{tensor.name: bytes_content(file)} for file in files]
        if dtype == "UINT8" and dims == (LINE_HEIGHT, -1):
            return _line_steps(tensor.name)
        if dtype == "UINT8" and len(dims) == 2 and dims[0] == LINE_HEIGHT and dims[1] > 0:
            return _strip_steps(tensor.name, dims[1], config.HasField("sequence_batching"))
    return _random_steps(config)


def _line_steps(name: str) -> tuple[str, bool, list[Any]]:
    """Lines, their halves and quarters, each padded with white to the next of the widths, well mixed."""
    made = []
    for line in whole_lines():
        for parts in (1, 2, 4):
            part = line[:, : line.shape[1] // parts]
            width = next((w for w in LINE_WIDTHS if w >= part.shape[1]), part.shape[1])
            made.append(_padded(part, width))
    np.random.default_rng(0).shuffle(made)
    widths = sorted({line.shape[1] for line in made})
    return (
        f"photographed lines, {', '.join(map(str, widths))} columns",
        True,
        [{name: tensor_content(line)} for line in made],
    )


def _strip_steps(name: str, columns: int, sequences: bool) -> tuple[str, bool, list[Any]]:
    """Each line cut into strips from left to right: a sequence."""
    made = []
    for line in whole_lines():
        padded = _padded(line, -(-line.shape[1] // columns) * columns)
        made.append(
            [{name: tensor_content(strip)} for strip in np.split(padded, padded.shape[1] // columns, axis=1)]
        )
    what = f"photographed lines in strips of {columns} columns"
    return what, True, made if sequences else [step for line in made for step in line]


def _random_steps(config: model_config_pb2.ModelConfig) -> tuple[str, bool, list[Any]]:
    if not config.input:
        raise InputsError(
            f"the config of {config.name!r} lists no inputs; list them, or start the server with it"
        )
    random = np.random.default_rng(0)
    count = RANDOM_SEQUENCES * RANDOM_STEPS if config.HasField("sequence_batching") else RANDOM_ITEMS
    varying = any(-1 in tensor.dims for tensor in config.input)
    made = [{t.name: _random(random, t) for t in config.input if not t.optional} for _ in range(count)]
    return f"random values{f', {VARIABLE_SIZE} for dims of -1' if varying else ''}", False, made


def _random(random: np.random.Generator, tensor: model_config_pb2.ModelInput) -> dict[str, Any]:
    name = model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_")
    shape = [VARIABLE_SIZE if dim == -1 else dim for dim in tensor.dims]
    if name == "STRING":
        texts = [f"{value:016x}".encode() for value in random.integers(0, 2**60, int(np.prod(shape)))]
        return bytes_content(*texts, shape=shape)
    dtype = triton_to_np_dtype(name)
    if dtype is None:
        raise InputsError(f"no values can be made for input {tensor.name!r} of {tensor.data_type}")
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return tensor_content(random.normal(size=shape).astype(dtype))
    return tensor_content(random.integers(0, 2 if dtype.kind == "b" else 100, shape).astype(dtype))


def _padded(line: NDArray[Any], width: int) -> NDArray[Any]:
    return np.pad(line, ((0, 0), (0, width - line.shape[1])), constant_values=255)


def _sized(pixels: NDArray[Any], dims: tuple[int, ...]) -> NDArray[Any]:
    if pixels.shape == dims:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((dims[1], dims[0]), Image.Resampling.BICUBIC))


def _png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def tensor_content(array: NDArray[Any]) -> dict[str, Any]:
    """One tensor of a step, without a batch dimension."""
    raw = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"content": {"b64": raw}, "shape": list(array.shape)}


def bytes_content(*values: bytes, shape: Sequence[int] = (1,)) -> dict[str, Any]:
    """The same of a BYTES tensor: files, or texts in UTF-8."""
    raw = b"".join(struct.pack("<I", len(value)) + value for value in values)
    return {"content": {"b64": base64.b64encode(raw).decode()}, "shape": list(shape)}
