"""What a model that is a file may be called, and how it is told from others."""

import re

__all__ = ["LABEL", "MODEL_NAME"]

MODEL_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")  # it becomes a folder
LABEL = "onnx"  # before the digits of the file's sha256 in the parameter `weights`
