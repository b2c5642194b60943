"""Triton model `detect_objects`: encoded photographs in, boxes of what is in them out.

A request holds one photograph, as each has its own number of boxes; Triton hands over those that wait
together. The network is a detector of boxes and scores, UINT8 pixels in: `config.pbtxt` has another model of
the server run it (business logic scripting), `configs/cpu.pbtxt` this process (`called_network.py`). Which
boxes stay is decided for each photograph alone (`best_boxes.py`), whatever else is in the batch. What is
wrong with one photograph, or with one request's parameters, fails that request alone. Each is answered as
soon as the network has seen it, the last one when the batch has been given back (`answers.py`).

Boxes are in pixels of the upright photograph, within its sides, best score first. `detect_NAME` of a detector
that somebody brings is this file with another configuration (`python -m export FILE.onnx --detector auto`).
"""

from __future__ import annotations

import functools
import gc
import json
import os
import reprlib
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import decoding
import idle_memory
import numpy as np
import triton_python_backend_utils as pb_utils
from answers import Answers
from best_boxes import Found, Wanted, chosen
from called_network import InProcess, open_network
from letterbox import BORDER, Letterbox, Placed
from request_values import class_number, finite_number, parameters_of
from served_network import NetworkError
from unforeseen import told

Responses: TypeAlias = "list[pb_utils.InferenceResponse] | None"
Executed: TypeAlias = "Responses | Coroutine[Any, Any, Responses]"  # the latter by an event loop of Triton's

MOST_DETECTIONS = 1_000
DEFAULTS = ("score_threshold", "iou_threshold", "max_detections")  # parameters of the configuration as well
PARAMETERS = (*DEFAULTS, "classes")
STRETCH = "stretch"  # value of the parameter `fit`; the other one is "letterbox"


