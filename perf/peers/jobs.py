"""The jobs that servers are compared at: real inputs, the graph that does the work, and the right answers.

`jpeg`             a photograph, JPEG, to its five likeliest classes; all decode with the same code
`jpeg-as-written`  the same; peers decode as tutorials do, with Pillow alone and at full size
`gru`              a sequence of 4 KiB to ten probabilities: nearly all of its time is the server's
`text`             the image of a line of text to its text and a confidence
`detect`           a photograph, JPEG, to the boxes of what is in it; all with the same code around the graph
"""

import contextlib
import io
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.sources.photographs import photographs
from export.sources.text_lines import page_lines
from perf.harness.errors import PerfError
from perf.harness.inputs import REPOSITORY, read_config
from perf.harness.serving import exported, newest_graph

__all__ = ["JOBS", "ComparedJob", "opened", "same"]

JOBS = ("jpeg", "jpeg-as-written", "gru", "text", "detect")
JPEG_QUALITY = 90  # of scikit-image's PNG photographs
SEQUENCES = 16
TOLERANCE = 1e-4  # of probabilities: batches of other sizes add up in another order
PIXELS = 0.5  # of a box
DETECTOR = "detect_objects"


@dataclass(frozen=True)
class ComparedJob:
    """What is asked, of whom.

    name        one of `JOBS`
    model       that Triton is asked for, in `repository`
    graph       ONNX, that does the work in `model`; what the peers load
    bodies      the inputs as bytes: files, or the FP32 values of a sequence
    """

    name: str
    model: str
    repository: Path
    graph: Path
    bodies: list[bytes]

    @property
    def kind(self) -> str:
        """ "jpeg", "gru", "text" or "detect"."""
        return self.name.partition("-")[0]

    def variables(self, threads: int) -> dict[str, str]:
        """What perf/peers/shared/work.py reads from the environment."""
        charset = (
            read_config("text_recognizer", self.repository).parameters["charset"].string_value
            if self.kind == "text"
            else ""
        )
        return {
            "PEER_JOB": self.name,
            "PEER_GRAPH": str(self.graph.resolve()),
            "PEER_THREADS": str(threads),
            "PEER_REPOSITORY": str(REPOSITORY.resolve()),
            "PEER_CHARSET": charset,
            "PEER_DETECTION": json.dumps(self._detection()),
            "OMP_NUM_THREADS": str(threads),
        }

    def _detection(self) -> dict[str, str]:
        """The parameters of detect_objects, that its peers are to work with."""
        if self.kind != "detect":
            return {}
        parameters = read_config(self.model, self.repository).parameters
        return {name: value.string_value for name, value in parameters.items()}


@contextlib.contextmanager
def opened(name: str) -> Iterator[ComparedJob]:
    """A job with its inputs; for the GRU, its model is exported for the time. Raises `PerfError`."""
    if name == "gru":
        with exported("perf/benchmarks/tiny_gru.py:spec") as (model, repository):
            random = np.random.default_rng(0)
            bodies = [random.normal(size=(32, 32)).astype("<f4").tobytes() for _ in range(SEQUENCES)]
            yield ComparedJob(name, model, repository, newest_graph(repository / model), bodies)
    elif name == "text":
        bodies = [png(line.image) for line in page_lines()]
        yield ComparedJob(name, "read_text", REPOSITORY, newest_graph(REPOSITORY / "text_recognizer"), bodies)
    elif name == "detect":
        if not (REPOSITORY / DETECTOR).is_dir():
            raise PerfError(
                f"there is no {DETECTOR}: its weights come by npm; run `python -m export detector`"
            )
        bodies = [jpeg(photo.path) for photo in photographs()]
        detector = read_config(DETECTOR).parameters["detector"].string_value
        yield ComparedJob(name, DETECTOR, REPOSITORY, newest_graph(REPOSITORY / detector), bodies)
    else:
        bodies = [jpeg(photo.path) for photo in photographs()]
        cnn = cnn_of(read_config("recognize_objects"))
        yield ComparedJob(name, "recognize_objects", REPOSITORY, newest_graph(REPOSITORY / cnn), bodies)


def cnn_of(config: ModelConfig) -> str:
    """The CNN behind `recognize_objects`, which is an ensemble or one process."""
    steps = config.ensemble_scheduling.step
    return str(steps[-1].model_name if steps else config.parameters["cnn"].string_value)


def same(job: ComparedJob, found: Any, right: Any) -> bool:
    """Whether an answer is the right one: classes in order and probabilities, values, text, or boxes."""
    if job.kind == "gru":
        return np.allclose(found, right, atol=TOLERANCE)
    if job.kind == "text":
        return found[0] == right[0] and math.isclose(found[1], right[1], abs_tol=100 * TOLERANCE)
    if job.kind == "detect":
        return len(found) == len(right) and all(
            ours[0] == theirs[0]
            and math.isclose(ours[1], theirs[1], abs_tol=100 * TOLERANCE)
            and np.allclose(ours[2], theirs[2], atol=PIXELS)
            for ours, theirs in zip(found, right, strict=True)
        )
    ours, theirs = ([score for _, score in answer] for answer in (found, right))
    if len(found) != len(right) or not np.allclose(ours, theirs, atol=10 * TOLERANCE):
        return False
    # Classes in the same places, but for neighbours whose probabilities differ by rounding alone
    known = dict(map(tuple, right))
    return all(
        number in known and math.isclose(known[number], score, abs_tol=10 * TOLERANCE)
        for number, score in found
    )


def jpeg(path: Path) -> bytes:
    """A JPEG as it is; any other file as a JPEG of quality 90."""
    if path.suffix == ".jpg":
        return path.read_bytes()
    with Image.open(path) as image, io.BytesIO() as file:
        image.convert("RGB").save(file, "JPEG", quality=JPEG_QUALITY)
        return file.getvalue()


def png(image: Image.Image) -> bytes:
    """A PNG of the image, so that its pixels are kept."""
    with io.BytesIO() as file:
        image.save(file, "PNG")
        return file.getvalue()


@contextlib.contextmanager
def as_files(bodies: list[bytes]) -> Iterator[list[str]]:
    """The inputs as files, for programs that run elsewhere."""
    with tempfile.TemporaryDirectory(prefix="triton-vision-inputs-") as folder:
        paths = [Path(folder) / str(number) for number in range(len(bodies))]
        for path, body in zip(paths, bodies, strict=True):
            path.write_bytes(body)
        yield list(map(str, paths))
