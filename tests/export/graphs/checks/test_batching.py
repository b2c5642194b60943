"""Whether an item's answer depends on its neighbours: networks that are right, and networks that are wrong.

Each runs as PyTorch does, in this process; some run as ONNX Runtime does too, since any function will do.
"""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper

from export.graphs.checks.batching import batch_sizes, check_batching
from tests.export.graphs.checks.networks_in_batches import (
    FLOATS,
    LINEAR,
    LINES,
    RIGHT,
    TOLERANCE,
    WRONG,
    in_torch,
    with_a_mean_times_nothing,
)


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
