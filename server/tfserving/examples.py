"""Classify, Regress and MultiInference: tf.Examples in, classes with scores or one number each out.

A TensorFlow model parses examples itself. Here each input of a model takes the feature of its name. Scores
are the output "scores", or the only one of floats; their labels the output "classes", or the labels that the
model's configuration gives to the scores. A regression's value is the output "outputs", or the only one.
"""

import asyncio
import math
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from .models import Models, Target
from .triton import Signature, TensorSpec
from .wire.inference import Inferred
from .wire.messages import message
from .wire.refusal import Refusal, invalid
from .wire.tensors import DTYPES, Tensor, check_examples, packed_strings, strings_of

__all__ = ["CLASSIFY_METHOD", "REGRESS_METHOD", "Examples"]

CLASSIFY_METHOD, REGRESS_METHOD = "tensorflow/serving/classify", "tensorflow/serving/regress"
FLOAT, STRING = DTYPES[1], DTYPES[7]
LABELS_FRESH_S = 60.0
MOST_LABELLED = 1000
MOST_TASKS = 100
ClassificationResponse = message("tensorflow.serving.ClassificationResponse")
RegressionResponse = message("tensorflow.serving.RegressionResponse")
MultiInferenceResponse = message("tensorflow.serving.MultiInferenceResponse")
Inputs = dict[str, Tensor]


