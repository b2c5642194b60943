"""Triton model `image_decoder`: encoded images in, the pixels that the recognition models take out.

One image that cannot be decoded fails its own request, with a message that says which image and why; the
other requests of the batch are answered. The pixels are defined in `decoding.py`.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import decoding
import idle_memory
import numpy as np
import triton_python_backend_utils as pb_utils
from unforeseen import each_alone

Decoded = np.ndarray | decoding.ImageError  # UINT8 [224, 224, 3], or why there is none


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        idle_memory.give_back_when_idle()
        parameters = json.loads(args["model_config"])["parameters"]
        self.limits = {
            name: int(parameters[name]["string_value"])
            for name in ("max_bytes", "max_pixels")
            if name in parameters
        }
        # Pillow and cykooz-resizer run without Python's lock, so threads decode a batch side by side.
        self.pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    @each_alone
    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        encoded = [pb_utils.get_input_tensor_by_name(r, "encoded_image").as_numpy().ravel() for r in requests]
        if sum(map(len, encoded)) == 1:  # nothing to share out, and no thread to wake
            decoded: Iterator[Decoded] = map(self._decode, encoded[0])
        else:
            decoded = self.pool.map(self._decode, [data for batch in encoded for data in batch])
        return [self._answer([next(decoded) for _ in batch]) for batch in encoded]

    def _decode(self, data: bytes) -> Decoded:
        try:
            return decoding.decode(data, **self.limits)
        except decoding.ImageError as error:
            return decoding.ImageError(str(error))  # the one that was raised keeps frames, and these requests

    @staticmethod
    def _answer(decoded: list[Decoded]) -> pb_utils.InferenceResponse:
        """Of one request: its images, or the first error among them."""
        images = []
        for position, image in enumerate(decoded):
            if isinstance(image, decoding.ImageError):
                message = f"image {position + 1} of {len(decoded)}: {image}"
                error = pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG)
                return pb_utils.InferenceResponse([], error)
            images.append(image)
        batch = images[0][None] if len(images) == 1 else np.stack(images)
        return pb_utils.InferenceResponse([pb_utils.Tensor("image", batch)])

    def finalize(self) -> None:
        self.pool.shutdown()
        gc.collect()  # errors keep frames, and these requests, whose memory ends before Python does
