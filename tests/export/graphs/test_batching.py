"""Whether an item's answer depends on its neighbours: networks that are right, and networks that are wrong.

Each runs as PyTorch does, in this process; some run as ONNX Runtime does too, since any function will do.
"""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from torch import nn

from export.graphs.batching import batch_sizes, check_batching

RANDOM = np.random.default_rng(7)
FLOATS = [{"x": RANDOM.normal(RANDOM.normal(), 1, 8).astype(np.float32)} for _ in range(8)]
LINES = [{"x": RANDOM.normal(0, 1, (size, 4)).astype(np.float32)} for size in (12, 12, 5, 12, 5)]
PIXELS = [{"x": RANDOM.integers(low, low + 90, (16, 16, 3), np.uint8)} for low in (0, 40, 80, 160)]
TOKENS = [{"x": RANDOM.integers(0, 10, 6).astype(np.int64)} for _ in range(4)]
TOLERANCE = 1e-4


def seeded(module: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return module().eval()


LINEAR = seeded(lambda: nn.Linear(8, 4))


def in_torch(forward: Callable) -> Callable:
    """What `check_batching` calls: every result is an output, y0, y1, ..."""

    def run(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            answer = forward(*(torch.from_numpy(array) for array in batch.values()))
        answers = answer if isinstance(answer, tuple) else (answer,)
        return {f"y{number}": tensor.numpy() for number, tensor in enumerate(answers)}

    return run


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.permute(0, 3, 1, 2).float() / 255).flatten(1).softmax(1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(4, 16, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x)[0]).log_softmax(2)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).mean(1)


def cut_at_the_end(x: torch.Tensor) -> torch.Tensor:
    """Zeros after each line's own end: what a padded model does right."""
    ends = (x[:, :, 0] > 0).sum(1)
    return x * (torch.arange(x.shape[1]) < ends[:, None])[:, :, None]


EMBEDDING = seeded(lambda: nn.Embedding(10, 4))

RIGHT = {
    "linear": (LINEAR, FLOATS),
    "softmax over classes": (lambda x: LINEAR(x).softmax(1), FLOATS),
    "divided by its own maximum": (lambda x: LINEAR(x) / LINEAR(x).abs().amax(1, keepdim=True), FLOATS),
    "layer norm": (lambda x: F.layer_norm(x, (8,)), FLOATS),
    "batch norm in evaluation": (seeded(lambda: nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4))), FLOATS),
    "instance norm": (lambda x: F.instance_norm(x.transpose(1, 2)), LINES),
    "sorted within": (lambda x: (LINEAR(x).sort(1)[0], LINEAR(x).argmax(1)), FLOATS),
    "a scalar for each item": (lambda x: LINEAR(x)[:, 0], FLOATS),
    "convolutions over pixels": (seeded(ConvNet), PIXELS),
    "a GRU of two directions": (seeded(Recurrent), LINES),
    "attention within": (seeded(Attention), LINES),
    "a length of its own": (cut_at_the_end, LINES),
    "an embedding that takes ten words": (lambda x: EMBEDDING(x).mean(1), TOKENS),
    "large answers": (lambda x: LINEAR(x) * 1e6, FLOATS),
    "answers that are no numbers": (lambda x: LINEAR(x).sqrt(), FLOATS),
    "a state that goes on": (lambda x: (LINEAR(x), x + 1), FLOATS),
    "a boolean": (lambda x: LINEAR(x) > 0, FLOATS),
}


def batch_norm_in_training(x: torch.Tensor) -> torch.Tensor:
    y = LINEAR(x)
    return (y - y.mean(0)) / (y.var(0, unbiased=False) + 1e-5).sqrt()


def longest_of_the_batch(x: torch.Tensor) -> torch.Tensor:
    ends = (x[:, :, 0] > 0).sum(1)
    return x[:, : int(ends.max())]


def masked_to_the_longest(x: torch.Tensor) -> torch.Tensor:
    longest = (x[:, :, 0] > 0).sum(1).max()
    return x * (torch.arange(x.shape[1]) < longest)[:, None]


def wrong_in_a_full_batch(x: torch.Tensor) -> torch.Tensor:
    return LINEAR(x) + (1 if len(x) == 16 else 0)


def wrong_beside_large_values(x: torch.Tensor) -> torch.Tensor:
    return LINEAR(x) * (x.abs().max() < 100)


def wrong_beside_thousands(x: torch.Tensor) -> torch.Tensor:
    size = x.abs()
    return LINEAR(x) + ((size > 200) & (size < 1e6)).any()


