"""From a SavedModel to published models: one for each signature, converted, its Loops made native, held
against TensorFlow's own answers, and then published as every ONNX file is."""

import contextlib
import dataclasses
import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from export.common import release
from export.common.errors import ConversionError, SpecError, VerificationError
from export.common.wording import counted
from export.graphs.checks.tolerance import difference, exceeds, tolerances
from export.graphs.recurrence.rewriting import native_recurrence
from export.graphs.sessions import loaded
from export.pipelines.onnx_files.door import FileReport, FileRequest, export_file
from export.pipelines.onnx_files.tensors import check_types, graph_inputs, narrowed, sample_inputs
from export.pipelines.onnx_files.understanding import alone_in
from export.pipelines.savedmodels.converter import Converter, ServingSignature
from export.pipelines.savedmodels.environment import TENSORFLOW
from export.pipelines.savedmodels.files import FoundModel
from export.pipelines.serving.in_process import Answer, run
from export.pipelines.serving.sampling import Samples, find_samples, read_samples

if TYPE_CHECKING:
    from export.pipelines.serving.trial import TrialServer

__all__ = ["DEFAULT_SIGNATURE", "OpenSavedModel", "SavedModelReport", "SignatureRequest", "chosen", "opened"]

DEFAULT_SIGNATURE, ALL = "serving_default", "all"
UNNAMED = "unk__"  # how tf2onnx begins the names of open dims, which say nothing
NEGATIVE = 4  # samples that are tried with negative integers
NO_ANSWER = ("__saved_model_init_op", "__saved_model_train_op")  # signatures that are no models


@dataclass(frozen=True)
class SignatureRequest:
    """A signature to publish as the model `name`; the rest as of `FileRequest`."""

    signature: str
    name: str
    labels: Path | None = None
    labelled_output: str = ""
    max_batch_size: int | None = None
    batch: bool = False
    dims: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    samples: Path | None = None
    version: int | None = None


@dataclass(frozen=True)
class SavedModelReport(FileReport):
    """Beside what is told of an ONNX file: native, the Loops that became nodes, and what each is; loops,
    those that stayed, and why; both by name. tensorflow_difference: the largest to TensorFlow's own answers,
    in units of the output, over so many items."""

    signature: str = ""
    native: dict[str, str] = field(default_factory=dict)
    loops: dict[str, str] = field(default_factory=dict)
    tensorflow_items: int = 0
    tensorflow_difference: float = 0.0


