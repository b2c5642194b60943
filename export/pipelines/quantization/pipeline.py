"""From a published FP32 graph to its lighter sibling: quantise or convert, compare, publish or refuse."""

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from export.common.errors import AccuracyError, PublishError, SpecError, SpeedError, VerificationError
from export.graphs.facts import read_facts
from export.graphs.preparation import prepare, tolerance_of
from export.pipelines.pytorch import (
    METADATA_RECIPE,
    config_and_labels,
    export_model,
    newest_facts,
    try_to_serve,
)
from export.pipelines.recipe import described, digest, made_with, recipe
from export.repository.configs.contract import WEIGHTS_KEY
from export.repository.publish import GRAPH_FILE, newest_version, publish, unpublished
from export.sources.pictures import folder_pixels
from export.sources.spec_calls import called, samples_of, served_of
from export.sources.specs.spec import Evaluation, ModelSpec, Quantization
from export.sources.weights import Weights, choose_weights, filled_network

if TYPE_CHECKING:
    from export.pipelines.serving.trial import TrialServer

__all__ = ["PRECISIONS", "LighterReport", "LighterRequest", "export_lighter", "lighter_recipe"]

PRECISIONS = ("int8", "fp16")
METADATA_REPORT = "lighter"  # of the graph: what was measured when it was made
LABELLED_DROP = 1  # labelled samples that may be answered wrong and were right
SPEED_BATCH = 8

# Besides the FP32 graph, what decides a lighter one: files of ours, and the packages that do the work.
SOURCES = (
    "pipelines/quantization/*.py",
    *("graphs/preparation.py", "graphs/checks/verification.py", "sources/pictures.py"),
)
PACKAGES = ("pillow",)


@dataclass(frozen=True)
class LighterRequest:
    """What is asked for. `calibration`: a folder of pictures instead of the spec's own; `search`: measure
    anew which layers stay in float; `max_drop`: None is the spec's; `allow_slower`: publish INT8 that is
    slower than FP32 here; `known`: as in `export.pipelines.pytorch.export_model`."""

    precision: str
    max_drop: float | None = None
    calibration: Path | None = None
    search: bool = False
    allow_slower: bool = False
    checkpoint: Path | None = None
    random_weights: bool = False
    known: bool = False
    force: bool = False


@dataclass(frozen=True)
class LighterReport:
    """What was made. `outcome` is as in `pytorch.ExportReport`; figures are of when it was made.

    `drop` and `max_drop` are in percentage points; `labelled_right` is [lighter, FP32, all]; `speed_ratio` is
    FP32's time over that of the lighter graph, in one process with one thread, on a batch of 8.
    """

    name: str
    precision: str
    outcome: str
    version: int
    path: str
    weights: str
    file_bytes: int
    seconds: float
    items_compared: int
    agreement: float | None = None
    drop: float | None = None
    max_drop: float | None = None
    labelled_right: tuple[int, int, int] | None = None
    largest_difference: float | None = None
    float_layers: tuple[str, ...] = ()
    layers: int | None = None
    speed_ratio: float | None = None
    served: str | None = None


def lighter_recipe(spec: ModelSpec, weights: Weights, precision: str) -> str:
    """A digest of all that decides the lighter graph of a model of the catalogue."""
    known = spec.quantization
    made_by = (described(known.calibration), described(known.evaluation), known.float_layers) if known else ()
    return digest([recipe(spec, weights), precision, made_by, made_with(SOURCES, PACKAGES)])


