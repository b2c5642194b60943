"""Triton model `image_decoder`: encoded images in, the pixels that the recognition models take out.

One image that cannot be decoded fails its own request, with a message that says which image and why; the
other requests of the batch are answered. The pixels are defined in `decoding.py`.
"""

import json

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

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        encoded = pb_utils.get_input_tensor_by_name(request, "encoded_image").as_numpy().reshape(-1)
        images = np.empty((len(encoded), decoding.CROP, decoding.CROP, 3), np.uint8)
        for position, data in enumerate(encoded):
            try:
                images[position] = decoding.decode(data, **self.limits)
            except decoding.ImageError as error:
                message = f"image {position + 1} of {len(encoded)}: {error}"
                return pb_utils.InferenceResponse(
                    [], pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG)
                )
        return pb_utils.InferenceResponse([pb_utils.Tensor("image", images)])
