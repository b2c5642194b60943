"""The Triton release that exported models must load on, and what it accepts.

Sources: Triton's `build.py` of branch r24.10 (server 2.51.0, ONNX Runtime 1.19.2) and the deep learning
frameworks support matrix (TensorRT 10.5); the limits of ONNX Runtime 1.19 are those of ONNX 1.16, which
it was built with (`docs/Versioning.md` of ONNX, `onnx.helper.VERSION_TABLE`). Newer graphs are refused
at load time by that release, however well they run on the desk.
"""

__all__ = ["CONTAINER_RELEASE", "MAX_IR_VERSION", "MAX_OPSET", "ONNXRUNTIME", "OPSET", "TENSORRT", "TRITON"]

CONTAINER_RELEASE = "24.10"  # nvcr.io/nvidia/tritonserver:24.10-py3
TRITON = "2.51.0"  # the same version as the pip binary
ONNXRUNTIME = "1.19.2"
TENSORRT = "10.5"

MAX_OPSET = 21  # of the default ONNX domain
MAX_IR_VERSION = 10

OPSET = 18  # what we write: PyTorch's exporter is native there, later opsets go through a converter
