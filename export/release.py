"""The Triton release that exported models must load on, and what it accepts.

`TRITON` is what the pip binary says of itself. The limits are those of ONNX 1.16 (its `VERSION_TABLE`),
the ONNX that ONNX Runtime 1.19 was built with; that the container of this release holds ONNX Runtime 1.19.2
has not been confirmed on the container itself. Newer graphs are refused at load time by that release,
however well they run on the desk.
"""

__all__ = ["CONTAINER_RELEASE", "MAX_IR_VERSION", "MAX_OPSET", "ONNXRUNTIME", "OPSET", "TRITON"]

CONTAINER_RELEASE = "24.10"  # nvcr.io/nvidia/tritonserver:24.10-py3
TRITON = "2.51.0"  # the same version as the pip binary
ONNXRUNTIME = "1.19.2"

MAX_OPSET = 21  # of the default ONNX domain
MAX_IR_VERSION = 10

OPSET = 18  # what we write: PyTorch's exporter is native there, later opsets go through a converter
