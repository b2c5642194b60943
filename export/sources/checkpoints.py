"""Finding a network's weights in what a training wrote around them, by what fits the network.

Frameworks save a state dict alone, or under a key ("state_dict", "model_state_dict", "model", "net", "ema"),
with optimizers and counters beside it, and with a prefix ("module." of data parallelism, "model." of
Lightning, "_orig_mod." of torch.compile). No list of such names is kept: every dict of tensors in the file is
a candidate, with every prefix under which it has what the network needs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.common.errors import CheckpointError
from export.common.wording import counted

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["state_for"]

SHOWN = 8  # keys named in a message, of each kind
TRIED_KEYS = 3  # of the network, by which prefixes are found
DEPTH = 4  # of dicts in dicts
WRAPPERS = ("_orig_mod.", "module.")  # anywhere in a key, where only a part of the network was wrapped
COUNTERS = ".num_batches_tracked"  # bookkeeping of training; old checkpoints have none


@dataclass(frozen=True)
class _Candidate:
    """`where` is the key of the file under which it lies, with the prefix of its keys; "" for the file."""

    where: str
    state: Mapping[str, "torch.Tensor"]

    def problems(self, expected: Mapping[str, "torch.Tensor"]) -> dict[str, list[str]]:
        return {
            "missing": [key for key in expected if key not in self.state and not key.endswith(COUNTERS)],
            "unexpected": [key for key in self.state if key not in expected],
            "of another shape": [
                f"{key}: network {tuple(expected[key].shape)}, checkpoint {tuple(self.state[key].shape)}"
                for key in expected
                if key in self.state and expected[key].shape != self.state[key].shape
            ],
        }


def state_for(
    network: "nn.Module", loaded: Mapping[str, Any], path: Path, name: str
) -> dict[str, "torch.Tensor"]:
    """The state dict inside a loaded file that fits the network. Raises `CheckpointError` when none does,
    with what the nearest one lacks, or when several do that differ."""
    expected = network.state_dict()
    candidates = [
        candidate
        for where, tensors in _dicts_of_tensors(loaded, "", DEPTH)
        for candidate in _prefixed(where, tensors, expected)
    ]
    found = [(candidate, candidate.problems(expected)) for candidate in candidates]
    complete = [candidate for candidate, lacks in found if not lacks["missing"] + lacks["of another shape"]]
    fitting = [candidate for candidate, lacks in found if not any(lacks.values())]
    if fitting:
        # One with more beside it, as weights with their averages beside them, may be meant as well.
        _check_that_they_agree(fitting[0], complete, expected, path, name)
        return dict(fitting[0].state)
    if not candidates:
        raise CheckpointError(
            f"{path} holds no state dict: save it with torch.save(network.state_dict(), path)"
        )
    raise CheckpointError(_what_is_wrong(candidates, expected, path, name))


def _dicts_of_tensors(
    loaded: Mapping[str, Any], where: str, depth: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every dict with tensors under texts, and where it lies."""
    import torch

    tensors = {
        key: value
        for key, value in loaded.items()
        if isinstance(key, str) and isinstance(value, torch.Tensor)
    }
    if tensors:
        yield where, tensors
    if depth:
        for key, value in loaded.items():
            if isinstance(value, Mapping):
                yield from _dicts_of_tensors(value, f"{where}.{key}" if where else str(key), depth - 1)


def _prefixed(where: str, tensors: dict[str, Any], expected: Mapping[str, Any]) -> Iterator[_Candidate]:
    """The dict as it is, and its part under each prefix that is before one of the network's keys."""
    firsts = [key for key in expected if not key.endswith(COUNTERS)][:TRIED_KEYS]
    for form in _forms(tensors, expected):
        prefixes = {
            "",
            *(key[: -len(first)] for first in firsts for key in form if key.endswith(f".{first}")),
        }
        for prefix in sorted(prefixes, key=len):
            state = {key[len(prefix) :]: value for key, value in form.items() if key.startswith(prefix)}
            yield _Candidate(".".join(filter(None, (where, prefix.rstrip(".")))), state)


def _forms(tensors: dict[str, Any], expected: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The keys as they are, and without the wrappers of parts of the network, if that changes them."""
    yield tensors
    unwrapped = {}
    for key, value in tensors.items():
        for wrapper in WRAPPERS:
            if not any(wrapper in name for name in expected):
                key = key.replace(f".{wrapper}", ".").removeprefix(wrapper)
        unwrapped[key] = value
    if unwrapped.keys() != tensors.keys() and len(unwrapped) == len(tensors):
        yield unwrapped


def _check_that_they_agree(
    chosen: _Candidate, others: list[_Candidate], expected: Mapping[str, Any], path: Path, name: str
) -> None:
    """Two that hold the same, as an average at its start does, are one."""
    for other in others:
        shared = expected.keys() & chosen.state.keys() & other.state.keys()
        if any(not _equal(chosen.state[key], other.state[key]) for key in shared):
            places = ", ".join(dict.fromkeys(repr(candidate.where) for candidate in others))
            raise CheckpointError(
                f"{path} holds several state dicts that fit {name}, and they differ: {places} ('' is "
                "the file itself). Save the one that is meant, often the averaged one, in a file of its own: "
                "torch.save(state, path)"
            )


def _equal(one: "torch.Tensor", other: "torch.Tensor") -> bool:
    return one is other or one.nan_to_num().equal(other.nan_to_num())


def _what_is_wrong(candidates: list[_Candidate], expected: Mapping[str, Any], path: Path, name: str) -> str:
    nearest = max(candidates, key=lambda candidate: len(candidate.state.keys() & expected.keys()))
    lines = [
        f"  {len(keys)} {kind}: {_some(keys)}" for kind, keys in nearest.problems(expected).items() if keys
    ]
    place = f" (its {nearest.where!r})" if nearest.where else ""
    return (
        f"the checkpoint {path}{place} for {name} does not fit the network:\n" + "\n".join(lines) + "\n"
        f"It has {counted(len(nearest.state), 'tensor')}, the network {len(expected)}; is it of another "
        "architecture?"
    )


def _some(keys: list[str]) -> str:
    more = f", and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more
