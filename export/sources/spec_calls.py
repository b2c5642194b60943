"""Calls of a spec's functions, which are the user's: what one raises is told with the user's own line."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from export.common.errors import ExportError, SpecError
from export.common.wording import counted
from export.sources.samples import random_samples
from export.sources.specs.spec import ModelSpec, Sample, Tensor

if TYPE_CHECKING:
    from torch import nn

__all__ = ["called", "label_text", "labels_of", "network_of", "samples_of", "served_of"]

Result = TypeVar("Result")


def network_of(spec: ModelSpec) -> "nn.Module":
    """What `spec.network` makes, unfilled. Raises `SpecError` when it fails or makes no module."""
    return _module(spec, "network", called(spec.name, "network", spec.network))


def served_of(spec: ModelSpec, network: "nn.Module") -> "nn.Module":
    """The filled network as it is served, in evaluation mode. Raises `SpecError` as `network_of`."""
    return _module(spec, "served", called(spec.name, "served", lambda: spec.served(network))).eval()


def samples_of(spec: ModelSpec) -> list[Sample]:
    """The spec's samples, or random ones. Raises `SpecError` when `spec.samples` fails."""
    make = spec.samples
    return called(spec.name, "samples", lambda: list(make())) if make else random_samples(spec.inputs)


def labels_of(spec: ModelSpec, tensor: Tensor) -> list[str]:
    """The names of an output's classes; none where it has no labels. Raises `SpecError` when that fails."""
    labels = tensor.labels
    return called(spec.name, "labels", lambda: list(labels())) if labels else []


def label_text(spec: ModelSpec) -> str | None:
    """`labels.txt`, one name per line in the order of the classes, or None for a model without labels.

    Raises `SpecError` when the number of labels is not the number of classes.
    """
    for tensor in spec.outputs:
        if tensor.labels:
            labels = labels_of(spec, tensor)
            if kinds := {type(label).__name__ for label in labels if not isinstance(label, str)}:
                raise SpecError(
                    f"`labels` of output {tensor.name} in the spec of {spec.name} returns "
                    f"{', '.join(sorted(kinds))} among the names: return a str for each class"
                )
            if len(labels) != tensor.dims[-1] or any("\n" in label or not label for label in labels):
                raise SpecError(
                    f"output {tensor.name} of {spec.name} has dims {tensor.dims} and "
                    f"{counted(len(labels), 'label')}; give one name, without line breaks, per class"
                )
            return "\n".join(labels) + "\n"
    return None


def called(name: str, field: str, function: Callable[[], Result]) -> Result:
    """What `function`, which is `field` of the spec `name`, returns. Raises `SpecError` for all that it
    raises, errors of ours apart."""
    try:
        return function()
    except ExportError:
        raise
    except Exception as error:
        from export.sources.specs.explanation import first_lines
        from export.sources.specs.user_code import line_of

        line = line_of(error)
        raise SpecError(
            f"{type(error).__name__}: {first_lines(error)}{f', at {line}' if line else ''}\n"
            f"`{field}` in the spec of {name} fails: correct it"
        ) from error


def _module(spec: ModelSpec, field: str, made: object) -> "nn.Module":
    from torch import nn

    if isinstance(made, nn.Module):
        return made
    what = f"the class {made.__name__}" if isinstance(made, type) else f"a {type(made).__name__}"
    raise SpecError(f"`{field}` in the spec of {spec.name} returns {what}: return a torch.nn.Module")
