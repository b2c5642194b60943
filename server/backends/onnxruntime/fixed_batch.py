"""Batches of one size for a GPU, where a change of shape costs more than computing for nothing.

From 1.20 on ONNX Runtime plans each convolution anew on CUDA whenever the shape differs from the one before:
tenths of a second for a CNN, against milliseconds for the batch (docs/how-to/gpu.md).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime as ort

__all__ = ["FixedBatch"]


class FixedBatch:
    """A session that computes `size` items at a time: smaller batches are filled up, larger ones stay.

    They are filled with their last item, which is valid input to any graph; its answers are dropped.
    """

    def __init__(self, session: ort.InferenceSession, size: int):
        self.session, self.size = session, size

    def run(
        self,
        output_names: Sequence[str],
        feed: Mapping[str, np.ndarray],
        run_options: ort.RunOptions | None = None,
    ) -> list[np.ndarray]:
        """As `onnxruntime.InferenceSession.run`; all but scalars have the batch as their first dimension."""
        count = next((len(array) for array in feed.values() if array.ndim), self.size)
        missing = self.size - count
        if missing <= 0:
            return self.session.run(output_names, feed, run_options)
        filled = {
            name: np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if array.ndim else array
            for name, array in feed.items()
        }
        # An output of another length is left for the caller to complain about.
        return [
            array[:count] if array.shape[:1] == (self.size,) else array
            for array in self.session.run(output_names, filled, run_options)
        ]