def wrong_beside_the_huge_and_finite(x: torch.Tensor) -> torch.Tensor:
    return LINEAR(x) + ((x.abs() > 1e20) & x.isfinite()).any()


def wrong_beside_infinity(x: torch.Tensor) -> torch.Tensor:
    return LINEAR(x) + x.isinf().any()


def with_a_mean_times_nothing(x: torch.Tensor) -> torch.Tensor:
    """Equal to a linear layer, until a neighbour is infinite or no number."""
    return LINEAR(x) + 0 * LINEAR(x).mean(0)


def quantised_by_the_batch(x: torch.Tensor) -> torch.Tensor:
    scale = x.abs().max() / 127
    return LINEAR((x / scale).round() * scale)


WRONG = {
    "softmax over the batch": (lambda x: LINEAR(x).softmax(0), FLOATS),
    "divided by the largest of all": (lambda x: LINEAR(x) / LINEAR(x).abs().max(), FLOATS),
    "the batch's mean subtracted": (lambda x: LINEAR(x) - LINEAR(x).mean(0), FLOATS),
    "batch norm in training": (batch_norm_in_training, FLOATS),
    "as long as the longest": (longest_of_the_batch, LINES),
    "masked by the longest": (masked_to_the_longest, LINES),
    "sorted over the batch": (lambda x: LINEAR(x).sort(0)[0], FLOATS),
    "the best of the batch": (lambda x: LINEAR(x).argmax(0, keepdim=True).expand(len(x), -1).clone(), FLOATS),
    "summed over the batch": (lambda x: LINEAR(x).cumsum(0), FLOATS),
    "the neighbour's answer": (lambda x: LINEAR(x).roll(1, 0), FLOATS),
    "the neighbour's, a little": (lambda x: LINEAR(x) + 0.01 * LINEAR(x).roll(-1, 0), FLOATS),
    "the first item's for all": (lambda x: LINEAR(x[:1]).expand(len(x), -1).clone(), FLOATS),
    "only in a full batch": (wrong_in_a_full_batch, FLOATS),
    "divided by the batch size": (lambda x: LINEAR(x) / len(x), FLOATS),
    "only beside large values": (wrong_beside_large_values, FLOATS),
    "only beside thousands": (wrong_beside_thousands, FLOATS),
    "only beside the huge": (wrong_beside_the_huge_and_finite, FLOATS),
    "only beside infinity": (wrong_beside_infinity, FLOATS),
    "only beside NaN": (lambda x: LINEAR(x) + x.isnan().any(), FLOATS),
    "a mean times nothing": (with_a_mean_times_nothing, FLOATS),
    "only beside zeros": (lambda x: LINEAR(x) + (x == 0).all(1).any(), FLOATS),
    "a scale of the batch": (quantised_by_the_batch, FLOATS),
    "layer norm over the batch too": (lambda x: F.layer_norm(x, x.shape[:2]), FLOATS),
    "the batch as time": (lambda x: seeded(lambda: nn.GRU(8, 4))(x)[0], FLOATS),
    "flattened into one": (lambda x: LINEAR(x.flatten().roll(4).view(x.shape)), FLOATS),
    "attention over the batch": (
        lambda x: F.scaled_dot_product_attention(
            x.transpose(0, 1), x.transpose(0, 1), x.transpose(0, 1)
        ).transpose(0, 1),
        LINES,
    ),
    "pixels by the brightest of all": (lambda x: x.float() / x.max(), PIXELS),
    "words in the batch": (lambda x: (x[:, None] == x.flatten()[None, :, None]).sum(1).float(), TOKENS),
    "the second output alone": (lambda x: (LINEAR(x), LINEAR(x) - LINEAR(x).mean(0)), FLOATS),
}


@pytest.mark.parametrize("name", RIGHT)
def test_answers_that_do_not_depend_on_neighbours_pass(name: str):
    forward, samples = RIGHT[name]
    assert check_batching(in_torch(forward), samples, 16) == []


@pytest.mark.parametrize("name", WRONG)
def test_answers_that_depend_on_neighbours_are_found(name: str):
    forward, samples = WRONG[name]
    [finding] = check_batching(in_torch(forward), samples, 16, TOLERANCE)
    assert finding.kind == "neighbours"
    assert finding.output == ("y1" if name == "the second output alone" else "y0")
    assert finding.difference > TOLERANCE
    assert 0 <= finding.place < finding.batch_size <= 16


@pytest.mark.parametrize("name", WRONG)
def test_one_sample_is_enough(name: str):
    forward, samples = WRONG[name]
    findings = check_batching(in_torch(forward), samples[:1], 16, TOLERANCE)
    assert [finding.kind for finding in findings] == ["neighbours"]


