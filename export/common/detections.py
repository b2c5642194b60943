"""What holds a pipeline from photographs to boxes and its detector together, by their configurations."""

from collections.abc import Iterable, Iterator

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInput, ModelOutput

__all__ = ["disagreements", "is_detector", "is_pipeline"]

MARKS = {"detector", "width", "height", "fit"}  # parameters by which a pipeline is known
CHANNELS = 3
MOST_DIGITS = 9  # int() refuses thousands of them with an exception


def is_pipeline(config: ModelConfig) -> bool:
    """Whether it takes photographs, and has another model find boxes in them."""
    return config.backend == "python" and set(config.parameters) >= MARKS


def is_detector(config: ModelConfig) -> bool:
    """Whether its tensors are those that pipelines hand over and take, whatever its size."""
    inputs, outputs = _dims(config.input), _dims(config.output)
    return (
        list(inputs) == ["image"]
        and len(inputs["image"]) == CHANNELS
        and inputs["image"][-1] == CHANNELS
        and {"boxes", "scores"} <= outputs.keys()
        and [len(outputs[name]) for name in ("boxes", "scores")] == [2, 2]
    )


def disagreements(pipeline: ModelConfig, detector: ModelConfig, labels: int) -> Iterator[tuple[str, str]]:
    """A parameter of the pipeline, "" for its labels, and what is wrong with it.

    labels: how many lines its labels.txt has
    """
    values = {name: parameter.string_value for name, parameter in pipeline.parameters.items()}
    name = values["detector"]
    pixels = _dims(detector.input).get("image", [])
    size = [values["height"], values["width"], str(CHANNELS)]
    if [str(dim) for dim in pixels][-CHANNELS:] != size:
        yield "width", f"hands over pixels of [{', '.join(size)}], and {name} takes {pixels}"
    most, asked = max(1, detector.max_batch_size), values.get("detector_batch", "")
    if not asked.isdecimal() or len(asked) > MOST_DIGITS or not 1 <= int(asked) <= most:
        yield "detector_batch", f"has a detector_batch of {asked!r}, and {name} takes up to {most}"
    classes = _dims(detector.output).get("scores", [0])[-1]
    if classes not in (-1, labels):
        yield "", f"names {labels} classes, and {name} tells {classes} apart"


def _dims(tensors: Iterable[ModelInput | ModelOutput]) -> dict[str, list[int]]:
    return {tensor.name: list(tensor.dims) for tensor in tensors}
