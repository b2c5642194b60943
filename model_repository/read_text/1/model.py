"""Triton model `read_text`: encoded images of text lines in, their text and a confidence out.

The lines of all requests of a batch are opened, made into pixels, sorted by width and read by the recogniser,
each width as one batch; CTC decoding turns what comes back into text. `config.pbtxt` has another model of the
server read them (business logic scripting), `configs/cpu.pbtxt` this process (`called_network.py`). What goes
wrong with one image, or with one request's parameters, fails that request alone.

An image that does not hold one upright line of text is such a fault, too: several lines and sideways ones are
seen in the ink (`layout.py`), pictures by what the recogniser makes of them. An empty one reads "".

With the parameter `characters` a request is told which columns made which character: the steps of the
likeliest path of the text (`ctc.align`), as boxes in the upright image, and how probable it was there.

`confidence` is the probability of the text given the line, all CTC paths of it summed, as the geometric mean
per character: p(text) ** (1 / max(1, characters)). It lies in (0, 1]; for "" it is the probability that the
line is empty. It is the network's own opinion and not calibrated.
"""

from __future__ import annotations

import functools
import gc
import json
import math
import os
import reprlib
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import ctc
import decoding
import idle_memory
import layout
import line_image
import numpy as np
import triton_python_backend_utils as pb_utils
from called_network import open_network
from PIL import Image
from request_values import parameters_of
from served_network import NetworkError
from step_spans import StepSpans, log_failures
from unforeseen import each_alone

Responses: TypeAlias = "list[pb_utils.InferenceResponse]"

WHITE = 255
EXAMPLE = {"line": np.full((1, line_image.HEIGHT, 256), WHITE, np.uint8)}  # of one of the widths
COLUMNS_PER_STEP = 4  # of the recogniser's output
WIDEST_BEAM = 64
NO_CHARACTER = -1  # behind the end of a text; NaN is no JSON
LEAST_CONFIDENCE = np.finfo(np.float32).tiny
# What the recogniser itself finds so unlikely is no text: of 500 degraded lines it read two so, both wrongly.
LEAST_LIKELY, LEAST_LIKELY_SHORT = 0.3, 0.2
SHORT = 2 * line_image.HEIGHT  # columns; of one to three characters
# Large letters have sharp edges: if so many pixels of the line are between ink and paper, it is a picture.
LARGE, MOST_GREY, GREYS = 64, 0.2, (64, 192)

NOT_ONE_LINE = {
    layout.SEVERAL: "several lines of text, and one is read at a time: cut the image into lines, or have the "
    "client do it (`--lines`, `read_lines`)",
    layout.SIDEWAYS: "the text runs sideways: turn the image upright",
}
NO_TEXT = "no text that could be read: an image is to hold one line of it, upright"


