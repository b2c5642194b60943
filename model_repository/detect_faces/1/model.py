"""Triton model `detect_faces`: encoded photographs in, the faces in them out, by MTCNN.

A request holds one photograph, as each has its own number of faces; Triton hands over those that wait
together, and their candidates share batches of the second and third network (`search.py`), which are models
of the server (`stages.py`). The photographs of a batch are searched some at a time, as memory allows. What
is wrong with one photograph, or with one request's parameters, fails that request alone.

Boxes and landmarks are in pixels of the upright photograph, best score first, and may reach beyond it.
"""

from __future__ import annotations

import gc
import json
import reprlib
from collections.abc import Iterator, Sequence
from typing import Any

import decoding
import idle_memory
import numpy as np
import triton_python_backend_utils as pb_utils
from face_pixels import LEAST_FACE, Areas
from request_values import finite_number, parameters_of
from search import Photograph, search
from served_network import NetworkError
from stages import Stage
from unforeseen import each_alone

OUTPUTS: dict[str, dict[str, Sequence[int]]] = {
    "pnet": {"scores": (-1, -1), "offsets": (-1, -1, 4)},
    "rnet": {"score": (1,), "offsets": (4,)},
    "onet": {"score": (1,), "offsets": (4,), "landmarks": (5, 2)},
}
MIN_FACE_SIZE, THRESHOLDS = 20, "0.6 0.7 0.7"
MOST_FACE_SIZE = decoding.MAX_SIDE


class RequestError(Exception):
    """Fails one request; `code` is Triton's, INVALID_ARG without."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = pb_utils.TritonError.INVALID_ARG if code is None else code


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        idle_memory.give_back_when_idle()
        written = json.loads(args["model_config"])["parameters"]
        parameters = {name: value["string_value"] for name, value in written.items()}
        self.limits = {
            name: int(parameters[name]) for name in ("max_bytes", "max_pixels") if name in parameters
        }
        self.pixels_at_a_time = int(parameters["pixels_at_a_time"])
        self.tile = int(parameters["tile"])
        underway = int(parameters["requests_underway"])
        self.stages = [
            Stage(parameters[stage], outputs, int(parameters[f"{stage}_batch"]), underway)
            for stage, outputs in OUTPUTS.items()
        ]

    @each_alone
    async def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        for stage in self.stages:
            stage.begin()
        responses: list[pb_utils.InferenceResponse] = []
        for group in self._groups(requests):
            photographs = [one for one in group if isinstance(one, Photograph)]
            try:
                await search(photographs, self.tile, *self.stages)
                responses += [_faces(one) if isinstance(one, Photograph) else _failure(one) for one in group]
            except NetworkError as error:
                failed = RequestError(str(error), error.code)
                responses += [_failure(failed if isinstance(one, Photograph) else one) for one in group]
        return responses

    def _groups(self, requests: list[pb_utils.InferenceRequest]) -> Iterator[list[Photograph | RequestError]]:
        """What the requests ask for, as many at a time as memory allows; opened only then."""
        group: list[Photograph | RequestError] = []
        pixels = 0
        for request in requests:
            try:
                photograph = self._opened(request)
                pixels += photograph.areas.height * photograph.areas.width
                group.append(photograph)
            except RequestError as error:
                group.append(RequestError(str(error), error.code))  # one that was raised keeps frames
            if pixels >= self.pixels_at_a_time:
                yield group
                group, pixels = [], 0
        if group:
            yield group

    def _opened(self, request: pb_utils.InferenceRequest) -> Photograph:
        encoded = pb_utils.get_input_tensor_by_name(request, "encoded_image").as_numpy().ravel()
        if len(encoded) != 1:
            raise RequestError(
                f"{len(encoded)} images in one request: each has its own number of faces, so send one a "
                "request, several requests at a time; they share batches"
            )
        try:
            parameters = parameters_of(request)
        except ValueError as error:
            raise RequestError(str(error)) from error
        min_face_size, thresholds = _min_face_size(parameters), _thresholds(parameters)
        try:
            image = decoding.decode_whole(encoded[0], **self.limits)
        except decoding.ImageError as error:
            raise RequestError(f"image 1 of 1: {error}") from error
        return Photograph(Areas(np.asarray(image.convert("RGB"))), min_face_size, thresholds)

    def finalize(self) -> None:
        gc.collect()  # errors keep frames, and these requests, whose memory ends before Python does


def _min_face_size(parameters: dict[str, Any]) -> float:
    value = parameters.get("min_face_size", MIN_FACE_SIZE)
    size = finite_number(value)
    if size is None or not LEAST_FACE <= size <= MOST_FACE_SIZE:
        raise RequestError(
            f"min_face_size is {reprlib.repr(value)}; it must be a number of pixels from {LEAST_FACE} to "
            f"{MOST_FACE_SIZE}"
        )
    return size


def _thresholds(parameters: dict[str, Any]) -> tuple[float, float, float]:
    value = parameters.get("thresholds", THRESHOLDS)
    numbers = [finite_number(part) for part in value.split()] if isinstance(value, str) else []
    sound = [number for number in numbers if number is not None and 0 <= number <= 1]
    if len(sound) != len(numbers) or len(sound) != 3:
        raise RequestError(
            f"thresholds is {reprlib.repr(value)}; it must be three numbers from 0 to 1 in a string, for the "
            f"networks in turn, such as {THRESHOLDS!r}"
        )
    return sound[0], sound[1], sound[2]


def _faces(photograph: Photograph) -> pb_utils.InferenceResponse:
    found = photograph.found
    outputs = {"boxes": found.boxes, "scores": found.scores, "landmarks": photograph.landmarks}
    return pb_utils.InferenceResponse(
        [pb_utils.Tensor(name, np.ascontiguousarray(array[None])) for name, array in outputs.items()]
    )


def _failure(error: RequestError) -> pb_utils.InferenceResponse:
    return pb_utils.InferenceResponse([], pb_utils.TritonError(str(error), error.code))