class RequestError(Exception):
    """Fails one request; `code` is Triton's, INVALID_ARG without."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = pb_utils.TritonError.INVALID_ARG if code is None else code


class Photograph:
    """What is looked for in one photograph, and then what the network said of it, or why it said nothing."""

    def __init__(self, placed: Placed, wanted: Wanted) -> None:
        self.placed, self.wanted = placed, wanted
        self.said: tuple[np.ndarray, np.ndarray] | RequestError = RequestError(
            "nobody looked", pb_utils.TritonError.INTERNAL
        )

    def found(self) -> Found:
        """Of `said`, FP32 [places, 4] and [places, classes]. Raises `RequestError`."""
        if isinstance(self.said, RequestError):
            raise self.said
        found = chosen(*self.said, self.wanted)
        own = self.placed.in_photograph(found.boxes)
        is_there = (own[:, 2] > own[:, 0]) & (own[:, 3] > own[:, 1])  # not in the border alone
        return Found(own[is_there], found.scores[is_there], found.class_ids[is_there])


class TritonPythonModel:
    """Photographs to boxes, by the detector that the parameters of the configuration name."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the parameters; raises for what contradicts the detector."""
        idle_memory.give_back_when_idle()
        written = json.loads(args["model_config"])["parameters"]
        parameters = {name: value["string_value"] for name, value in written.items()}
        self.limits = {
            name: int(parameters[name]) for name in ("max_bytes", "max_pixels") if name in parameters
        }
        width, height = int(parameters["width"]), int(parameters["height"])
        self.letterbox = Letterbox(
            width, height, parameters["fit"] == STRETCH, int(parameters.get("border", BORDER))
        )
        # By the place of this file: held equal with the detector's own by `python -m export use` and
        # `copies`.
        self.labels = _lines(Path(args["model_repository"]) / "labels.txt")
        self.known = {label.casefold() for label in self.labels}
        self.names = np.array([label.encode() for label in self.labels], object)
        self.defaults: dict[str, Any] = {name: parameters[name] for name in DEFAULTS}
        self._wanted({})  # what is wrong with the configuration is told at once
        example = {"image": np.zeros((1, height, width, 3), np.uint8)}
        self.name = parameters["detector"]
        self.detector = open_network(
            args, parameters, self.name, "finds objects", example, ["boxes", "scores"]
        )
        if isinstance(self.detector, InProcess):  # one of the server may not be loaded yet: asked, it is told
            self._check_classes(self.detector.network.run(example, False)[1])
        self.detector_batch = int(parameters["detector_batch"])
        # Pillow and cykooz-resizer run without Python's lock, so threads can decode a batch side by side.
        cores = self.detector.cores
        self.answers = Answers()
        self.pool = ThreadPoolExecutor(len(cores), initializer=os.sched_setaffinity, initargs=(0, cores))

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> Executed:
        """Boxes of each photograph, or why there are none. None, as each is answered on its own; but a lone
        one, whose instance nothing waits for, is answered by what this returns, which takes less."""
        return self.detector.carried_out(self._execute(requests))

    async def _execute(self, requests: list[pb_utils.InferenceRequest]) -> Responses:
        with self.detector.at_work() as alone:
            side_by_side = alone and len(requests) > 1
            openings = [self._opening(request, side_by_side) for request in requests]
            if alone and len(requests) == 1:
                return [self._response(*await self._looked_for(openings))]
            starts = range(0, len(requests), self.detector_batch)
            parts = [slice(start, start + self.detector_batch) for start in starts]
            await self.detector.together(self._answer(requests[part], openings[part]) for part in parts)
        return None

    async def _answer(
        self,
        requests: Sequence[pb_utils.InferenceRequest],
        openings: Sequence[Callable[[], Photograph] | RequestError],
    ) -> None:
        for request, answer in zip(requests, await self._looked_for(openings), strict=True):
            self.answers.give(request, functools.partial(self._response, answer))

    def _opening(
        self, request: pb_utils.InferenceRequest, side_by_side: bool
    ) -> Callable[[], Photograph] | RequestError:
        """What gives the photograph when called; a thread of the pool is at it already, or none."""
        try:
            encoded = pb_utils.get_input_tensor_by_name(request, "encoded_image").as_numpy().ravel()
            if len(encoded) != 1:
                raise RequestError(
                    f"{len(encoded)} images in one request: each has its own number of boxes, so send one a "
                    "request, several requests at a time; they share batches"
                )
            wanted = self._wanted(_parameters(request))
        except Exception as error:  # whatever it is, the others of the batch are strangers
            return _told(error)
        if side_by_side:
            return self.pool.submit(self._open, encoded[0], wanted).result
        return functools.partial(self._open, encoded[0], wanted)

    def _open(self, encoded: bytes, wanted: Wanted) -> Photograph:
        return Photograph(self.letterbox.placed(decoding.decode_whole(encoded, **self.limits)), wanted)

    def _wanted(self, given: dict[str, Any]) -> Wanted:
        """Raises `RequestError`."""
        if unknown := sorted(name for name in given if name not in PARAMETERS):
            raise RequestError(
                f"there is no parameter {reprlib.repr(unknown[0])}; there are {', '.join(PARAMETERS)}"
            )
        asked = {**self.defaults, **given}
        return Wanted(
            _within("score_threshold", asked["score_threshold"], 0, 1),
            _within("iou_threshold", asked["iou_threshold"], 0, 1),
            self._classes(asked["classes"]) if "classes" in asked else None,
            int(_within("max_detections", asked["max_detections"], 1, MOST_DETECTIONS, whole=True)),
        )

    def _classes(self, value: object) -> list[int]:
        """The numbers of those that are asked for. Raises `RequestError`."""
        names = [str(value)] if isinstance(value, int) and not isinstance(value, bool) else value
        names = names.split(",") if isinstance(names, str) else names
        if not isinstance(names, list) or not all(name.strip() for name in names):
            raise RequestError(
                f"classes is {reprlib.repr(value)}; it must be numbers or labels of classes in a string, "
                "with commas between them, such as 'cat, dog'; leave it out for all"
            )
        if len(names) > len(self.labels):
            raise RequestError(
                f"classes names {len(names)}, and there are {len(self.labels)}; name each once"
            )
        return [self._class(name.strip()) for name in names]

    def _class(self, name: str) -> int:
        number = finite_number(name)
        is_label = name.casefold() in self.known
        if number is None or is_label:  # some detectors find numerals: a label is what it says
            try:
                return class_number(name, self.labels, "one of classes")
            except ValueError as error:
                raise RequestError(str(error)) from error
        if number != int(number) or not 0 <= number < len(self.labels):
            raise RequestError(
                f"classes has {name[:20]}; the classes are whole numbers, 0 to {len(self.labels) - 1}"
            )
        return int(number)

    async def _looked_for(
        self, openings: Sequence[Callable[[], Photograph] | RequestError]
    ) -> list[Photograph | RequestError]:
        """The photographs, by the detector in one batch; each has what it said, or why it said nothing."""
        answers = [_opened(opening) for opening in openings]
        photographs = [answer for answer in answers if isinstance(answer, Photograph)]
        if not photographs:
            return answers
        try:
            boxes, scores = await self.detector.run(
                {"image": np.stack([photograph.placed.pixels for photograph in photographs])}
            )
            self._check_classes(scores)
            for photograph, *said in zip(photographs, boxes, scores, strict=True):
                photograph.said = (said[0], said[1])
        except Exception as error:  # of this batch alone
            for photograph in photographs:
                photograph.said = _told(error)
        return answers

    def _check_classes(self, scores: np.ndarray) -> None:
        """Raises `NetworkError` where the detector has other classes than there are labels."""
        if scores.shape[2] != len(self.labels):
            reason = (
                f"it tells {scores.shape[2]} classes apart, and labels.txt names {len(self.labels)}; "
                "export the detector again, or write a name for each class, one per line"
            )
            raise NetworkError(self.name, "finds objects", reason, pb_utils.TritonError.INTERNAL)

    def _response(self, answer: Photograph | RequestError) -> pb_utils.InferenceResponse:
        try:
            if isinstance(answer, RequestError):
                raise answer
            found = answer.found()
        except Exception as error:  # of this photograph alone
            failed = _told(error)
            return pb_utils.InferenceResponse([], pb_utils.TritonError(str(failed), failed.code))
        outputs = {
            "boxes": found.boxes,
            "scores": found.scores,
            "class_ids": found.class_ids,
            "labels": self.names[found.class_ids],
        }
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, np.ascontiguousarray(array[None])) for name, array in outputs.items()]
        )

    def finalize(self) -> None:
        """End the threads, once the last answer is gone."""
        self.pool.shutdown()
        self.answers.close()
        gc.collect()  # errors keep frames, and these requests, whose memory ends before Python does


