"""Triton model `recognize_objects` where there is no GPU: encoded images to probabilities in one process.

`config.pbtxt` makes it an ensemble of `image_decoder` and a CNN: right for a GPU, which wants batches of
pixels. On a CPU a batch gains nothing, and each step between processes costs (docs/decisions/0012), so
`configs/cpu.pbtxt` has this file do both, image by image. The pixels are image_decoder's, `decoding.py`, and
the graph is the one that the CNN's own folder holds; both answer alike.

One image that cannot be decoded fails its own request; the other requests of the batch are answered.
"""

from __future__ import annotations

import gc
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import decoding
import idle_memory
import numpy as np
import triton_python_backend_utils as pb_utils
from network import NICE, STUB, AtWork, Network, all_cores
from step_spans import StepSpans, log_failures
from unforeseen import each_alone

Decoded = np.ndarray | decoding.ImageError  # UINT8 [224, 224, 3], or why there is none
Step = tuple[str, int, int]  # name, and nanoseconds since 1970 at its beginning and end


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        idle_memory.give_back_when_idle()
        written = json.loads(args["model_config"])["parameters"]
        parameters = {name: value["string_value"] for name, value in written.items()}
        os.nice(NICE)  # before the sessions start threads, which inherit it
        limits = ("max_bytes", "max_pixels")
        self.limits = {name: int(parameters[name]) for name in limits if name in parameters}
        self.network = Network(
            Path(args["model_repository"]).parent / parameters["cnn"],
            {"image": np.zeros((1, decoding.CROP, decoding.CROP, 3), np.uint8)},
            ["probabilities"],
            int(parameters.get("intra_op_thread_count", 1)),
            int(parameters.get("lone_intra_op_thread_count", 1)),
        )
        self.spans = StepSpans(args["model_name"])
        self.at_work = AtWork(STUB)
        cores = all_cores()
        # Pillow and cykooz-resizer run without Python's lock, so threads can decode a batch side by side.
        self.pool = ThreadPoolExecutor(len(cores), initializer=os.sched_setaffinity, initargs=(0, cores))

    @each_alone
    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        encoded = [pb_utils.get_input_tensor_by_name(r, "encoded_image").as_numpy().ravel() for r in requests]
        self.network.follow()
        alone = self.at_work.begin()
        try:
            side_by_side = alone and sum(map(len, encoded)) > 1
            decode = self.pool.map if side_by_side else map
            decoded = decode(self._decoded, [data for batch in encoded for data in batch])
            answers = [
                self._answer([next(decoded) for _ in batch], self.spans.traceparent(request))
                for request, batch in zip(requests, encoded, strict=True)
            ]
            log_failures(pb_utils.Logger.log_warn, requests, answers)
            return answers
        finally:
            self.at_work.end()

    def _decoded(self, data: bytes) -> tuple[Decoded, Step]:
        began = time.time_ns()
        image: Decoded
        try:
            image = decoding.decode(data, **self.limits)
        except decoding.ImageError as error:
            image = decoding.ImageError(
                str(error)
            )  # the one that was raised keeps frames, and these requests
        return image, ("decode", began, time.time_ns())

    def _answer(self, decoded: list[tuple[Decoded, Step]], traceparent: str) -> pb_utils.InferenceResponse:
        """Of one request: probabilities of its images, or the first error among them."""
        steps = [step for _, step in decoded]
        try:
            return self._probabilities([image for image, _ in decoded], steps)
        finally:
            self.spans.tell(traceparent, steps)

    def _probabilities(self, decoded: list[Decoded], steps: list[Step]) -> pb_utils.InferenceResponse:
        images = []
        for position, image in enumerate(decoded):
            if isinstance(image, decoding.ImageError):
                message = f"image {position + 1} of {len(decoded)}: {image}"
                return failure(message, pb_utils.TritonError.INVALID_ARG)
            images.append(image)
        began = time.time_ns()
        try:
            rows = [self.network.run({"image": image[None]}, self.at_work.begin())[0][0] for image in images]
        except Exception as error:
            return failure(f"the CNN failed: {error}", pb_utils.TritonError.INTERNAL)
        finally:
            steps.append(("cnn", began, time.time_ns()))
        return pb_utils.InferenceResponse([pb_utils.Tensor("probabilities", np.stack(rows))])

    def finalize(self) -> None:
        self.pool.shutdown()
        gc.collect()  # errors keep frames, and these requests, whose memory ends before Python does


def failure(message: str, code: int) -> pb_utils.InferenceResponse:
    return pb_utils.InferenceResponse([], pb_utils.TritonError(message, code))
