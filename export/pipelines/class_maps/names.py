"""What a sibling with class activation maps is called, and how it is told from other models."""

from export.pipelines.onnx_files.names import CLASS_MAPS

__all__ = ["CLASS_MAPS", "SUFFIX", "base_of", "label_of", "sibling_name"]

SUFFIX = "_cam"  # class activation map


def sibling_name(base: str) -> str:
    """What the sibling of a model is called."""
    return f"{base}{SUFFIX}"


def base_of(name: str) -> str | None:
    """The model that a sibling was made of, by the names of both; None for another name."""
    return name.removesuffix(SUFFIX) if name.endswith(SUFFIX) and name != SUFFIX else None


def label_of(base_label: str) -> str:
    """What clients see as the sibling's weights: those of its base."""
    return f"{base_label}{CLASS_MAPS}"