class Examples:
    """Answers requests that carry tf.Examples."""

    def __init__(self, models: Models):
        self._models = models
        self._labels: dict[tuple[str, int], tuple[float, list[str]]] = {}

    async def classify(self, request: Any, timeout_s: float | None) -> Any:
        """ClassificationRequest to ClassificationResponse. Raises `Refusal`."""
        response, target = ClassificationResponse(), self._models.target(request)
        version = await self._classify(target, request.input, response.result, timeout_s)
        target.write(response.model_spec, version)
        return response

    async def regress(self, request: Any, timeout_s: float | None) -> Any:
        """RegressionRequest to RegressionResponse. Raises `Refusal`."""
        response, target = RegressionResponse(), self._models.target(request)
        version = await self._regress(target, request.input, response.result, timeout_s)
        target.write(response.model_spec, version)
        return response

    async def multi_inference(self, request: Any, timeout_s: float | None) -> Any:
        """MultiInferenceRequest to MultiInferenceResponse: all tasks, or none. Raises `Refusal`."""
        if len(request.tasks) > MOST_TASKS:
            raise invalid(f"the request has more than {MOST_TASKS} tasks; send them in several requests")
        names = {task.model_spec.name for task in request.tasks}
        targets: list[Target] = []
        if not request.tasks or "" in names:
            raise invalid("Found ModelSpec with an empty model name.")
        if len(names) > 1:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        for task in request.tasks:
            target = self._models.target_of(task.model_spec)
            if target.signature in {other.signature for other in targets}:
                raise invalid(f"Duplicate evaluation of signature: {target.signature}")
            if task.method_name not in (CLASSIFY_METHOD, REGRESS_METHOD):
                raise invalid(f"Unrecognized signature method_name: {task.method_name}")
            targets.append(target)
        response = MultiInferenceResponse()

        async def answer(target: Target, task: Any, result: Any) -> None:
            if task.method_name == CLASSIFY_METHOD:
                run = self._classify(target, request.input, result.classification_result, timeout_s)
            else:
                run = self._regress(target, request.input, result.regression_result, timeout_s)
            target.write(result.model_spec, await run)

        tasks = zip(targets, request.tasks, strict=True)
        await asyncio.gather(*[answer(target, task, response.results.add()) for target, task in tasks])
        return response

    async def _ask(
        self,
        target: Target,
        given: Any,
        outputs: Sequence[str],
        signature: Signature,
        timeout_s: float | None,
    ) -> tuple[Inferred, Inputs, int]:
        examples = _examples(given, signature.inputs)
        inputs = {
            name: _tensor(name, spec, examples, self._models.most_bytes)
            for name, spec in signature.inputs.items()
        }
        answer = await self._models.infer(target, inputs, outputs, timeout_s)
        return answer, inputs, len(examples)

    async def _signature(self, target: Target) -> Signature:
        absent = invalid(f"No signature was found with the name: {target.signature}")
        return await self._models.signature(target, absent)

    async def _classify(self, target: Target, given: Any, result: Any, timeout_s: float | None) -> int:
        signature = await self._signature(target)
        scores = _only(signature, "scores", FLOAT)
        classes = "classes" if "classes" in signature.outputs else ""
        if not scores and not classes:
            raise invalid(
                'Expected classification signature outputs to contain at least one of "classes" or "scores". '
                f"Its outputs are {', '.join(sorted(signature.outputs))}"
            )
        outputs = [name for name in (scores, classes) if name]
        answer, inputs, count = await self._ask(target, given, outputs, signature, timeout_s)
        values = _rows(answer.outputs[scores], FLOAT, count) if scores else None
        if classes:
            labels = _rows(answer.outputs[classes], STRING, count)
            if values and len(labels[0]) != len(values[0]):
                raise invalid(
                    "Tensors class and score should match in dim_size(1). "
                    f"Got {len(labels[0])} vs. {len(values[0])}"
                )
        else:
            named = await self._labels_of(target, answer, inputs, scores, timeout_s)
            labels = [named] * count
        for row in range(count):
            found = result.classifications.add()
            for column, label in enumerate(labels[row]):
                text = label.decode(errors="replace") if isinstance(label, bytes) else label
                found.classes.add(label=text, score=values[row][column] if values else 0.0)
        return answer.version

    async def _labels_of(
        self, target: Target, answer: Inferred, inputs: Inputs, output: str, timeout_s: float | None
    ) -> list[str]:
        """Of each column of the scores; Triton tells them where a request asks for classes."""
        shape = answer.outputs[output].shape
        count = shape[1]
        if not count:  # tritonserver 2.51 ends when it is asked for classes of nothing
            return []
        key, now = (target.model, answer.version), time.monotonic()
        asked, labels = self._labels.get(key, (-LABELS_FRESH_S, []))
        if len(labels) == count and now - asked < LABELS_FRESH_S:
            return labels
        told = await self._models.triton.infer(
            target.model, answer.version, inputs, (output,), timeout_s, classes=math.prod(shape)
        )
        labels = [""] * count
        for entry in strings_of(told.outputs[output].raw):
            _, index, *label = entry.decode(errors="replace").split(":", 2)
            if int(index) < count:  # Triton takes all rows for one where the model has no batches
                labels[int(index)] = label[0] if label else ""
        if len(self._labels) >= MOST_LABELLED:
            self._labels.clear()
        self._labels[key] = (now, labels)
        return labels

    async def _regress(self, target: Target, given: Any, result: Any, timeout_s: float | None) -> int:
        signature = await self._signature(target)
        output = _only(signature, "outputs", FLOAT)
        if not output:
            raise invalid(
                "No regression outputs found: none is called outputs, and not one alone is of floats: "
                f"{', '.join(sorted(signature.outputs))}"
            )
        answer, _, count = await self._ask(target, given, [output], signature, timeout_s)
        dtype, shape, raw = answer.outputs[output]
        if dtype != FLOAT:
            raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {dtype.name}")
        if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
            raise invalid(
                "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] "
                f"but got {list(shape)}"
            )
        if shape[0] != count:
            raise invalid(f"Input batch size did not match output batch size: {count} vs. {shape[0]}")
        for value in np.frombuffer(raw, FLOAT.numpy).tolist():
            result.regressions.add(value=value)
        return answer.version


def _only(signature: Signature, name: str, dtype: Any) -> str:
    """The output of that name, or the only one of that dtype; "" where there is neither."""
    if name in signature.outputs:
        return name
    fit = [output for output, spec in signature.outputs.items() if spec.dtype == dtype]
    return fit[0] if len(fit) == 1 else ""


def _rows(tensor: Tensor, dtype: Any, count: int) -> list[list[Any]]:
    """Of [batch, classes]. Raises `Refusal` for another shape or dtype."""
    if tensor.dtype != dtype:
        raise invalid(f"Expected a Tensor of {dtype.name}. Got: {tensor.dtype.name}")
    if len(tensor.shape) != 2:
        raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {list(tensor.shape)}")
    if tensor.shape[0] != count:
        raise invalid(f"Expected output batch size of {count}. Got: {tensor.shape[0]}")
    if dtype == STRING:
        values, width = strings_of(tensor.raw), tensor.shape[1]
        return [values[row * width : (row + 1) * width] for row in range(count)]
    rows: list[list[Any]] = np.frombuffer(tensor.raw, dtype.numpy).reshape(tensor.shape).tolist()
    return rows


