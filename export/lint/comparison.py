"""What checks share: names, types, dims and limits, compared and written in one way."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

from tritonclient.grpc import model_config_pb2

from export.common.release import Release

__all__ = ["at_most", "data_type_name", "loosely_equal", "near"]

Dims = Sequence[int]


def loosely_equal(dims: Dims, others: Dims) -> bool:
    """Equal where both are fixed."""
    return len(dims) == len(others) and all(
        ours == theirs or -1 in (ours, theirs) for ours, theirs in zip(dims, others, strict=True)
    )


def at_most(limits: Mapping[Release, int]) -> str:
    """What the ONNX Runtime of each release takes, for messages."""
    first, *others = (
        f"{release.onnxruntime} of release {release.name} takes at most {limit}"
        for release, limit in limits.items()
    )
    return ", ".join([f"ONNX Runtime {first}", *others])


def near(name: str, names: Iterable[str]) -> str:
    """Advice to write the name that was probably meant, or ""."""
    candidates = list(names)
    lowered = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    if not found and len(candidates) == 1:
        return f"write {candidates[0]!r}"
    return f"write {lowered[found[0]]!r}" if found else ""


def data_type_name(number: int) -> str:
    """Of a number of Triton's enum DataType: "TYPE_FP32" of 11. Raises `ValueError` for any other number."""
    return model_config_pb2.DataType.Name(number)
