"""Triton model `image_decoder`: encoded images in, the pixels that the recognition models take out.

One image that cannot be decoded fails its own request, with a message that says which image and why; the
other requests of the batch are answered. The pixels are defined in `decoding.py`.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import decoding
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self.limits = {
            name: int(parameters[name]["string_value"])
            for name in ("max_bytes", "max_pixels")
            if name in parameters
        }
        # Pillow decodes and resizes without Python's lock, so threads decode a batch side by side.
        self.pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    def execute(self, requests):
        answers = [self._start(request) for request in requests]
        return [self._finish(decodings) for decodings in answers]

    def _start(self, request):
        encoded = pb_utils.get_input_tensor_by_name(request, "encoded_image").as_numpy().reshape(-1)
        return [self.pool.submit(decoding.decode, data, **self.limits) for data in encoded]

    @staticmethod
    def _finish(decodings):
        images = np.empty((len(decodings), decoding.CROP, decoding.CROP, 3), np.uint8)
        for position, decoded in enumerate(decodings):
            try:
                images[position] = decoded.result()
            except decoding.ImageError as error:
                message = f"image {position + 1} of {len(decodings)}: {error}"
                return pb_utils.InferenceResponse(
                    [], pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG)
                )
        return pb_utils.InferenceResponse([pb_utils.Tensor("image", images)])

    def finalize(self):
        self.pool.shutdown()
