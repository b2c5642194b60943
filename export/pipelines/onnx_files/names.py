"""What a model that is a file may be called, and how it is told from others."""

import re

__all__ = ["CLASS_MAPS", "LABEL", "MODEL_NAME", "is_of_file"]

MODEL_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")  # it becomes a folder
LABEL = "onnx"  # before the digits of the file's sha256 in the parameter `weights`
CLASS_MAPS = ", class maps"  # after the weights of a model's base, where the file is ours, made of its graph


def is_of_file(weights: str) -> bool:
    """Whether a model whose parameter `weights` is this was published as a file, and has no spec."""
    return weights.startswith(f"{LABEL} ") or weights.endswith(CLASS_MAPS)