class RequestError(Exception):
    """Fails one request; `code` is Triton's, INVALID_ARG without."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = pb_utils.TritonError.INVALID_ARG if code is None else code


class Line:
    """One image of a request: its pixels, UINT8 [32, w], then its text and confidence, or an error.

    place: "image 2 of 3", for messages
    """

    place = ""
    beam_width = 1

    def __init__(self, image: Image.Image) -> None:
        found = line_image.find_line(image)
        if found and (kind := layout.what_else(found.image.crop(found.box), found.inverted)):
            raise line_image.LineError(NOT_ONE_LINE[kind])
        self.pixels = line_image.line_pixels(found)
        self.is_empty = found is None
        self.is_large = found is not None and found.box[3] - found.box[1] >= LARGE
        self.place_in_image = _shares(found, image.size)
        self.boxes: list[
            tuple[float, float, float, float]
        ] = []  # of the characters, where they are asked for
        self.likely: list[float] = []
        self.is_aligned = False
        self.text: str | None = None
        self.confidence: float | None = None
        self.error: RequestError | None = None

    def read(self, text: str, confidence: float) -> None:
        self.text, self.confidence = text, confidence
        if not self.is_empty and self._is_no_text(confidence):
            self.error = RequestError(f"{self.place}: {NO_TEXT}")

    def align(self, log_probs: np.ndarray, classes: list[int]) -> None:
        """Which columns made which character; `log_probs` FP32 [steps, classes] of this line alone."""
        left, top, right, bottom = self.place_in_image
        share = (right - left) * COLUMNS_PER_STEP / self.pixels.shape[1]  # of one step
        for number, (first, end) in zip(classes, ctc.align(log_probs, classes), strict=True):
            self.boxes.append((left + first * share, top, min(right, left + end * share), bottom))
            self.likely.append(math.exp(log_probs[first:end, number].max()))

    def _is_no_text(self, confidence: float) -> bool:
        is_short = self.pixels.shape[1] <= SHORT
        if confidence < (LEAST_LIKELY_SHORT if is_short else LEAST_LIKELY):
            return True
        is_grey = (self.pixels > GREYS[0]) & (self.pixels < GREYS[1])
        return is_short and self.is_large and bool(is_grey.mean() > MOST_GREY)


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        idle_memory.give_back_when_idle()
        given = json.loads(args["model_config"])["parameters"]
        parameters = {name: value["string_value"] for name, value in given.items()}
        self.limits = {
            name: int(parameters[name]) for name in ("max_bytes", "max_pixels") if name in parameters
        }
        self.recognizer = open_network(
            args, parameters, parameters["recognizer"], "reads the lines", EXAMPLE, ["log_probs"]
        )
        self.spans = StepSpans(args["model_name"])
        self.recognizer_batch = int(parameters["recognizer_batch"])
        self.widths = sorted(int(width) for width in parameters["widths"].split())
        if self.widths[-1] < line_image.MAX_WIDTH:
            raise ValueError(
                f"parameter widths ends at {self.widths[-1]}; lines have up to {line_image.MAX_WIDTH} columns"
            )
        self.charset = parameters["charset"]
        # Pillow decodes and resizes without Python's lock, so threads open a batch side by side.
        cores = self.recognizer.cores
        self.pool = ThreadPoolExecutor(len(cores), initializer=os.sched_setaffinity, initargs=(0, cores))

    def execute(
        self, requests: list[pb_utils.InferenceRequest]
    ) -> Responses | Coroutine[Any, Any, Responses]:
        return self.recognizer.carried_out(self._execute(requests))

    @each_alone
    async def _execute(self, requests: list[pb_utils.InferenceRequest]) -> Responses:
        began = time.time_ns()
        with self.recognizer.at_work() as alone:
            tensors = [pb_utils.get_input_tensor_by_name(request, "encoded_image") for request in requests]
            encoded = [tensor.as_numpy().ravel() for tensor in tensors]
            side_by_side = alone and sum(map(len, encoded)) > 1
            openings = [[self._opening(image, side_by_side) for image in images] for images in encoded]
            answers = [self._lines(*pair) for pair in zip(requests, openings, strict=True)]
            opened = time.time_ns()
            lines = [line for answer in answers if isinstance(answer, list) for line in answer]
            await self.recognizer.together(self._read(width, group) for width, group in self._groups(lines))
        steps = (("open lines", began, opened), ("read them", opened, time.time_ns()))  # of the whole batch
        for request in requests:
            self.spans.tell(self.spans.traceparent(request), steps)
        responses = [_response(answer) for answer in answers]
        log_failures(pb_utils.Logger.log_warn, requests, responses)
        return responses

    def _opening(self, image: bytes, side_by_side: bool) -> Callable[[], Line]:
        """What gives the Line of an image when called; a thread of the pool is at it already, or none."""
        if side_by_side:
            return self.pool.submit(self._open, image).result
        return functools.partial(self._open, image)

    def _open(self, encoded: bytes) -> Line:
        return Line(decoding.decode_whole(encoded, **self.limits))

    @staticmethod
    def _lines(
        request: pb_utils.InferenceRequest, openings: Sequence[Callable[[], Line]]
    ) -> list[Line] | RequestError:
        """The lines of one request, or the RequestError that it fails with."""
        lines: list[Line] = []
        try:
            parameters = parameters_of(request)
        except ValueError as error:
            return RequestError(str(error))
        try:
            beam_width, is_aligned = _beam_width(parameters), _wants_characters(parameters)
            for opening in openings:
                line = opening()
                line.place, line.beam_width = f"image {len(lines) + 1} of {len(openings)}", beam_width
                line.is_aligned = is_aligned
                lines.append(line)
        except RequestError as error:
            return RequestError(str(error), error.code)  # what was raised keeps frames, and these requests
        except (decoding.ImageError, line_image.LineError) as error:
            return RequestError(f"image {len(lines) + 1} of {len(openings)}: {error}")
        return lines

    def _groups(self, lines: list[Line]) -> Iterator[tuple[int, list[Line]]]:
        """(width, lines) of one request to the recogniser each."""
        by_width: dict[int, list[Line]] = defaultdict(list)
        for line in lines:
            by_width[next(width for width in self.widths if width >= line.pixels.shape[1])].append(line)
        for width, same in by_width.items():
            for start in range(0, len(same), self.recognizer_batch):
                yield width, same[start : start + self.recognizer_batch]

    async def _read(self, width: int, lines: list[Line]) -> None:
        try:
            log_probs = await self._log_probs(width, lines)
        except RequestError as error:
            for line in lines:
                line.error = RequestError(str(error), error.code)
            return
        found = [
            ctc.greedy(steps) if line.beam_width == 1 else ctc.beam_search(steps, line.beam_width)
            for line, steps in zip(lines, log_probs, strict=True)
        ]
        logarithms = ctc.log_probability(log_probs, found)
        for line, classes, steps, logarithm in zip(lines, found, log_probs, logarithms, strict=True):
            if line.is_aligned:
                line.align(steps, classes)
            text = "".join(self.charset[number - 1] for number in classes)
            line.read(text, math.exp(logarithm / max(1, len(classes))))

    async def _log_probs(self, width: int, lines: list[Line]) -> list[np.ndarray]:
        """FP32 [steps, classes] for each line, without the steps of the padding."""
        batch = np.full((len(lines), line_image.HEIGHT, width), WHITE, np.uint8)
        for row, line in zip(batch, lines, strict=True):
            row[:, : line.pixels.shape[1]] = line.pixels
        try:
            (log_probs,) = await self.recognizer.run({"line": batch})
        except NetworkError as error:
            raise RequestError(str(error), error.code) from error
        steps = [math.ceil(line.pixels.shape[1] / COLUMNS_PER_STEP) for line in lines]
        return [rows[:count] for rows, count in zip(log_probs, steps, strict=True)]

    def finalize(self) -> None:
        self.pool.shutdown()
        gc.collect()  # errors keep frames, and these requests, whose memory ends before Python does


def _beam_width(parameters: dict[str, Any]) -> int:
    value = parameters.get("beam_width", 1)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= WIDEST_BEAM:
        raise RequestError(
            f"beam_width is {reprlib.repr(value)}; it must be a whole number from 1 (greedy) to {WIDEST_BEAM}"
        )
    return value


def _wants_characters(parameters: dict[str, Any]) -> bool:
    value = parameters.get("characters", False)
    if value not in (0, 1):  # as a number, or false and true
        raise RequestError(f"characters is {reprlib.repr(value)}; it must be true or false")
    return bool(value)


def _response(answer: list[Line] | RequestError) -> pb_utils.InferenceResponse:
    """For the lines of a request, or for its RequestError."""
    lines, errors = ([], [answer]) if isinstance(answer, RequestError) else (answer, [])
    errors += [line.error for line in lines if line.error]
    if errors:
        return pb_utils.InferenceResponse([], pb_utils.TritonError(str(errors[0]), errors[0].code))
    texts = np.array([[(line.text or "").encode()] for line in lines], object)
    confidences = np.array([[line.confidence] for line in lines], np.float32)
    tensors = [
        pb_utils.Tensor("text", texts),
        pb_utils.Tensor("confidence", np.clip(confidences, LEAST_CONFIDENCE, 1)),
    ]
    if any(line.is_aligned for line in lines):
        # Lines of a request are as long as the longest, and never empty.
        most = max(1, *(len(line.boxes) for line in lines))
        boxes = np.full((len(lines), most, 4), NO_CHARACTER, np.float32)
        likely = np.full((len(lines), most), NO_CHARACTER, np.float32)
        for place, line in enumerate(lines):
            if line.boxes:
                boxes[place, : len(line.boxes)], likely[place, : len(line.boxes)] = line.boxes, line.likely
        tensors += [
            pb_utils.Tensor("character_boxes", boxes),
            pb_utils.Tensor("character_confidences", likely),
        ]
    return pb_utils.InferenceResponse(tensors)


def _shares(found: line_image.Found | None, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the line, as shares of the image's width and height."""
    if found is None:
        return 0.0, 0.0, 1.0, 1.0
    left, top, right, bottom = found.box
    x, y = found.origin
    return (left + x) / size[0], (top + y) / size[1], (right + x) / size[0], (bottom + y) / size[1]