@dataclass(frozen=True)
class OpenSavedModel:
    """One that TensorFlow has loaded."""

    found: FoundModel
    signatures: dict[str, ServingSignature]
    converter: Converter
    scratch: Path

    def publish(
        self,
        request: SignatureRequest,
        repository: Path,
        trial: "TrialServer | None" = None,
        progress: Callable[[str], None] = lambda step: None,
    ) -> SavedModelReport:
        """Raises an `ExportError`, and publishes nothing then."""
        started = time.monotonic()
        signature = self.signatures[request.signature]
        _check_tensors(request.signature, signature)
        progress("converting")
        file = self.scratch / f"{request.name}.onnx"
        self.converter.convert(request.signature, release.OPSET, file)
        model = _with_all_inputs(onnx.load(file), signature)
        check_types(model)
        progress("finding samples")
        session = loaded(model.SerializeToString())
        batches, samples = _samples(model, session, request)
        progress("making Loops native")
        made = native_recurrence(model, lambda changed: _is_same(changed, session, samples, batches))
        onnx.save(made.model, file)
        progress("asking TensorFlow")
        largest, count, notes = self._compared(request.signature, made.model, samples, batches)
        if not request.samples:  # those that are given say what comes
            self._check_negative(request.signature, made.model, samples, batches)
        given = {one.name: getattr(request, one.name) for one in dataclasses.fields(request)}
        del given["signature"]
        report = export_file(
            FileRequest(file=file, weights=self.found.weights, **given), repository, trial, progress
        )
        told = [*([self.found.note] if self.found.note else []), *notes, *report.notes]
        fields = {one.name: getattr(report, one.name) for one in dataclasses.fields(report)}
        return SavedModelReport(
            **{**fields, "notes": told, "seconds": round(time.monotonic() - started, 2)},
            signature=request.signature,
            native=made.native,
            loops=made.stays,
            tensorflow_items=count,
            tensorflow_difference=largest,
        )

    def _compared(
        self, signature: str, model: onnx.ModelProto, samples: Samples, batches: bool
    ) -> tuple[float, int, list[str]]:
        """The largest difference to TensorFlow, on so many items, each alone; and what is to be told."""
        items = [
            {name: array[None] if batches else array for name, array in item.items()}
            for item in samples.items
        ]
        theirs, refused = self.converter.answers(signature, items, self.scratch)
        if len(refused) == len(items):
            raise VerificationError(
                [f"TensorFlow itself does not answer the samples: {next(iter(refused.values()))}"],
                "give inputs that it does with --samples FILE.npz (arrays by input name, items first)",
            )
        session, failures, largest = loaded(model.SerializeToString()), [], 0.0
        for item, answer in zip(items, theirs, strict=True):
            if answer is None:
                continue
            ours = run(session, item)
            for name, array in answer.items():
                if name not in ours:
                    raise ConversionError(f"tf2onnx lost the output {name} of the signature {signature}")
                if excess := exceeds(ours[name], array, tolerances([array])):
                    failures.append(
                        f"output {name} differs from TensorFlow's by {excess.difference:.3g}, where "
                        f"{excess.tolerance:.3g} is allowed"
                    )
                gap = difference(ours[name], array)
                largest = max(largest, gap if np.isfinite(gap) else 0.0)
        if failures:
            raise VerificationError(
                list(dict.fromkeys(failures)),
                "What is random (dropout in training, noise) is never the same twice: save it for inference",
            )
        notes = [
            f"TensorFlow itself refuses {counted(len(refused), 'sample')}: {said[:200]}"
            for said in list(refused.values())[:1]
        ]
        return largest, len(items) - len(refused), notes

    def _check_negative(
        self, signature: str, model: onnx.ModelProto, samples: Samples, batches: bool
    ) -> None:
        """Raises `VerificationError` where TensorFlow takes negative integers and answers something else: //,
        % and one_hot differ there. What it refuses itself, as of a table's rows, nobody will send."""
        session = loaded(model.SerializeToString())
        alone = list(itertools.islice(_alone(samples, batches), NEGATIVE))
        for name, (dtype, _) in self.signatures[signature].inputs.items():
            if np.dtype(dtype).kind != "i":
                continue
            # as far below zero as they were above, and just below, where what counts from the end begins
            items = [{**one, name: -1 - one[name] % below} for one in alone for below in (1, 4, 128)]
            theirs, _ = self.converter.answers(signature, items, self.scratch)
            if any(
                answer and _differs(session, item, answer) for item, answer in zip(items, theirs, strict=True)
            ):
                raise VerificationError(
                    [f"for negative numbers in {name} it answers otherwise than TensorFlow"],
                    # as far below zero as they were above, and just below, where what counts from the end is
                    "--samples FILE.npz (arrays by input name, items first)",
                )


