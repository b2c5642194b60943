"""From a published classifier to its sibling with class activation maps, checked and published as a file."""

import itertools
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from export.common.errors import ExplanationError, PublishError
from export.common.packages import file_sha256
from export.graphs.facts import GraphFacts, read_facts
from export.pipelines.class_maps.checks import check_class_maps
from export.pipelines.class_maps.graph import CLASS_ID, TOP_CLASS, with_class_maps
from export.pipelines.class_maps.names import label_of, sibling_name
from export.pipelines.onnx_files.candidate import FileRequest
from export.pipelines.onnx_files.door import export_file
from export.pipelines.onnx_files.published import weights_of
from export.pipelines.onnx_files.tensors import graph_inputs, sample_inputs
from export.pipelines.pytorch import METADATA_RECIPE
from export.pipelines.recipe import digest, made_with
from export.pipelines.serving.in_process import Answer, run, session_of
from export.pipelines.serving.sampling import find_samples
from export.repository.configs.contract import LABELS_FILE, parse_config, read_config_text
from export.repository.publish import CONFIG_FILE, DATA_FILE, GRAPH_FILE, newest_version
from server.environment.regular_files import regular

if TYPE_CHECKING:
    from export.pipelines.serving.trial import TrialServer

__all__ = ["ClassMapReport", "export_class_maps", "is_up_to_date"]

ITEMS = 7  # of the base's samples; it was compared on all of them
MAX_BATCH_SIZE = 8  # people look at some explanations, and a map of 224 x 224 numbers is 200 KB
GRAPH_SOURCES = tuple(f"pipelines/class_maps/{name}.py" for name in ("averages", "graph", "reader", "scores"))
METADATA_REPORT = "class_maps"  # of the graph: what was measured when it was made


@dataclass(frozen=True)
class ClassMapReport:
    """What was made. outcome: "published", "unchanged" or "up to date", as in `pytorch.ExportReport`.

    output: the scores that are mapped, of so many classes. largest_difference: of the mean of a map and the
    bias to the score, over the samples.
    """

    name: str
    outcome: str
    version: int
    path: str
    weights: str
    file_bytes: int
    output: str
    classes: int
    items_compared: int
    largest_difference: float
    seconds: float
    served: str | None = None


def export_class_maps(
    base: str,
    repository: Path,
    *,
    items: list[Answer] | None = None,
    force: bool = False,
    trial: "TrialServer | None" = None,
    progress: Callable[[str], None] = lambda step: None,
) -> ClassMapReport:
    """Publish the sibling of a model that is published.

    items: inputs to verify with, by name, without the batch where it has one; None: random ones.

    Raises an `ExportError`, `ExplanationError` with the reason where the network is of another kind, and then
    publishes nothing.
    """
    started = time.monotonic()
    folder, sibling = repository / base, repository / sibling_name(base)
    path = _graph_of(folder)
    made_by = _recipe(path)
    if not force and (facts := _newest(sibling)) and facts.metadata.get(METADATA_RECIPE) == made_by:
        return _report(sibling, "up to date", started)
    progress("deriving class maps")
    model = onnx.load(regular(path))
    made, scores = with_class_maps(model)
    config = parse_config(read_config_text(folder / CONFIG_FILE), folder / CONFIG_FILE)
    batches = config.max_batch_size > 0
    asked = _asked(items or _random_items(model, path, batches), scores.classes, batches)
    progress("comparing class maps")
    largest = check_class_maps(model, made, scores, asked, batches)
    made.graph.name = sibling.name
    measured = {
        "output": scores.output,
        "classes": scores.classes,
        "items_compared": len(asked),
        "largest_difference": float(f"{largest:.2g}"),
    }
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    metadata |= {METADATA_RECIPE: made_by, METADATA_REPORT: json.dumps(measured)}
    onnx.helper.set_model_props(made, metadata)
    labels = folder / LABELS_FILE
    with tempfile.TemporaryDirectory(prefix="triton-vision-class-maps-") as scratch:
        file = Path(scratch) / f"{sibling.name}.onnx"
        file.write_bytes(made.SerializeToString(deterministic=True))
        request = FileRequest(
            file=file,
            name=sibling.name,
            labels=labels if labels.is_file() else None,
            labelled_output=next((output.name for output in config.output if output.label_filename), ""),
            max_batch_size=min(config.max_batch_size, MAX_BATCH_SIZE),
            items=tuple(asked),
            weights=label_of(weights_of(folder)),
        )
        report = export_file(request, repository, trial, progress)
    return _report(sibling, report.outcome, started, report.served)


def is_up_to_date(base: str, repository: Path) -> bool:
    """Whether the sibling was made of the newest version of its base, by the same code."""
    version, facts = newest_version(repository / base), _newest(repository / sibling_name(base))
    if version is None or facts is None:
        return False
    return facts.metadata.get(METADATA_RECIPE) == _recipe(repository / base / str(version) / GRAPH_FILE)


def _graph_of(folder: Path) -> Path:
    version = newest_version(folder)
    if version is None:
        raise ExplanationError(f"{folder} has no version with a {GRAPH_FILE}: export {folder.name} first")
    path = folder / str(version) / GRAPH_FILE
    if path.with_name(DATA_FILE).is_file():
        raise ExplanationError(f"{path} is larger than 2 GB, and such a graph is not rewritten")
    return path


def _recipe(path: Path) -> str:
    """A digest of all that decides the sibling's graph."""
    return digest([file_sha256(path), made_with(GRAPH_SOURCES, ("onnx",))])


def _newest(folder: Path) -> GraphFacts | None:
    version = newest_version(folder)
    return None if version is None else read_facts(folder / str(version) / GRAPH_FILE)


def _random_items(model: onnx.ModelProto, path: Path, batches: bool) -> list[Answer]:
    session = session_of(path)

    def ask(item: Answer) -> Answer:
        return run(session, {name: array[None] for name, array in item.items()} if batches else item)

    return find_samples(ask, sample_inputs(model, graph_inputs(model), int(batches))).items


def _asked(items: list[Answer], classes: int, batches: bool) -> list[Answer]:
    """The first items, each with the class that is asked for: the likeliest, the first, none there is ..."""
    wanted = itertools.cycle((TOP_CLASS, 0, classes - 1, classes, TOP_CLASS, classes // 2, TOP_CLASS - 1))
    shape = (1,) if batches else (1, 1)
    return [
        {**item, CLASS_ID: np.full(shape, number, np.int32)}
        for item, number in zip(items[:ITEMS], wanted, strict=False)
    ]


def _report(folder: Path, outcome: str, started: float, served: str | None = None) -> ClassMapReport:
    version, facts = newest_version(folder), _newest(folder)
    if version is None or facts is None:
        raise PublishError(f"{folder} cannot be read back: is somebody else writing there? Export it again")
    path = folder / str(version) / GRAPH_FILE
    return ClassMapReport(
        name=folder.name,
        outcome=outcome,
        version=version,
        path=str(path),
        weights=weights_of(folder),
        file_bytes=path.stat().st_size,
        seconds=round(time.monotonic() - started, 2),
        served=served,
        **json.loads(facts.metadata[METADATA_REPORT]),
    )