def export_lighter(
    spec: ModelSpec,
    repository: Path,
    request: LighterRequest,
    progress: Callable[[str], None] = lambda step: None,
    trial: "TrialServer | None" = None,
) -> LighterReport:
    """Publish the model's sibling of this precision; the FP32 model first if that is not up to date.

    Raises an `ExportError`, `AccuracyError` and `SpeedError` among them, and then publishes nothing of the
    sibling.
    """
    started = time.monotonic()
    if request.precision == "int8":
        quantization = _quantization(spec, request)  # before minutes of work
    base = export_model(
        spec,
        repository,
        checkpoint=request.checkpoint,
        random_weights=request.random_weights,
        known=request.known,
        force=False,
        trial=trial,
        progress=progress,
    )
    weights = choose_weights(spec, request.checkpoint, request.random_weights)
    lighter = spec.sibling(request.precision)
    folder = repository / lighter.name
    made_by = lighter_recipe(spec, weights, request.precision)
    texts = config_and_labels(lighter, folder, weights.label)
    facts = newest_facts(folder)
    again = request.force or request.search or request.calibration
    if not again and request.known and facts and facts.metadata.get(METADATA_RECIPE) == made_by:
        measured = json.loads(facts.metadata[METADATA_REPORT])
        if request.max_drop is None or measured.get("drop", 0) <= request.max_drop:
            served = None
            if trial and unpublished(folder, texts):
                served = try_to_serve(
                    trial, lighter, folder, texts, None, tolerance=tolerance_of(spec, request.precision)
                )
            publish(folder, texts, None)
            return _report(folder, "up to date", started, measured, served)
    fp32 = Path(base.path).read_bytes()
    if request.precision == "int8":
        model, measured = _int8(fp32, spec, quantization, request, progress)
    else:
        model, measured = _fp16(fp32, spec, weights, progress)
    model.graph.name = lighter.name
    metadata = {entry.key: entry.value for entry in onnx.load_from_string(fp32).metadata_props}
    # The speed is of this moment, and would make the same graph another file every time.
    kept = {key: value for key, value in measured.items() if key != "speed_ratio"}
    metadata |= {METADATA_RECIPE: made_by, METADATA_REPORT: json.dumps(kept)}
    onnx.helper.set_model_props(model, metadata)
    _check(lighter, model)
    graph, served = model.SerializeToString(deterministic=True), None
    if trial:
        progress("serving")
        tolerance = tolerance_of(spec, request.precision)
        served = try_to_serve(trial, lighter, folder, texts, graph, tolerance=tolerance)
    progress("publishing")
    before = newest_version(folder)
    version = publish(folder, texts, graph)
    return _report(folder, "unchanged" if version == before else "published", started, measured, served)


def _quantization(spec: ModelSpec, request: LighterRequest) -> Quantization:
    """The spec's, or one of a folder's pictures: four of five are calibrated with, every fifth judges."""
    if request.calibration is None:
        if spec.quantization is None:
            raise SpecError(
                f"{spec.name} has no pictures to calibrate with: give a folder of a few hundred like those "
                "to come with --calibration FOLDER, or a `quantization` in its spec "
                "(docs/how-to/lighter-models.md)"
            )
        known = dataclasses.replace(spec.quantization, float_layers=None)
        return known if request.search else spec.quantization
    if not request.calibration.is_dir():
        raise SpecError(f"no folder {request.calibration}: --calibration takes one of pictures")
    dims = spec.inputs[0].dims
    if (
        len(spec.inputs) > 1
        or len(dims) != 3
        or dims[2] != 3
        or -1 in dims
        or spec.inputs[0].dtype != "uint8"
    ):
        raise SpecError(
            f"--calibration makes UINT8 [height, width, 3] of pictures, and {spec.name} takes "
            f"{[(tensor.dtype, tensor.dims) for tensor in spec.inputs]}: give a `quantization` in its spec"
        )
    samples = folder_pixels(request.calibration, dims[:2])
    judging = samples[::5]
    return Quantization(
        lambda: [sample for number, sample in enumerate(samples) if number % 5],
        lambda: Evaluation(judging),
        None if request.search or spec.quantization is None else spec.quantization.float_layers,
        1.0 if spec.quantization is None else spec.quantization.max_drop,
    )


