"""Triton model `explain_objects`: encoded images in, heatmaps of what spoke for a class out.

The decoder is image_decoder's, `decoding.py`. The network is a CNN with class activation maps, as `python -m
export NAME --explain` makes it: `config.pbtxt` has another model of the server run it (business logic
scripting), `configs/cpu.pbtxt` this process (`called_network.py`). What goes wrong with one image, or with
the class that is asked for, fails its own request; the other requests of the batch are answered.

With the parameter `masks` the heatmap of a request comes from that many masked copies of its image
(`masked_copies.py`); the class map and its score are what they are without.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import os
import reprlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import decoding
import idle_memory
import masked_copies
import numpy as np
import triton_python_backend_utils as pb_utils
from called_network import open_network
from request_values import class_number, parameters_of
from served_network import NetworkError
from unforeseen import each_alone

TOP_CLASS = -1  # as the network takes it
# Those of the network, in this order, and what they are called here.
OUTPUTS = {
    "heatmap": "heatmap",
    "explained_class": "class_id",
    "class_map": "class_map",
    "logit": "logit",
    "bias": "bias",
    "probabilities": "probabilities",
}
HEATMAP, CLASS, PROBABILITIES = map(list(OUTPUTS).index, ("heatmap", "explained_class", "probabilities"))
SIDE = decoding.CROP
FEWEST_MASKS = 50  # of fewer a heatmap is chance
BATCHES_AT_ONCE = 4  # of masked copies: the CNN's queue, which is others' too, is not filled with them
EXAMPLE: dict[str, np.ndarray] = {
    "image": np.zeros((1, SIDE, SIDE, 3), np.uint8),
    "class_id": np.full((1, 1), TOP_CLASS, np.int32),
}


class RequestError(Exception):
    """Fails one request, as an invalid argument."""


class Explained:
    """One image of a request: its pixels, where they lie in it, the class that is asked for; then answers."""

    def __init__(self, encoded: bytes, limits: dict[str, int]) -> None:
        self.pixels, self.crop = decoding.decode_crop(encoded, **limits)
        self.asked, self.masks = TOP_CLASS, 0
        self.answers: list[np.ndarray] = []  # of the network, in the order of OUTPUTS


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        idle_memory.give_back_when_idle()
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        limits = ("max_bytes", "max_pixels")
        self.limits = {name: int(parameters[name]) for name in limits if name in parameters}
        # By the place of this file: held equal with the CNN's own by `python -m export use` and `copies`.
        labels = Path(args["model_repository"]) / "labels.txt"
        self.labels = labels.read_text(encoding="utf-8").splitlines()
        self.cnn = open_network(
            args, parameters, parameters["cnn"], "explains images", EXAMPLE, list(OUTPUTS)
        )
        self.cnn_batch = int(parameters["cnn_batch"])
        self.max_masks = int(parameters.get("max_masks", 0))
        cores = self.cnn.cores
        # Pillow and cykooz-resizer run without Python's lock, so threads can decode a batch side by side.
        self.pool = ThreadPoolExecutor(len(cores), initializer=os.sched_setaffinity, initargs=(0, cores))

    @each_alone
    async def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        with self.cnn.at_work() as alone:
            tensors = [pb_utils.get_input_tensor_by_name(request, "encoded_image") for request in requests]
            encoded = [tensor.as_numpy().ravel() for tensor in tensors]
            side_by_side = alone and sum(map(len, encoded)) > 1
            openings = [[self._opening(image, side_by_side) for image in images] for images in encoded]
            answers = [self._images(*pair) for pair in zip(requests, openings, strict=True)]
            failed: pb_utils.TritonError | None = None
            try:
                await self._explain(
                    [image for images in answers if isinstance(images, list) for image in images]
                )
            except NetworkError as error:
                failed = pb_utils.TritonError(str(error), error.code)
        return [self._response(answer, failed) for answer in answers]

    def _opening(self, image: bytes, side_by_side: bool) -> Callable[[], Explained]:
        """What gives the pixels of an image when called; a thread of the pool is at it already, or none."""
        if side_by_side:
            return self.pool.submit(Explained, image, self.limits).result
        return functools.partial(Explained, image, self.limits)

    def _images(
        self, request: pb_utils.InferenceRequest, openings: list[Callable[[], Explained]]
    ) -> list[Explained] | RequestError:
        """The images of one request with the classes that it asks for, or the error that it fails with."""
        try:
            masks = self._masks(parameters_of(request).get("masks", 0))
        except (RequestError, ValueError) as error:
            return RequestError(str(error))  # what was raised keeps frames, and these requests
        ids, labels = (pb_utils.get_input_tensor_by_name(request, name) for name in ("class_id", "label"))
        numbers = [TOP_CLASS] * len(openings) if ids is None else ids.as_numpy().ravel().tolist()
        names = [b""] * len(openings) if labels is None else labels.as_numpy().ravel().tolist()
        images: list[Explained] = []
        for place, (opening, number, name) in enumerate(zip(openings, numbers, names, strict=True), 1):
            where = f"image {place} of {len(openings)}"
            try:
                asked = self._class(number, name, where)
                image = opening()
            except RequestError as error:
                return RequestError(str(error))
            except decoding.ImageError as error:
                return RequestError(f"{where}: {error}")
            image.asked, image.masks = asked, masks
            images.append(image)
        return images

    def _class(self, number: int, name: bytes, where: str) -> int:
        """The class that is asked for, by its number or its label. Raises `RequestError`."""
        last = len(self.labels) - 1
        if not TOP_CLASS <= number <= last:
            raise RequestError(
                f"class_id for {where} is {number}, and the classes are 0 to {last}; leave it out, or give "
                f"{TOP_CLASS}, for the likeliest"
            )
        if not name:
            return number
        label = name.decode(errors="replace")
        if number != TOP_CLASS:
            raise RequestError(f"class_id and label are both given for {where}; give one of them")
        try:
            return class_number(label, self.labels, f"the label for {where}")
        except ValueError as error:
            raise RequestError(str(error)) from error

    def _masks(self, value: Any) -> int:
        """How many copies make the heatmap; 0: it is the class map. Raises `RequestError`."""
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if is_whole and (value == 0 or FEWEST_MASKS <= value <= self.max_masks):
            return int(value)
        choices = f"0 (none), or from {FEWEST_MASKS} to {self.max_masks}" if self.max_masks else "0 (none)"
        raise RequestError(
            f"masks is {reprlib.repr(value)}; it must be a whole number, {choices}: the parameter max_masks "
            "in config.pbtxt says how many"
        )

    async def _explain(self, images: list[Explained]) -> None:
        """Raises `NetworkError`."""
        starts = range(0, len(images), self.cnn_batch)
        await asyncio.gather(*(self._asked(images[start : start + self.cnn_batch]) for start in starts))
        for image in images:
            if image.masks:
                image.answers[HEATMAP] = await self._heatmap(image)

    async def _asked(self, images: list[Explained]) -> None:
        pixels = np.stack([image.pixels for image in images])
        class_ids = np.array([[image.asked] for image in images], np.int32)
        answers = await self.cnn.run({"image": pixels, "class_id": class_ids})
        for place, image in enumerate(images):
            image.answers = [answer[place] for answer in answers]

    async def _heatmap(self, image: Explained) -> np.ndarray:
        """From masked copies: FP32 [224, 224]. Raises `NetworkError`."""
        copies, number = masked_copies.Copies(image.pixels), image.answers[CLASS].item()
        masks = masked_copies.masks((image.masks + 1) // 2)
        random = len(masks)
        found = await self._of_copies(copies, masks, number)
        closer = masked_copies.closer(masked_copies.supposed(masks, found), image.masks - random)
        found = np.concatenate([found, await self._of_copies(copies, closer, number)])
        heat = masked_copies.saliency(np.concatenate([masks, closer]), found, random)
        return masked_copies.enlarged(heat, (SIDE, SIDE))

    async def _of_copies(self, copies: masked_copies.Copies, masks: np.ndarray, number: int) -> np.ndarray:
        """Of the class, for the copy that each mask makes: FP32 [n]. Raises `NetworkError`."""
        found: list[np.ndarray] = []
        for start in range(0, len(masks), self.cnn_batch * BATCHES_AT_ONCE):
            pixels = copies.masked(masks[start : start + self.cnn_batch * BATCHES_AT_ONCE])
            class_ids = np.full((len(pixels), 1), number, np.int32)
            found += await asyncio.gather(
                *(
                    self._probabilities(pixels[at : at + self.cnn_batch], class_ids[at : at + self.cnn_batch])
                    for at in range(0, len(pixels), self.cnn_batch)
                )
            )
        return np.concatenate(found)[:, number]

    async def _probabilities(self, pixels: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
        answers = await self.cnn.run({"image": pixels, "class_id": class_ids})
        return answers[PROBABILITIES]

    def _response(
        self, answer: list[Explained] | RequestError, failed: pb_utils.TritonError | None
    ) -> pb_utils.InferenceResponse:
        if isinstance(answer, RequestError):
            refused = pb_utils.TritonError(str(answer), pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse([], refused)
        if failed:
            return pb_utils.InferenceResponse([], failed)
        columns = map(np.stack, zip(*(image.answers for image in answer), strict=True))
        found = dict(zip(OUTPUTS.values(), columns, strict=True))
        labels = [[self.labels[number].encode()] for number in found["class_id"].ravel()]
        found |= {"label": np.array(labels, object), "crop": np.array([i.crop for i in answer], np.float32)}
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in found.items()])

    def finalize(self) -> None:
        self.pool.shutdown()
        gc.collect()  # errors keep frames, and these requests, whose memory ends before Python does