def _examples(given: Any, names: Collection[str]) -> list[dict[str, Any]]:
    """The features `names` of each example; those of the context stand in for what an example lacks."""
    check_examples(max(len(given.example_list.examples), len(given.example_list_with_context.examples)))
    if given.WhichOneof("kind") == "example_list_with_context":
        listed = given.example_list_with_context
        context = _features(listed.context, names)
        examples = [{**context, **_features(example, names)} for example in listed.examples]
    else:
        examples = [_features(example, names) for example in given.example_list.examples]
    if not examples:
        raise invalid("Input is empty.")
    return examples


def _features(example: Any, names: Collection[str]) -> dict[str, Any]:
    features = example.features.feature
    return {name: features[name] for name in names if name in features}


def _tensor(name: str, spec: TensorSpec, examples: Sequence[Mapping[str, Any]], most_bytes: int) -> Tensor:
    """Of the features called `name`, one row for each example. Raises `Refusal`."""
    kind = "bytes_list" if spec.dtype == STRING else "float_list" if _is_float(spec) else "int64_list"
    rows: list[Sequence[Any]] = []
    for example in examples:
        feature = example.get(name)
        found = feature.WhichOneof("kind") if feature is not None else None
        if found is None:
            raise invalid(
                f"Could not parse example input: Feature: {name} (data type: {kind.partition('_')[0]}) is "
                "required but could not be found."
            )
        if found != kind and not (kind == "float_list" and found == "int64_list"):
            raise invalid(
                f"Could not parse example input: Feature: {name}: Data types don't match. Expected type: "
                f"{kind.partition('_')[0]}, but it holds a {found}"
            )
        rows.append(getattr(feature, found).value)
    shape = _shape(name, spec, rows)
    if math.prod(shape) * (spec.dtype.numpy.itemsize if spec.dtype.numpy else 4) > most_bytes:
        raise _too_large(name, most_bytes)  # a context counts for each example
    values = [value for row in rows for value in row]
    if spec.dtype.numpy is None:
        if sum(map(len, values)) > most_bytes:
            raise _too_large(name, most_bytes)
        return Tensor(spec.dtype, shape, packed_strings(values))
    if spec.dtype.name == "DT_BFLOAT16":
        raw = (np.array(values, "<f4").view("<u4") >> 16).astype("<u2").tobytes()
    elif _is_float(spec):
        raw = np.array(values, {"DT_HALF": "<f2", "DT_FLOAT": "<f4"}.get(spec.dtype.name, "<f8")).tobytes()
    else:
        whole = np.array(values, np.int64)
        cast = whole.astype(spec.dtype.numpy)
        if not np.array_equal(cast.astype(np.int64), whole):
            raise invalid(f"Feature: {name} has a value that {spec.dtype.name} does not hold")
        raw = cast.tobytes()
    return Tensor(spec.dtype, shape, raw)


def _too_large(name: str, most_bytes: int) -> Refusal:
    return invalid(
        f"Feature: {name} takes more than {most_bytes} bytes; send fewer examples at a time, or allow more "
        "with --tfserving-max-mib"
    )


def _shape(name: str, spec: TensorSpec, rows: Sequence[Sequence[Any]]) -> tuple[int, ...]:
    """With the batch; one open dimension is what is left. Raises `Refusal`."""
    items, rest = len(rows[0]), spec.shape[1:]
    if any(len(row) != items for row in rows):
        raise invalid(f"Key: {name}.  Number of values must be the same in every example")
    known, free = math.prod(size for size in rest if size >= 0), rest.count(-1)
    fits = known == items if not free else free == 1 and known > 0 and items % known == 0
    if not spec.shape or not fits:
        raise invalid(f"Key: {name}.  Number of values: {items} does not fit the shape {list(rest)}")
    return (len(rows), *(size if size >= 0 else items // known for size in rest))


def _is_float(spec: TensorSpec) -> bool:
    return spec.dtype.name in ("DT_FLOAT", "DT_DOUBLE", "DT_HALF", "DT_BFLOAT16")