def _int8(
    fp32: bytes,
    spec: ModelSpec,
    quantization: Quantization,
    request: LighterRequest,
    progress: Callable[[str], None],
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    from export.pipelines.quantization.agreement import agreement, speed
    from export.pipelines.quantization.int8 import make_int8
    from export.pipelines.quantization.sessions import answers, session

    calibration = called(spec.name, "calibration", quantization.calibration)
    quantization = dataclasses.replace(quantization, calibration=lambda: calibration)
    model, float_layers, layers = make_int8(fp32, quantization, progress)
    progress("comparing with FP32")
    evaluation = called(spec.name, "evaluation", quantization.evaluation)
    reference, lighter = session(fp32, 1), session(model, 1)
    found = agreement(
        answers(session(fp32), evaluation.samples, quantization.judged),
        answers(session(model), evaluation.samples, quantization.judged),
        evaluation,
    )
    measured = {
        "items_compared": found.items,
        "agreement": round(found.share, 4),
        "drop": round(found.drop, 2),
        "labelled_right": [found.right, found.fp32_right, found.labelled],
        "float_layers": list(float_layers),
        "layers": layers,
    }
    lost = found.fp32_right - found.right
    max_drop = quantization.max_drop if request.max_drop is None else request.max_drop
    measured["max_drop"] = max_drop
    if found.drop > max_drop or lost > LABELLED_DROP:
        raise AccuracyError(
            f"INT8 agrees with FP32 on {found.agreed} of {found.items} samples, {found.drop:.2f} percentage "
            f"points less than all (--max-drop is {max_drop:g}), and {found.right} of "
            f"{found.labelled} labelled ones are right, {found.fp32_right} in FP32; {len(float_layers)} of "
            f"{layers} layers are in float. Calibrate with more pictures like those to come (--calibration "
            "FOLDER), search the layers anew (--search), accept it with a larger --max-drop, or serve FP32"
        )
    progress("timing")
    timed = speed(reference, lighter, evaluation.samples[:SPEED_BATCH])
    measured["speed_ratio"] = round(timed.ratio, 2)
    if timed.is_slower and not request.allow_slower:
        raise SpeedError(
            f"INT8 has {timed.ratio:.2f} times FP32's speed here (one thread, batch {SPEED_BATCH}, median of "
            f"{len(timed.ratios)} alternating rounds {min(timed.ratios):.2f} to {max(timed.ratios):.2f}). "
            f"{len(float_layers)} of {layers} layers are in float; each change between float and INT8 costs "
            "time. Serve FP32, export on the processor that will serve it, or publish it all the same with "
            "--allow-slower"
        )
    return model, measured


def _fp16(
    fp32: bytes, spec: ModelSpec, weights: Weights, progress: Callable[[str], None]
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    import onnxruntime

    from export.graphs.checks.verification import compare
    from export.graphs.sessions import session_options

    progress("converting to FP16")
    model = prepare(onnx.load_from_string(fp32), "fp16")
    options = session_options()
    # ONNX Runtime 1.32 crashes on float16 convolutions at the level above.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    running = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    progress("verifying")
    tolerant = dataclasses.replace(spec, tolerance=tolerance_of(spec, "fp16"))
    samples = samples_of(spec)
    found = compare(tolerant, running, served_of(spec, filled_network(spec, weights)), samples)
    return model, {
        "items_compared": found.items,
        "largest_difference": found.largest_difference,
        "agreement": found.top1_agreement,
    }


def _check(spec: ModelSpec, model: onnx.ModelProto) -> None:
    from export.graphs.checks.verification import check_graph

    if failures := check_graph(spec, model):
        raise VerificationError(failures)


def _report(
    folder: Path, outcome: str, started: float, measured: dict[str, Any], served: str | None = None
) -> LighterReport:
    version = newest_version(folder)
    path = folder / str(version) / GRAPH_FILE
    facts = read_facts(path)
    if version is None or facts is None:
        raise PublishError(f"{path} cannot be read back: is somebody else writing there? Export it again")
    return LighterReport(
        name=folder.name,
        precision=folder.name.rpartition("_")[2],
        outcome=outcome,
        version=version,
        path=str(path),
        weights=facts.metadata.get(WEIGHTS_KEY, "unknown"),
        file_bytes=path.stat().st_size,
        seconds=round(time.monotonic() - started, 2),
        served=served,
        **measured,
    )
