"""TensorFlow and its converter, which need another NumPy and another protobuf than all else here."""

from export.common.environments import Environment

__all__ = ["PINS", "TENSORFLOW"]

PINS = (
    "tensorflow==2.21.0",
    "keras==3.15.1",
    "tf2onnx==1.17.0",  # the ONNX project's own converter of TensorFlow graphs
    "onnx==1.23.2",
)
TENSORFLOW = Environment("tensorflow", "TensorFlow", PINS, 3_500_000_000, "2.1 GB, some minutes")