@pytest.mark.parametrize("name", RIGHT)
def test_one_sample_of_what_is_right_passes(name: str):
    forward, samples = RIGHT[name]
    assert check_batching(in_torch(forward), samples[:1], 16) == []


def test_the_finding_says_where_and_by_how_much():
    [finding] = check_batching(in_torch(lambda x: LINEAR(x) / len(x)), FLOATS, 4, TOLERANCE)
    alone = LINEAR(torch.from_numpy(FLOATS[0]["x"][None])).detach().numpy()
    assert finding.neighbours == "copies of itself"
    assert finding.batch_size == 4
    assert finding.difference == pytest.approx(float(np.abs(alone).max()) * 3 / 4, rel=1e-4)
    text = str(finding)
    assert "output y0 depends on the other items" in text
    assert f"differs by {finding.difference:.3g}" in text
    assert "the tolerance is 0.0001" in text


def test_ordinary_neighbours_are_named_before_extreme_ones():
    [ordinary] = check_batching(in_torch(lambda x: LINEAR(x) - LINEAR(x).mean(0)), FLOATS, 8, TOLERANCE)
    assert ordinary.neighbours == "other samples"
    [rare] = check_batching(in_torch(with_a_mean_times_nothing), FLOATS, 8, TOLERANCE)
    assert "infinite" in rare.neighbours or "NaN" in rare.neighbours
    assert rare.difference == float("inf")
    assert "beyond measure" in str(rare)


def test_only_the_place_that_is_wrong_is_enough():
    def last_of_five(x: torch.Tensor) -> torch.Tensor:
        y = LINEAR(x)
        return torch.cat((y[:4], y[4:] + 1)) if len(x) == 5 else y

    [finding] = check_batching(in_torch(last_of_five), FLOATS, 32, TOLERANCE)
    assert (finding.batch_size, finding.place) == (5, 4)
    assert finding.difference == pytest.approx(1, abs=1e-5)


def test_a_network_that_is_random_is_told_as_that():
    [finding] = check_batching(
        in_torch(lambda x: F.dropout(LINEAR(x), 0.5, training=True)), FLOATS, 8, TOLERANCE
    )
    assert finding.kind == "random"
    assert "another each time" in str(finding)


def test_a_batch_that_fails_is_told_with_its_reason():
    [finding] = check_batching(in_torch(lambda x: LINEAR(x).reshape(2, 4)), FLOATS[:4], 4, TOLERANCE)
    assert (finding.kind, finding.batch_size) == ("failed", 1)
    assert "invalid for input of size 4" in finding.detail


def test_an_output_without_the_batch_first_is_told():
    [finding] = check_batching(in_torch(lambda x: LINEAR(x).transpose(0, 1)), FLOATS, 4, TOLERANCE)
    assert finding.kind == "failed"
    assert "its first dim is not the batch" in str(finding)


