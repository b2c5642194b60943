"""Which weights a network gets, and getting them into it.

Weights are "pretrained" (from a package, or committed), "checkpoint" (the user's file), "random" (for load
tests), or "none" where nothing is learnt; the label of that goes into the graph and into `config.pbtxt`,
where clients see it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.common.errors import CheckpointError
from export.common.packages import extract, file_sha256
from export.common.wording import counted
from export.sources.checkpoints import state_for
from export.sources.spec_calls import network_of
from export.sources.specs.spec import CommittedWeights, ModelSpec, NoWeights, PackagedWeights

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Weights", "choose_weights", "filled_network", "own_weights"]

RANDOM_SEED = 0
SAFETENSORS = ".safetensors"
SHOWN = 8  # tensors named in a message
STATISTICS = ("running_mean", "running_var")  # of batch norms
SHA256_SHOWN = 12  # hex digits of the sha256 in the label


@dataclass(frozen=True)
class Weights:
    """`kind` is pretrained, checkpoint, random or none; the last two have no file."""

    kind: str
    path: Path | None = None
    sha256: str | None = None

    @property
    def label(self) -> str:
        """What clients see: "pretrained 579344248a93", "checkpoint ...", "random" or "none"."""
        return f"{self.kind} {self.sha256[:SHA256_SHOWN]}" if self.sha256 else self.kind


def own_weights(spec: ModelSpec) -> Weights | None:
    """The spec's, without their file, which is not fetched; None if it has none of its own."""
    if spec.weights is None:
        return None
    if isinstance(spec.weights, NoWeights):
        return Weights("none")
    return Weights("pretrained", None, spec.weights.sha256)


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
    if isinstance(spec.weights, NoWeights):
        return Weights("none")
    sha256 = spec.weights.sha256
    if isinstance(spec.weights, CommittedWeights):
        return Weights("pretrained", spec.weights.path, sha256)
    return Weights("pretrained", extract(spec.weights.package, spec.weights.member, sha256), sha256)


def filled_network(spec: ModelSpec, weights: Weights) -> "nn.Module":
    """The spec's network with these weights, in evaluation mode. Random ones are the same every time.

    A checkpoint is a file of safetensors, or of `torch.save`: a state dict, alone or inside what training
    wrote around it (export.sources.checkpoints). Raises `CheckpointError` with all keys that are missing,
    too many, or of another shape, when several state dicts of one file fit, when weights are NaN or
    infinite, and when the file's metadata (of safetensors) has one of the spec's parameters, such as
    `charset`, with another value.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        network = network_of(spec)
    # A mask of infinities that the network makes itself is its own business; statistics are no mask.
    known = {
        name
        for name, tensor in network.state_dict().items()
        if not _is_finite(tensor) and not tensor.isnan().any() and not name.endswith(STATISTICS)
    }
    if weights.path is None:
        known -= {name for name, _ in network.named_parameters()}
    else:
        path = weights.path
        loaded = _loaded(spec, weights.kind, path)
        network.load_state_dict(state_for(network, loaded, path, spec.name), strict=False)
    broken = [
        f"  {name} {tuple(tensor.shape)}: {int(tensor.isnan().sum())} NaN, "
        f"{int(tensor.isinf().sum())} infinite"
        for name, tensor in network.state_dict().items()
        if name not in known and not _is_finite(tensor)
    ]
    if broken:
        raise CheckpointError(
            f"{weights.path or 'the random weights'} for {spec.name}: {counted(len(broken), 'tensor')} with "
            "values that are not finite, so its answers would not be either:\n"
            + "\n".join(broken[:SHOWN])
            + _more(len(broken))
            + "\n"
            "Take a checkpoint of before training diverged"
        )
    return network.eval()


def _is_finite(tensor: "torch.Tensor") -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex()) or bool(tensor.isfinite().all())


def _more(count: int) -> str:
    return f"\n  and {count - SHOWN} more" if count > SHOWN else ""


def _loaded(spec: ModelSpec, kind: str, path: Path) -> dict[str, Any]:
    if kind == "pretrained" and isinstance(spec.weights, PackagedWeights) and spec.weights.read:
        return dict(spec.weights.read(path))
    return _safetensors(path, spec) if path.suffix == SAFETENSORS else _saved_by_torch(path)


def _safetensors(path: Path, spec: ModelSpec) -> dict[str, Any]:
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


def _saved_by_torch(path: Path) -> dict[str, Any]:
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling a foreign file raises whatever it runs into
        raise CheckpointError(
            f"{path} is no checkpoint that can be read safely ({type(error).__name__}): "
            "save it with torch.save(network.state_dict(), path); whole pickled networks are not loaded"
        ) from error
    if not isinstance(loaded, dict):
        raise CheckpointError(
            f"{path} holds no state dict: save it with torch.save(network.state_dict(), path)"
        )
    return loaded
