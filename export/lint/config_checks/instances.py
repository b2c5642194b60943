"""TV308 to TV312: instance groups."""

from collections.abc import Iterator
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

from export.lint.reading.repository import Model, Repository
from export.lint.rules import Finding

__all__ = ["check", "only_on_cpu"]

TENSORRT = "tensorrt"
KINDS = ModelInstanceGroup.Kind
WITHOUT_GPUS = (ModelInstanceGroup.KIND_CPU, ModelInstanceGroup.KIND_MODEL)


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """TV308 to TV312. With the target "cpu", instances that ask for a GPU are TV309."""
    if model.is_ensemble:
        return
    for index, group in enumerate(model.config.instance_group):
        where = ("instance_group", index)
        yield from _count(model, group, where)
        yield from _gpus(model, group, where, target)
        yield from _profiles(model, group, where)
    if target == "cpu" and model.backend == TENSORRT and not model.config.instance_group:
        yield model.finding(
            "TV309",
            "the target is a CPU, and TensorRT runs on GPUs alone",
            "serve the model's ONNX graph there",
        )


def _count(model: Model, group: ModelInstanceGroup, where: tuple[Any, ...]) -> Iterator[Finding]:
    written = model.source.at(*where).scalar("count")
    if written is not None and group.count < 1:
        yield model.finding(
            "TV308",
            f"the count is {group.count}; Triton takes it for its default and starts instances all the same",
            "remove the group to have none of it, or write how many",
            *where,
            "count",
        )


def _gpus(model: Model, group: ModelInstanceGroup, where: tuple[Any, ...], target: str) -> Iterator[Finding]:
    kind = KINDS.Name(group.kind)
    if group.gpus and group.kind in WITHOUT_GPUS:
        yield model.finding(
            "TV310",
            f"the group is {kind} and names GPUs {list(group.gpus)}",
            "remove gpus, or write kind: KIND_GPU",
            *where,
            "gpus",
        )
    elif any(gpu < 0 for gpu in group.gpus):
        yield model.finding("TV310", f"there is no GPU {min(group.gpus)}", "ids begin at 0", *where, "gpus")
    if group.gpus and group.kind == ModelInstanceGroup.KIND_AUTO and target == "cpu":
        yield model.finding(
            "TV309",
            f"the target is a CPU, which KIND_AUTO takes, but the group names GPUs {list(group.gpus)}",
            "remove gpus",
            *where,
            "gpus",
        )
    if group.kind == ModelInstanceGroup.KIND_GPU and target == "cpu":
        yield model.finding(
            "TV309",
            "the target is a CPU, and the group is KIND_GPU",
            "leave the kind out (KIND_AUTO takes a GPU where there is one), or write KIND_CPU",
            *where,
            "kind",
        )
    if group.kind in WITHOUT_GPUS and model.backend == TENSORRT:
        yield model.finding(
            "TV311",
            f"TensorRT runs on GPUs alone, the group is {kind}",
            "write kind: KIND_GPU",
            *where,
            "kind",
        )
    elif target == "cpu" and model.backend == TENSORRT and group.kind == ModelInstanceGroup.KIND_AUTO:
        yield model.finding(
            "TV309",
            "the target is a CPU, and TensorRT runs on GPUs alone",
            "serve the model's ONNX graph there",
            *where,
        )


def _profiles(model: Model, group: ModelInstanceGroup, where: tuple[Any, ...]) -> Iterator[Finding]:
    if not model.backend:  # TV105 or TV106 says so
        return
    if group.profile and model.backend != TENSORRT:
        yield model.finding(
            "TV312",
            f"profiles are TensorRT's, the backend is {model.backend}",
            "remove profile",
            *where,
            "profile",
        )
        return
    for profile in group.profile:
        if not profile.isdecimal():
            yield model.finding(
                "TV312", f"profile {profile!r} is not a number", "write its index, from 0", *where, "profile"
            )


def only_on_cpu(model: Model) -> bool:
    """Do all its instances run on the CPU, wherever there are GPUs?"""
    groups = model.config.instance_group
    return bool(groups) and all(group.kind == ModelInstanceGroup.KIND_CPU for group in groups)
