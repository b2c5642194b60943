"""Whole exports of networks that would be served wrongly: each is refused, and says why and what to do."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from export import State, Tensor
from export.common.errors import VerificationError
from export.pipelines.pytorch import export_model
from tests.export.pipelines.small import Small, small_spec


class DividedByTheLargest(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        return y / y.abs().max()


class SoftmaxOverTheBatch(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).softmax(0)


class NormedByTheBatch(Small):
    """Batch norm whose training mode no `.eval()` reaches."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        return (y - y.mean(0)) * (y.var(0, unbiased=False) + 1e-5).rsqrt()


class OneStateOfTheBatch(Small):
    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.linear(x)
        return y + state, 0.5 * state + y.mean(0)


@pytest.mark.parametrize("network", [DividedByTheLargest, SoftmaxOverTheBatch, NormedByTheBatch])
def test_answers_that_depend_on_the_batch_are_refused(tmp_path: Path, network):
    with pytest.raises(VerificationError, match="output y depends on the other items of the batch") as raised:
        export_model(small_spec(network), tmp_path, random_weights=True)
    [failure] = raised.value.failures  # PyTorch and the graph agree, at every batch
    assert "it differs by" in failure
    assert "max_batch_size=1" in failure
    assert not (tmp_path / "small").exists()


class UniqueRows(Small):
    """PyTorch and the graph agree, also in that two items that are alike come back as one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.unique(x, dim=0))


class OnlyFiniteRows(Small):
    """Right until a neighbour is infinite: then that row is missing, and the batch fails."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x[x.sum(1).isfinite()])


@pytest.mark.slow
@pytest.mark.parametrize("network", [UniqueRows, OnlyFiniteRows])
def test_answers_that_get_lost_beside_some_neighbours_are_refused(tmp_path: Path, network):
    with pytest.raises(VerificationError, match="its first dim is not the batch") as raised:
        export_model(small_spec(network), tmp_path, random_weights=True)
    assert "let every operation stay within an item" in str(raised.value)
    assert not (tmp_path / "small").exists()


class TimeFirst(nn.Module):
    """A GRU that takes the batch for time; the exporter then writes the example's batch into the graph."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gru(x)[0]


@pytest.mark.slow
def test_a_batch_that_the_exporter_made_a_number_is_explained(tmp_path: Path):
    lines = (Tensor("x", "float32", (5, 8)),)
    with pytest.raises(VerificationError, match="running fails at batch 1") as raised:
        export_model(
            small_spec(TimeFirst, inputs=lines, outputs=(Tensor("y", "float32", (5, 4)),)),
            tmp_path,
            random_weights=True,
        )
    assert raised.value.advice.startswith("The graph runs at batch 2 only")
    assert "batch_first=True" in raised.value.advice
    assert str(raised.value).count("\n") == 1 + len(raised.value.failures)  # a line each


def test_they_are_published_where_nothing_shares_a_batch(tmp_path: Path):
    spec = small_spec(DividedByTheLargest, max_batch_size=1)
    assert export_model(spec, tmp_path, random_weights=True).outcome == "published"


def test_a_state_that_depends_on_other_sequences_is_refused(tmp_path: Path):
    spec = small_spec(OneStateOfTheBatch, states=(State("state_in", "state_out", "float32", (4,)),))
    with pytest.raises(VerificationError, match="output state_out depends on the other items of the batch"):
        export_model(spec, tmp_path, random_weights=True)


@pytest.mark.slow
def test_dropout_that_is_left_on_is_named(tmp_path: Path):
    class Dropping(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.dropout(self.linear(x), 0.5, training=True)

    with pytest.raises(VerificationError, match="output y is another each time the same item is asked"):
        export_model(small_spec(Dropping), tmp_path, random_weights=True)
