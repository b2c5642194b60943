"""What decides a graph decides its digest: after a change of it nothing is "up to date" any more."""

import dataclasses
from pathlib import Path

import grimp
import onnx
import pytest
import torch
from torch import nn

import export
from export.catalogue import CATALOGUE
from export.pipelines.pytorch import export_model
from export.pipelines.quantization.pipeline import SOURCES, lighter_recipe
from export.pipelines.recipe import GRAPH_SOURCES, recipe
from export.sources.specs.spec import ModelSpec, Tensor
from export.sources.weights import Weights

FOLDER = Path(export.__file__).parent
RANDOM = Weights("random")
SPEC = CATALOGUE["text_recognizer"]
CNN = CATALOGUE["efficientnet_lite0"]
# What the code behind a graph imports, and what leaves the graph as it is
TELLS = {
    "common.errors",
    "common.packages",
    "common.wording",
    "sources.specs.explanation",
    "sources.specs.user_code",
}
JUDGES = {
    "graphs.sessions",
    "graphs.checks.batching",
    "graphs.checks.tolerance",
    "graphs.facts",
    "graphs.checks.indices",
    "graphs.checks.neighbours",
}
CHOSEN = {"common.release"}  # two numbers of it are in the recipe
OF_PIPELINES = {"sources.specs.detection"}  # what is around a detector's graph
# its functions are, one by one; the lighter recipe has the pictures; labels lie beside the graph
OF_THE_CATALOGUE = {"catalogue", "sources.labels", "sources.pictures"}


class Mean(nn.Module):
    """[batch, any] -> [batch, 1]."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.mean(1, keepdim=True))


def bounded(size: int) -> ModelSpec:
    return ModelSpec(
        name="bounded",
        network=Mean,
        served=lambda network: network,
        inputs=(Tensor("x", "float32", (-1,), max_dims=(size,)),),
        outputs=(Tensor("y", "float32", (1,)),),
        max_batch_size=8,
        tolerance=1e-5,
    )


def modules(sources: tuple[str, ...]) -> set[str]:
    found = [path.relative_to(FOLDER) for pattern in sources for path in FOLDER.glob(pattern)]
    return {".".join(path.with_suffix("").parts) for path in found}


def behind(*names: str) -> set[str]:
    """Modules of export that these import, and they themselves."""
    graph = grimp.build_graph("export", cache_dir=None)
    found = set().union(
        *({f"export.{name}"} | graph.find_upstream_modules(f"export.{name}") for name in names)
    )
    return {
        name.removeprefix("export.")
        for name in found
        if not (FOLDER.parent / name.replace(".", "/")).is_dir()
    }


@pytest.mark.slow
def test_a_changed_bound_is_exported_again(tmp_path: Path):
    for size in (100, 90):
        report = export_model(bounded(size), tmp_path, random_weights=True, known=True)
        assert report.outcome == "published"
        assert any(f"<= {size}" in node.name for node in onnx.load(report.path).graph.node)
    assert export_model(bounded(size), tmp_path, random_weights=True, known=True).outcome == "up to date"


def made_otherwise() -> list:
    return []


@pytest.mark.parametrize("field", ["network", "served", "samples"])
def test_what_a_function_of_the_spec_does_is_in_the_recipe(field: str, monkeypatch):
    """Not only its name: one that is edited keeps that."""
    before = recipe(SPEC, RANDOM)
    monkeypatch.setattr(made_otherwise, "__qualname__", getattr(SPEC, field).__qualname__)
    assert recipe(dataclasses.replace(SPEC, **{field: made_otherwise}), RANDOM) != before


def test_what_an_int8_sibling_is_calibrated_with_is_in_its_recipe():
    other = dataclasses.replace(CNN.quantization, calibration=made_otherwise)
    changed = dataclasses.replace(CNN, quantization=other)
    assert lighter_recipe(CNN, RANDOM, "int8") != lighter_recipe(changed, RANDOM, "int8")


def test_every_file_that_decides_a_graph_is_in_its_recipe():
    deciding = behind(
        *("catalogue", "graphs.conversion", "graphs.checks.size_checks"),
        *("sources.weights", "sources.spec_calls"),
    )
    assert (
        deciding - modules(GRAPH_SOURCES) - TELLS - JUDGES - CHOSEN - OF_PIPELINES - OF_THE_CATALOGUE == set()
    )
    lighter = behind("pipelines.quantization.int8", "graphs.preparation", "sources.pictures")
    assert lighter - modules(GRAPH_SOURCES) - modules(SOURCES) - TELLS - JUDGES - CHOSEN == set()