def test_integers_stay_within_those_of_the_samples():
    """Those that pad apart: of two columns each has a range of its own, and a word out of it may fail."""
    seen: set[tuple[int, int]] = set()

    def run(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for column in (0, 1):
            seen.update((column, int(value)) for value in batch["x"][:, column])
        return {"y": batch["x"].sum(1, keepdims=True)}

    samples = [{"x": np.array([low, 1000 + low], np.int32)} for low in range(5)]
    assert check_batching(run, samples, 8) == []
    assert {value for column, value in seen if column == 0} == set(range(5))
    assert {value for column, value in seen if column == 1} == {0, 1, *range(1000, 1005)}


def test_a_neighbour_that_fails_alone_is_not_used():
    def run(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if not np.isfinite(batch["x"]).all() or np.abs(batch["x"]).max() > 50:
            raise ValueError("numbers up to 50, please")
        return {"y": batch["x"] * 2}

    assert check_batching(run, FLOATS, 8) == []


def test_nothing_shares_a_batch_of_one():
    calls = []

    def run(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        calls.append(len(batch["x"]))
        return {"y": batch["x"] - batch["x"].mean(0)}

    for most in (0, 1):
        assert check_batching(run, FLOATS, most) == []
    assert set(calls) == {1}


@pytest.mark.parametrize("dims", [(1,), (), (2, 1)])
def test_inputs_of_several_kinds_and_strings(dims: tuple[int, ...]):
    samples = [
        {"x": np.full(3, number, np.float32), "name": np.full(dims, f"item {number}".encode(), object)}
        for number in range(3)
    ]

    def right(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"text": batch["name"], "x": batch["x"]}

    def wrong(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"text": np.roll(batch["name"], 1, 0), "x": batch["x"]}

    assert check_batching(right, samples, 8) == []
    [finding] = check_batching(wrong, samples, 8)
    assert (finding.output, finding.neighbours) == ("text", "other samples")


def test_scalars_of_every_type_are_items_too():
    for dtype in (np.float32, np.float16, np.int32, np.uint8, np.bool_):
        samples = [{"x": dtype(number)} for number in (0, 1, 1, 0)]
        assert check_batching(lambda batch: {"y": batch["x"]}, samples, 8) == []
        findings = check_batching(lambda batch: {"y": np.roll(batch["x"], 1)}, samples, 8)
        assert [finding.kind for finding in findings] == ["neighbours"]


def test_scalars_of_text_are_items_too():
    samples = [{"x": word} for word in (b"a", b"b", b"c")]
    assert check_batching(lambda batch: {"y": batch["x"]}, samples, 8) == []
    findings = check_batching(lambda batch: {"y": np.roll(batch["x"], 1)}, samples, 8)
    assert [finding.kind for finding in findings] == ["neighbours"]


def test_every_place_of_every_size_is_tried():
    places: dict[int, set[int]] = {}
    marks = {sample["x"].tobytes() for sample in FLOATS}

    def run(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        array = batch["x"]
        if len({row.tobytes() for row in array}) > 1:
            places.setdefault(len(array), set()).update(
                place for place, row in enumerate(array) if row.tobytes() in marks
            )
        return {"y": array}

    assert check_batching(run, FLOATS, 32) == []
    assert places == {size: set(range(size)) for size in range(2, 33)}
    assert batch_sizes(32) == sorted(places)
    assert batch_sizes(4) == [2, 3, 4]


@pytest.mark.parametrize("most", [65, 100, 400, 1024])
def test_of_many_sizes_some_of_all_parts_are_tried(most: int):
    sizes = batch_sizes(most)
    assert 48 < len(sizes) < 80
    assert sizes[:7] == list(range(2, 9))
    assert sizes[-2:] == [most - 1, most]
    assert max(np.diff(sizes)) <= max(2, most // 30)
    assert {size % 2 for size in sizes if size > 8} == {0, 1}


def test_all_sizes_are_tried_of_the_first_group_and_some_of_the_others():
    tried: dict[int, set[int]] = {}

    def run(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        tried.setdefault(batch["x"].shape[1], set()).add(len(batch["x"]))
        return {"y": batch["x"].sum(2)}

    assert check_batching(run, LINES, 20) == []
    assert tried == {12: set(range(1, 21)), 5: {1, 2, 3, 5, 8, 19, 20}}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_without_a_tolerance_it_follows_the_answers_and_their_type(dtype):
    """Another order of additions is no finding, one part in twenty is."""
    samples = [{"x": sample["x"].astype(dtype)} for sample in FLOATS]

    def run(batch: dict[str, np.ndarray], share: float) -> dict[str, np.ndarray]:
        y = batch["x"] / dtype(3)
        return {"y": (y * dtype(1 + share * (len(y) > 1))).astype(dtype)}

    assert check_batching(lambda batch: run(batch, 4 * float(np.finfo(dtype).eps)), samples, 8) == []
    [finding] = check_batching(lambda batch: run(batch, 0.05), samples, 8)
    assert finding.difference > finding.tolerance > 0


def graph_of(node: onnx.NodeProto) -> onnxruntime.InferenceSession:
    graph = helper.make_graph(
        [node],
        "one_node",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", None])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("node", "count"),
    [
        (helper.make_node("Softmax", ["x"], ["y"], axis=1), 0),
        (helper.make_node("Softmax", ["x"], ["y"], axis=0), 1),
        (helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=1), 0),
        (helper.make_node("MeanVarianceNormalization", ["x"], ["y"], axes=[0]), 1),
        (helper.make_node("MeanVarianceNormalization", ["x"], ["y"], axes=[1]), 0),
        (helper.make_node("Hardmax", ["x"], ["y"], axis=0), 1),
        (helper.make_node("LpNormalization", ["x"], ["y"], axis=0), 1),
        (helper.make_node("LpNormalization", ["x"], ["y"], axis=1), 0),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else str(value),
)
def test_onnx_runtime_is_run_the_same_way(node: onnx.NodeProto, count: int):
    session = graph_of(node)

    def run(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(["y"], session.run(None, batch), strict=True))

    assert len(check_batching(run, FLOATS, 8, TOLERANCE)) == count
