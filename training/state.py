"""Files of training: trained weights (safetensors) and unfinished runs (torch.save)."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from training.errors import StateError

__all__ = ["load_run", "load_weights", "save_run", "save_weights", "weights_metadata"]


def save_weights(network_state: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Weights as safetensors, with metadata (charset, source, command, seed); replaced in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value.contiguous()
        for name, value in network_state.items()
        if not name.endswith("num_batches_tracked")  # batch norm counts these, nobody reads them
    }
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(tensors, scratch, metadata)
    scratch.chmod(0o644)  # safetensors makes it private
    os.replace(scratch, path)


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill a network from a safetensors file; `StateError` if it cannot be read or does not fit."""
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            state = {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise StateError(
            f"{path} cannot be read: {error}; give a file that `python -m training` wrote"
        ) from error
    expected = network.state_dict()
    wrong = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(value.shape)}"
        if name in state
        else f"{name} is missing"
        for name, value in expected.items()
        if not name.endswith("num_batches_tracked")
        and (name not in state or state[name].shape != value.shape)
    ]
    wrong += [f"{name} is not the network's" for name in state if name not in expected]
    if wrong:
        shown = "; ".join(wrong[:4]) + ("; ..." if len(wrong) > 4 else "")
        raise StateError(
            f"{path} does not fit {type(network).__name__}: {shown}. Give the file of the same model"
        )
    network.load_state_dict(state, strict=False)


def weights_metadata(path: Path) -> dict[str, str]:
    """What `save_weights` wrote beside the weights; `StateError` if the file cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise StateError(f"{path} cannot be read: {error}") from error


def save_run(state: dict[str, Any], path: Path) -> None:
    """The whole state of a run; a stop while it is written leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    torch.save(state, scratch)
    os.replace(scratch, path)


def load_run(path: Path) -> dict[str, Any]:
    """Raises `StateError` for a file that is damaged or no run's."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StateError(
            f"the unfinished run {path} cannot be read: {reason}. Start anew with --restart"
        ) from error
    if not isinstance(state, dict) or "optimizer" not in state:
        raise StateError(f"{path} is no unfinished run: start anew with --restart")
    return state