@contextlib.contextmanager
def opened(
    found: FoundModel, allow_code: bool = False, progress: Callable[[str], None] = lambda step: None
) -> Iterator[OpenSavedModel]:
    """Loaded by TensorFlow in a process of its own, whose environment is made first where it is missing.

    Raises `PackageError` where that cannot be made, and `ConversionError` for what TensorFlow does not load.
    """
    interpreter = TENSORFLOW.python(progress)
    scratch = Path(tempfile.mkdtemp(prefix="triton-vision-savedmodel-"))
    try:
        progress("starting TensorFlow")
        with Converter(interpreter) as converter:
            progress("loading")
            signatures = converter.open(found.path, scratch, allow_code)
            kept = {name: one for name, one in signatures.items() if name not in NO_ANSWER}
            yield OpenSavedModel(found, kept, converter, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def chosen(signatures: Mapping[str, ServingSignature], wanted: Sequence[str]) -> list[str]:
    """The signatures that are meant: those named, each once, or all; none named: serving_default, or the only
    one. Raises `SpecError`."""
    if not signatures:
        raise SpecError(
            "it has no signatures, so that nothing says what it takes: save it with "
            "tf.saved_model.save(model, FOLDER, signatures=...), or with model.export(FOLDER) of Keras"
        )
    listed = ", ".join(signatures)
    if ALL in wanted:
        return list(signatures)
    if unknown := [name for name in wanted if name not in signatures]:
        raise SpecError(f"it has no signature {', '.join(unknown)}; it has {listed}")
    if wanted:
        return list(dict.fromkeys(wanted))
    if DEFAULT_SIGNATURE in signatures or len(signatures) == 1:
        return [DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in signatures else listed]
    raise SpecError(f"it has no signature {DEFAULT_SIGNATURE}: choose of {listed} with --signature, or all")


def _check_tensors(name: str, signature: ServingSignature) -> None:
    for side, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        for key, (dtype, dims) in tensors.items():
            if dtype == "string":
                raise ConversionError(
                    f"{side} {key} of the signature {name} is text, perhaps serialised examples or encoded "
                    "images, which ONNX has no operators for: choose a signature that takes tensors with "
                    "--signature, or save one, and decode before the model"
                )
            if dims is None:
                raise ConversionError(
                    f"{side} {key} of the signature {name} is {dtype} of no rank that is known: save the "
                    "model with a signature of tensors with a rank (tf.TensorSpec)"
                )


def _with_all_inputs(model: onnx.ModelProto, signature: ServingSignature) -> onnx.ModelProto:
    """In the signature's order; an input that nothing uses was dropped, and is still sent by clients."""
    given = {value.name: value for value in model.graph.input}
    for name, (dtype, dims) in signature.inputs.items():
        if name not in given:
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            given[name] = helper.make_tensor_value_info(
                name, kind, [f"{name}_{at}" if dim is None else dim for at, dim in enumerate(dims or ())]
            )
    if lost := sorted(set(given) - set(signature.inputs)):
        raise ConversionError(
            f"tf2onnx made inputs of its own, {', '.join(lost)}: what they hold is not known"
        )
    inputs = [given[name] for name in signature.inputs]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param.startswith(UNNAMED):
                dim.ClearField("dim_param")
    return model


def _samples(
    model: onnx.ModelProto, session: onnxruntime.InferenceSession, request: SignatureRequest
) -> tuple[bool, Samples]:
    """Whether its inputs have an open batch, and items without it, of sizes that it runs at."""
    inputs = graph_inputs(model)
    batches = bool(inputs) and all(tensor.open_batch for tensor in inputs)
    wanted = sample_inputs(model, narrowed(inputs, request.dims, int(batches)), int(batches))
    if request.samples:
        return batches, read_samples(request.samples, wanted)
    return batches, find_samples(lambda item: alone_in(session, item, batches), wanted)


def _is_same(
    changed: onnx.ModelProto, original: onnxruntime.InferenceSession, samples: Samples, batches: bool
) -> bool:
    """Of every item alone, and of those of one size together."""
    try:
        session = loaded(changed.SerializeToString())
        return all(
            not exceeds(array, theirs[name], tolerances([theirs[name]]))
            for item in (*_alone(samples, batches), *(_together(samples) if batches else ()))
            for theirs in [run(original, item)]
            for name, array in run(session, item).items()
        )
    except Exception:  # of ONNX Runtime: then it is not the same
        return False


def _differs(session: onnxruntime.InferenceSession, item: Answer, theirs: Answer) -> bool:
    try:
        ours = run(session, item)
    except Exception:  # of ONNX Runtime
        return True
    return any(exceeds(ours[name], array, tolerances([array])) for name, array in theirs.items())


def _alone(samples: Samples, batches: bool) -> Iterator[Answer]:
    for item in samples.items:
        yield {name: array[None] if batches else array for name, array in item.items()}


def _together(samples: Samples) -> Iterator[Answer]:
    sizes: dict[tuple[tuple[int, ...], ...], list[Answer]] = {}
    for item in samples.items:
        sizes.setdefault(tuple(array.shape for array in item.values()), []).append(item)
    for items in sizes.values():
        yield {name: np.stack([item[name] for item in items]) for name in items[0]}