def _parameters(request: pb_utils.InferenceRequest) -> dict[str, Any]:
    """Raises `RequestError`."""
    try:
        return parameters_of(request)
    except ValueError as error:
        raise RequestError(str(error)) from error


def _opened(opening: Callable[[], Photograph] | RequestError) -> Photograph | RequestError:
    if isinstance(opening, RequestError):
        return opening
    try:
        return opening()
    except Exception as error:  # whatever it is, the others of the batch are strangers
        return _told(error)


def _told(error: Exception) -> RequestError:
    """As one request is answered: another one, as what was raised keeps frames. What nobody foresaw stands in
    the server's log as well."""
    if isinstance(error, (RequestError, NetworkError)):
        return RequestError(str(error), error.code)
    if isinstance(error, decoding.ImageError):
        return RequestError(f"image 1 of 1: {error}")
    return RequestError(told(error), pb_utils.TritonError.INTERNAL)


def _lines(file: Path) -> list[str]:
    """As Triton reads labels: lines end where a line feed is, and nowhere else."""
    text = file.read_bytes().decode().replace("\r\n", "\n")
    return text.removesuffix("\n").split("\n")


def _within(name: str, value: object, least: float, most: float, whole: bool = False) -> float:
    """Raises `RequestError` for what is no such number."""
    number = finite_number(value)
    if number is None or not least <= number <= most or (whole and number != int(number)):
        kind = "a whole number" if whole else "a number"
        raise RequestError(f"{name} is {reprlib.repr(value)}; it must be {kind} from {least} to {most}")
    return number
