"""The state of a model in the repository, read from its newest graph without loading PyTorch."""

from dataclasses import dataclass
from pathlib import Path

from export.catalogue import CATALOGUE, SIBLINGS
from export.graphs.facts import GraphFacts
from export.pipelines.class_maps.names import CLASS_MAPS, base_of
from export.pipelines.class_maps.pipeline import is_up_to_date
from export.pipelines.onnx_files.names import kind_of_file
from export.pipelines.onnx_files.published import weights_of
from export.pipelines.pytorch import METADATA_RECIPE, newest_facts
from export.pipelines.quantization.pipeline import lighter_recipe
from export.pipelines.recipe import recipe
from export.repository.configs.contract import WEIGHTS_KEY
from export.repository.publish import newest_version
from export.sources.specs.spec import ModelSpec
from export.sources.weights import Weights, own_weights

__all__ = ["ModelState", "file_state", "model_state"]


@dataclass(frozen=True)
class ModelState:
    """`state` is "not exported", "up to date", "outdated" (its spec, our code or the exporter changed),
    "own weights", "random weights", or "of an ONNX file"."""

    name: str
    has_weights: bool
    version: int | None
    weights: str | None
    state: str


def model_state(spec: ModelSpec, repository: Path) -> ModelState:
    """Of a model with a spec, whether it is in the repository or not. Loads no PyTorch."""
    folder = repository / spec.name
    facts = newest_facts(folder)
    weights = facts.metadata.get(WEIGHTS_KEY) if facts else None
    return ModelState(
        spec.name, spec.weights is not None, newest_version(folder), weights, _state(spec, facts)
    )


def file_state(name: str, repository: Path) -> ModelState:
    """Of a model that was made of an ONNX file, a SavedModel or the like, or of another model's graph."""
    folder = repository / name
    state = f"of {kind_of_file(weights_of(folder)) or 'an ONNX file'}"
    if (base := base_of(name)) and weights_of(folder).endswith(CLASS_MAPS):
        state = "up to date" if is_up_to_date(base, repository) else "outdated"
    return ModelState(name, False, newest_version(folder), weights_of(folder), state)


def _state(spec: ModelSpec, facts: GraphFacts | None) -> str:
    if facts is None:
        return "not exported"
    kind = facts.metadata.get(WEIGHTS_KEY, "").partition(" ")[0]
    if kind == "checkpoint":
        return "own weights"
    if kind == "random":
        return "random weights"
    own = own_weights(spec) or Weights("pretrained")
    if spec.name in SIBLINGS:
        made_by = lighter_recipe(CATALOGUE[spec.name.removesuffix(f"_{spec.precision}")], own, spec.precision)
    else:
        made_by = recipe(spec, own)
    return "up to date" if facts.metadata.get(METADATA_RECIPE) == made_by else "outdated"
