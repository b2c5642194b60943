"""What a model that is a file may be called, and how it is told from others."""

import re

__all__ = ["CLASS_MAPS", "KERAS", "KINDS", "LABEL", "MODEL_NAME", "SAVED_MODEL", "is_of_file", "kind_of_file"]

MODEL_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")  # it becomes a folder
LABEL = "onnx"  # before the digits of the file's sha256 in the parameter `weights`
SAVED_MODEL, KERAS = "savedmodel", "keras"  # the same of what was converted to ONNX
CLASS_MAPS = ", class maps"  # after the weights of a model's base, where the file is ours, made of its graph

KINDS = {LABEL: "an ONNX file", SAVED_MODEL: "a SavedModel", KERAS: "a Keras file"}


def kind_of_file(weights: str) -> str:
    """In words, of what a model with this parameter `weights` was made; "" where it has a spec."""
    return KINDS.get(weights.partition(" ")[0], "") if " " in weights else ""


def is_of_file(weights: str) -> bool:
    """Whether a model whose parameter `weights` is this was published as a file, and has no spec."""
    return bool(kind_of_file(weights)) or weights.endswith(CLASS_MAPS)
