"""One model's way from its spec to the repository: weights, conversion, verification, publishing."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from export.common.errors import PublishError, SpecError
from export.graphs.facts import GraphFacts, read_facts
from export.pipelines.recipe import recipe
from export.repository.configs.contract import LABELS_FILE, WEIGHTS_KEY, derive_contract, read_config_text
from export.repository.configs.text import new_config_text, updated_config_text
from export.repository.publish import CONFIG_FILE, GRAPH_FILE, newest_version, publish, unpublished
from export.sources.spec_calls import label_text, samples_of, served_of
from export.sources.specs.spec import ModelSpec, Sample
from export.sources.weights import choose_weights, filled_network

if TYPE_CHECKING:
    from export.graphs.checks.verification import Verification
    from export.pipelines.serving.trial import TrialServer

__all__ = [
    "ExportReport",
    "config_and_labels",
    "export_model",
    "newest_facts",
    "try_to_serve",
]

METADATA_RECIPE = "recipe"
METADATA_PARAMETERS = "parameters"


@dataclass(frozen=True)
class ExportReport:
    """What an export did. The differences are None when nothing was computed.

    `outcome` is "published", "unchanged" (a new export gave the bytes that were there) or "up to date"
    (made of the same weights by the same code, so nothing was computed). `served` says what the real server
    did with it before it was published; None: it was not asked.
    """

    name: str
    outcome: str
    version: int
    path: str
    weights: str
    file_bytes: int
    parameters: int
    opset: int
    ir_version: int
    items_compared: int | None
    largest_difference: float | None
    top1_agreement: float | None
    seconds: float
    served: str | None = None


def export_model(
    spec: ModelSpec,
    repository: Path,
    *,
    checkpoint: Path | None = None,
    random_weights: bool = False,
    known: bool = False,
    force: bool = False,
    trial: "TrialServer | None" = None,
    progress: Callable[[str], None] = lambda step: None,
) -> ExportReport:
    """Export one model into `repository`; raises an `ExportError` and publishes nothing if any step fails.

    `trial` serves it before it is published; None leaves that out.

    `known`: the spec is the catalogue's, so that its recipe names all that decides the graph; a newest
    version that was made the same way is then left alone, unless `force`.
    `progress` is told each step's name as it begins.
    """
    started = time.monotonic()
    folder = repository / spec.name
    progress("fetching")
    weights = choose_weights(spec, checkpoint, random_weights)
    labels = label_text(spec)
    made_by = recipe(spec, weights)
    before = newest_version(folder)
    # A user's own network may depend on files that the recipe does not know.
    facts = newest_facts(folder) if known and not force else None
    if facts and before is not None and facts.metadata.get(METADATA_RECIPE) == made_by:
        texts = _texts(spec, folder, weights.label, labels)
        told = None
        if trial and unpublished(folder, texts):
            progress("serving")
            told = try_to_serve(trial, spec, folder, texts, None)
        publish(folder, texts, None)
        return _report(spec, folder, before, "up to date", facts, started, served=told)

    samples = samples_of(spec)
    if not samples:
        raise SpecError(f"model {spec.name}: `samples` returned none; return some to verify with")
    progress("converting")
    from export.graphs.casting import cast_first
    from export.graphs.checks.size_checks import with_guards
    from export.graphs.checks.trial import check_answers
    from export.graphs.checks.verification import verify
    from export.graphs.conversion import convert

    network = filled_network(spec, weights)
    served = served_of(spec, network)
    metadata = {
        WEIGHTS_KEY: weights.label,
        METADATA_PARAMETERS: str(sum(parameter.numel() for parameter in network.parameters())),
        METADATA_RECIPE: made_by,
    }
    check_answers(spec, served, samples)
    converted = convert(spec, served, samples, metadata)
    graph = cast_first(with_guards(spec, converted, served, samples))
    progress("verifying")
    verification = verify(spec, graph, served, samples, converted.rules)
    texts = _texts(spec, folder, weights.label, labels)
    told = None
    if trial:
        progress("serving")
        told = try_to_serve(trial, spec, folder, texts, graph, samples)
    progress("publishing")
    version = publish(folder, texts, graph)
    outcome = "unchanged" if version == before else "published"
    return _report(spec, folder, version, outcome, newest_facts(folder), started, verification, told)


def try_to_serve(
    trial: "TrialServer",
    spec: ModelSpec,
    folder: Path,
    texts: dict[str, str],
    graph: bytes | None,
    samples: list[Sample] | None = None,
    tolerance: float | None = None,
) -> str:
    """What the real server did with a model as it will be published. Raises `ServingError`."""
    from export.pipelines.serving.comparison import case_of

    samples = samples or samples_of(spec)
    return str(trial.check(folder, texts, graph, case_of(spec, samples, tolerance)))


def newest_facts(folder: Path) -> GraphFacts | None:
    """The facts of the newest published graph, or None if there is none that can be read."""
    version = newest_version(folder)
    return None if version is None else read_facts(folder / str(version) / GRAPH_FILE)


def config_and_labels(spec: ModelSpec, folder: Path, weights_label: str) -> dict[str, str]:
    """`config.pbtxt`, with the policy that is there already, and `labels.txt`, as texts by file name."""
    return _texts(spec, folder, weights_label, label_text(spec))


def _texts(spec: ModelSpec, folder: Path, weights_label: str, labels: str | None) -> dict[str, str]:
    contract, path = derive_contract(spec, weights_label), folder / CONFIG_FILE
    if path.is_file():
        config = updated_config_text(read_config_text(path), contract, path)
    else:
        config = new_config_text(spec, contract)
    return {**({LABELS_FILE: labels} if labels else {}), CONFIG_FILE: config}


def _report(
    spec: ModelSpec,
    folder: Path,
    version: int,
    outcome: str,
    facts: GraphFacts | None,
    started: float,
    verification: "Verification | None" = None,
    served: str | None = None,
) -> ExportReport:
    path = folder / str(version) / GRAPH_FILE
    if facts is None:
        raise PublishError(f"{path} cannot be read back: is somebody else writing there? Export it again")
    return ExportReport(
        name=spec.name,
        outcome=outcome,
        version=version,
        path=str(path),
        weights=facts.metadata.get(WEIGHTS_KEY, "unknown"),
        file_bytes=path.stat().st_size,
        parameters=int(facts.metadata.get(METADATA_PARAMETERS, 0)),
        opset=facts.opset,
        ir_version=facts.ir_version,
        items_compared=verification.items if verification else None,
        largest_difference=verification.largest_difference if verification else None,
        top1_agreement=verification.top1_agreement if verification else None,
        seconds=round(time.monotonic() - started, 2),
        served=served,
    )
