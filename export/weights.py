"""Which weights a network gets, and getting them into it.

Weights are "pretrained" (from a package, or committed), "checkpoint" (the user's file) or "random" (for
load tests); the label of that goes into the graph and into `config.pbtxt`, where clients see it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from export.errors import CheckpointError
from export.packages import extract, file_sha256
from export.spec import CommittedWeights, ModelSpec

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Weights", "choose_weights", "filled_network"]

RANDOM_SEED = 0
SAFETENSORS = ".safetensors"
SHOWN = 8  # keys named in a message, of each kind
SHA256_SHOWN = 12  # hex digits of the sha256 in the label


@dataclass(frozen=True)
class Weights:
    """`kind` is pretrained, checkpoint or random; only random weights have no file."""

    kind: str
    path: Path | None = None
    sha256: str | None = None

    @property
    def label(self) -> str:
        """What clients see: "pretrained 579344248a93", "checkpoint ...", or "random"."""
        return f"{self.kind} {self.sha256[:SHA256_SHOWN]}" if self.sha256 else self.kind


def choose_weights(spec: ModelSpec, checkpoint: Path | None = None, random: bool = False) -> Weights:
    """The user's checkpoint, random weights, or else the spec's own, which are fetched if need be.

    Raises `CheckpointError` when there are none to be had, and `PackageError` when fetching fails.
    """
    if random:
        return Weights("random")
    if checkpoint:
        if not checkpoint.is_file():
            raise CheckpointError(f"no checkpoint at {checkpoint}: give the path of a file")
        return Weights("checkpoint", checkpoint, file_sha256(checkpoint))
    if spec.weights is None:
        raise CheckpointError(
            f"{spec.name} has no weights of its own: give yours with --checkpoint FILE, "
            "or --random-weights for load tests (its answers mean nothing then)"
        )
    sha256 = spec.weights.sha256
    if isinstance(spec.weights, CommittedWeights):
        return Weights("pretrained", spec.weights.path, sha256)
    return Weights("pretrained", extract(spec.weights.package, spec.weights.member, sha256), sha256)


def filled_network(spec: ModelSpec, weights: Weights) -> "nn.Module":
    """The spec's network with these weights, in evaluation mode. Random ones are the same every time.

    A checkpoint is a file of safetensors, or of `torch.save`: a state dict, or a dict that has one as
    "state_dict" or "model"; the "module." that data-parallel training prepends is taken off. Raises
    `CheckpointError` with all keys that are missing, too many, or of another shape, and when the file's
    metadata (of safetensors) has one of the spec's parameters, such as `charset`, with another value.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        network = spec.network()
    if weights.path:
        _fill(network, _state_dict(weights.path, spec), f"{weights.path} for {spec.name}")
    return network.eval()


def _state_dict(path: Path, spec: ModelSpec) -> dict:
    return _safetensors(path, spec) if path.suffix == SAFETENSORS else _saved_by_torch(path)


def _safetensors(path: Path, spec: ModelSpec) -> dict:
    from safetensors import safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        state = load_file(path)
    except Exception as error:  # the library's own, or of the system
        raise CheckpointError(f"{path} is no file of safetensors: {error}; save it again") from error
    for key, value in spec.parameters.items():
        if metadata.get(key, value) != value:
            raise CheckpointError(
                f"the checkpoint {path} was trained with the {key} {metadata[key]!r}, and {spec.name} has "
                f"{value!r}: its answers would be misread; train it again with the latter"
            )
    return state


def _saved_by_torch(path: Path) -> dict:
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling a foreign file raises whatever it runs into
        raise CheckpointError(
            f"{path} is no checkpoint that can be read safely ({type(error).__name__}): "
            "save it with torch.save(network.state_dict(), path); whole pickled networks are not loaded"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise CheckpointError(
            f"{path} holds no state dict: save it with torch.save(network.state_dict(), path)"
        )
    if loaded and all(key.startswith("module.") for key in loaded):
        loaded = {key.removeprefix("module."): value for key, value in loaded.items()}
    return loaded


def _fill(network: "nn.Module", state: dict, what: str) -> None:
    expected = network.state_dict()
    # Batch counters are bookkeeping of training; old checkpoints have none.
    missing = [key for key in expected if key not in state and not key.endswith(".num_batches_tracked")]
    unexpected = [key for key in state if key not in expected]
    reshaped = [
        f"{key}: network {tuple(expected[key].shape)}, checkpoint {tuple(state[key].shape)}"
        for key in expected
        if key in state and expected[key].shape != state[key].shape
    ]
    problems = [("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped)]
    lines = [f"  {len(keys)} {kind}: {_some(keys)}" for kind, keys in problems if keys]
    if lines:
        raise CheckpointError(
            f"the checkpoint {what} does not fit the network:\n" + "\n".join(lines) + "\n"
            f"It has {len(state)} tensors, the network {len(expected)}; is it of another architecture?"
        )
    network.load_state_dict(state, strict=False)


def _some(keys: list[str]) -> str:
    more = f", and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more
