"""`python -m export FILE.onnx`: files as people have them, odd ones, and hostile ones."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.cli.commands import run
from export.common.errors import ExportError, OnnxFileError, SpecError, VerificationError
from export.common.packages import Package, extract
from export.pipelines.onnx_files.batch_dim import open_batch
from export.pipelines.onnx_files.door import FileReport, FileRequest, export_file
from export.pipelines.onnx_files.published import check_published, published
from export.repository.configs.contract import parse_config
from export.serving.trial import TrialServer

FLOAT, INT64, STRING, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL
ML = "ai.onnx.ml"
RANDOM = np.random.default_rng(0)
W = RANDOM.normal(size=(8, 4)).astype(np.float32)

ONNX_ASR = Package(
    "onnx-asr==0.12.0",
    "onnx_asr-0.12.0-py3-none-any.whl",
    "5e7ceca454609819ea7833f61e2302e0c8f6ece4f8a78b66c5daba53cb51de4a",
)


def model(nodes, inputs, outputs, weights=(), opset: int = 18, ir: int = 9, **more) -> onnx.ModelProto:
    """Inputs and outputs as (name, element type, dims) or ready-made; weights as (name, array)."""

    def value(one):
        return one if isinstance(one, onnx.ValueInfoProto) else helper.make_tensor_value_info(*one)

    graph = helper.make_graph(
        nodes,
        "graph",
        [value(one) for one in inputs],
        [value(one) for one in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights],
    )
    opsets = [helper.make_opsetid("", opset), *more.pop("opsets", [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir, **more)


def linear(after=(), inputs=("n", 8), outputs=("n", 4), names=("x", "y"), weights=(), **more):
    """x @ W, then these nodes on `a`."""
    x, y = names
    nodes = [helper.make_node("MatMul", [x, "w"], ["a" if after else y]), *after]
    return model(
        nodes,
        [(x, FLOAT, list(inputs))],
        [(y, FLOAT, None if outputs is None else list(outputs))],
        [("w", W), *weights],
        **more,
    )


def node(kind: str, inputs: str, output: str = "y", **attributes) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), output.split(), **attributes)


class Door:
    """Publishes models into a repository of the test."""

    def __init__(self, folder: Path, trial: TrialServer | None) -> None:
        self.folder, self.repository, self.trial = folder, folder / "models", trial

    def file(self, made: onnx.ModelProto | bytes, name: str = "m") -> Path:
        path = self.folder / f"{name}.onnx"
        path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
        return path

    def publish(self, made: onnx.ModelProto | bytes | Path, name: str = "m", **request) -> FileReport:
        path = made if isinstance(made, Path) else self.file(made, name)
        return export_file(FileRequest(path, name, **request), self.repository, self.trial)

    def config(self, name: str = "m") -> ModelConfig:
        path = self.repository / name / "config.pbtxt"
        return parse_config(path.read_text(), path)

    @property
    def empty(self) -> bool:
        """Is nothing published, and nothing left over?"""
        return not self.repository.exists() or not any(self.repository.iterdir())


@pytest.fixture
def door(tmp_path: Path) -> Door:
    """In process; nothing is served."""
    return Door(tmp_path, None)


@pytest.fixture(scope="module")
def trial():
    with TrialServer() as running:
        yield running


@pytest.fixture
def served(tmp_path: Path, trial: TrialServer) -> Door:
    return Door(tmp_path, trial)


def tensors(field) -> list[tuple]:
    return [(one.name, one.data_type, list(one.dims)) for one in field]


def test_the_contract_is_what_the_graph_says(served: Door):
    report = served.publish(linear())
    config = served.config()
    assert (config.name, config.backend, config.max_batch_size) == ("m", "onnxruntime", 8)
    assert tensors(config.input) == [("x", 11, [8])]
    assert tensors(config.output) == [("y", 11, [4])]
    assert config.HasField("dynamic_batching")
    assert config.parameters["weights"].string_value == report.weights
    assert report.outcome == "published"
    assert "served by Triton" in report.served
    assert Path(report.path).read_bytes() == (served.folder / "m.onnx").read_bytes(), "the file itself"


def test_the_same_file_is_not_published_twice_and_the_policy_is_kept(door: Door):
    door.publish(linear())
    path = door.repository / "m" / "config.pbtxt"
    path.write_text(path.read_text().replace("count: 1", "count: 3"))
    again = door.publish(linear())
    assert (again.outcome, again.version) == ("unchanged", 1)
    other = door.publish(linear(after=[node("Relu", "a")]))
    assert (other.outcome, other.version) == ("published", 2)
    assert "count: 3" in path.read_text()


@pytest.mark.parametrize("name", ["input.1", "serving_default_x:0", "x/y", "an input", "ein Würfel", "308"])
def test_names_are_kept_as_they_are(served: Door, name: str):
    served.publish(linear(names=(name, f"{name} out")))
    assert served.config().input[0].name == name


@pytest.mark.parametrize("name", ["two\nlines", "a\tb", "nul\0", "\x7f"])
def test_names_with_control_characters_are_refused(door: Door, name: str):
    with pytest.raises(ExportError, match=r"control characters|does not load"):
        door.publish(linear(names=(name, "y")))
    assert door.empty


MIXING = {
    "divided by the largest of the batch": [
        node("ReduceMax", "a", "m", keepdims=0),
        node("Div", "a m"),
    ],
    "softmax over the batch": [node("Softmax", "a", axis=0)],
    "the mean of the batch taken away": [node("ReduceMean", "a zero", "m"), node("Sub", "a m")],
    "a cumulative sum": [node("CumSum", "a axis")],
    "items in another order": [node("Gather", "a order")],
    "the first item for all": [
        node("Gather", "a zero", "f"),
        node("Expand", "f shape", "g"),
        node("Add", "a g"),
    ],
}


@pytest.mark.parametrize("kind", MIXING)
def test_answers_that_depend_on_the_batch_are_refused(door: Door, kind: str):
    weights = [
        ("zero", np.array([0])),
        ("axis", np.array(0)),
        ("order", np.array([0])),
        ("shape", np.array([1, 4])),
    ]
    made = linear(MIXING[kind], weights=weights)
    if kind == "items in another order":
        made.graph.node[-1].CopyFrom(node("ReverseSequence", "a lens", batch_axis=1, time_axis=0))
        shape = [node("Shape", "a", "s", end=1), node("Expand", "s four", "lens")]
        del made.graph.node[-1]
        made.graph.node.extend([*shape, node("ReverseSequence", "a lens", batch_axis=1, time_axis=0)])
        made.graph.initializer.append(numpy_helper.from_array(np.array([4]), "four"))
    with pytest.raises(VerificationError, match="output y depends on the other items of the batch") as raised:
        door.publish(made)
    assert "--max-batch-size 0" in str(raised.value)
    assert door.empty
    assert door.publish(made, max_batch_size=0).max_batch_size == 0
    assert tensors(door.config().input) == [("x", 11, [-1, 8])]
    assert not door.config().HasField("dynamic_batching")


@pytest.mark.parametrize(("value", "counted"), [(np.nan, "1 NaN, 0 inf"), (np.inf, "0 NaN, 1 inf")])
def test_weights_that_are_not_finite_are_named(door: Door, value: float, counted: str):
    scales = np.array([1, value, 1, 1], np.float32)
    after = [node("Mul", "a scales", "b"), node("Sub", "b b")]  # infinity less itself is no number
    with pytest.raises(OnnxFileError, match="NaN for every sample") as raised:
        door.publish(linear(after, weights=[("scales", scales)]))
    assert f"  scales [4]: {counted}" in str(raised.value)
    assert door.empty


def test_a_constant_of_infinity_is_no_broken_weight(door: Door):
    mask = np.array([0, 0, 0, -np.inf], np.float32)
    made = linear([node("Add", "a mask", "b"), node("Softmax", "b", axis=1)], weights=[("mask", mask)])
    assert door.publish(made).version == 1


def test_a_batch_that_is_fixed_is_told(served: Door):
    report = served.publish(linear(inputs=(1, 8), outputs=(1, 4)))
    assert report.max_batch_size == 0
    assert "fixed at 1" in report.notes[0]
    assert "--batch" in report.notes[0]
    assert tensors(served.config().input) == [("x", 11, [1, 8])]
    with pytest.raises(OnnxFileError, match="--batch opens it"):
        served.publish(linear(inputs=(1, 8), outputs=(1, 4)), "n", max_batch_size=4)


def test_a_fixed_batch_is_opened(served: Door):
    flat = linear([node("Reshape", "a shape")], (1, 3, 8), (1, 12), weights=[("shape", np.array([1, -1]))])
    report = served.publish(flat, batch=True, max_batch_size=4)
    assert report.max_batch_size == 4
    assert "was opened" in report.notes[0]
    session = onnxruntime.InferenceSession(report.path)
    x = RANDOM.normal(size=(3, 3, 8)).astype(np.float32)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], (x @ W).reshape(3, 12), rtol=1e-5)


def gru(initial: np.ndarray) -> onnx.ModelProto:
    shapes = {"gw": (1, 15, 8), "gr": (1, 15, 5)}
    weights = [(name, RANDOM.normal(size=shape).astype(np.float32)) for name, shape in shapes.items()]
    return model(
        [
            helper.make_node("GRU", ["x", "gw", "gr", "", "", "h"], ["", "y"], hidden_size=5),
            node("Squeeze", "y zero", "z"),
        ],
        [("x", FLOAT, [7, 1, 8])],
        [("z", FLOAT, [1, 5])],
        [*weights, ("h", initial), ("zero", np.array([0]))],
    )


def token() -> onnx.ModelProto:
    """A constant row before the rows of each item, as vision transformers have it."""
    return model(
        [helper.make_node("Concat", ["token", "x"], ["y"], axis=1)],
        [("x", FLOAT, [1, 3, 8])],
        [("y", FLOAT, [1, 4, 8])],
        [("token", RANDOM.normal(size=(1, 1, 8)).astype(np.float32))],
    )


def batch_first(made: onnx.ModelProto) -> onnx.ModelProto:
    """A GRU reads time first: its input is turned inside the graph."""
    made.graph.input[0].CopyFrom(helper.make_tensor_value_info("b", FLOAT, [1, 7, 8]))
    made.graph.node.insert(0, helper.make_node("Transpose", ["b"], ["x"], perm=[1, 0, 2]))
    return made


OPENED = {
    "initial states of zeros": lambda: batch_first(gru(np.zeros((1, 1, 5), np.float32))),
    "initial states": lambda: batch_first(gru(RANDOM.normal(size=(1, 1, 5)).astype(np.float32))),
    "a class token": token,
    "two reshapes": lambda: linear(
        [node("Reshape", "a s1", "r"), node("Relu", "r", "q"), node("Reshape", "q s2")],
        (1, 3, 8),
        (1, 2, 6),
        weights=[("s1", np.array([1, 12])), ("s2", np.array([1, 2, 6]))],
    ),
    "one that needs nothing": lambda: linear(inputs=(1, 8), outputs=(1, 4)),
}


@pytest.mark.parametrize("kind", OPENED)
def test_what_can_be_opened_answers_as_the_file_does(served: Door, kind: str):
    made = OPENED[kind]()
    before = made.SerializeToString()
    report = served.publish(made, batch=True)
    assert (served.folder / "m.onnx").read_bytes() == before, "the file that was given stays as it is"
    name = made.graph.input[0].name
    dims = [dim.dim_value for dim in made.graph.input[0].type.tensor_type.shape.dim]
    x = RANDOM.normal(size=(5, *dims[1:])).astype(np.float32)
    original = onnxruntime.InferenceSession(made.SerializeToString())
    alone = np.concatenate([original.run(None, {name: row[None]})[0] for row in x])
    opened = onnxruntime.InferenceSession(report.path).run(None, {name: x})[0]
    np.testing.assert_allclose(opened, alone, rtol=1e-4, atol=1e-6)


NOT_OPENED = {
    "merged with the heads": [node("Reshape", "a heads", "r"), node("Reshape", "r back")],
    "squeezed away": [node("Squeeze", "a zero")],
    "a global maximum": [node("ReduceMax", "a", "m", keepdims=0), node("Div", "a m")],
}


@pytest.mark.parametrize("kind", NOT_OPENED)
def test_what_cannot_be_opened_is_refused(door: Door, kind: str):
    weights = [("heads", np.array([6, 2])), ("back", np.array([3, 4])), ("zero", np.array([0]))]
    outputs = {"squeezed away": (3, 4), "merged with the heads": (3, 4)}.get(kind, (1, 3, 4))
    made = linear(NOT_OPENED[kind], (1, 3, 8), outputs, weights=weights)
    with pytest.raises(ExportError):
        door.publish(made, batch=True)
    assert door.empty


def test_opening_leaves_the_given_model_alone():
    made = linear([node("Reshape", "a shape")], (1, 3, 8), (1, 12), weights=[("shape", np.array([1, -1]))])
    before = made.SerializeToString()
    opened, changes = open_batch(made)
    assert made.SerializeToString() == before
    assert opened.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert changes == ["Reshape y"]


def test_open_dims_are_tried_at_several_sizes_and_bounds_are_told(served: Door):
    table = RANDOM.normal(size=(64, 8)).astype(np.float32)
    made = model(
        [node("Shape", "x", "s", start=1, end=2), node("Slice", "p zero s zero", "q"), node("Add", "x q")],
        [("x", FLOAT, ["n", "length", 8])],
        [("y", FLOAT, ["n", "length", 8])],
        [("p", table), ("zero", np.array([0]))],
    )
    report = served.publish(made)
    note = next(note for note in report.notes if "open dims" in note)
    assert "(length) run at 32, 64" in note
    assert "not at 224" in note


def test_dims_can_be_fixed(served: Door):
    made = linear(inputs=("n", "length", 8), outputs=("n", "length", 4))
    served.publish(made, dims={"x": (5, -1)})
    assert tensors(served.config().input) == [("x", 11, [5, 8])]
    assert tensors(served.config().output) == [("y", 11, [-1, 4])]
    assert check_published("m", served.repository) == []
    for dims in ({"z": (5, 8)}, {"x": (5, 9)}, {"x": (5,)}):
        with pytest.raises(OnnxFileError, match="--dims"):
            served.publish(made, dims=dims)


def test_indices_stay_within_the_tables_that_they_choose_from(served: Door):
    table = RANDOM.normal(size=(20, 8)).astype(np.float32)
    made = model(
        [
            node("Cast", "ids", "i", to=INT64),
            node("Gather", "table i", "e"),
            node("ReduceMean", "e one", keepdims=0),
        ],
        [("ids", TensorProto.INT32, ["n", "length"])],
        [("y", FLOAT, ["n", 8])],
        [("table", table), ("one", np.array([1]))],
    )
    assert served.publish(made).max_batch_size == 8


def test_samples_can_be_given(door: Door, tmp_path: Path):
    """A Gather of a shape that no random number finds."""
    made = model(
        [node("Add", "x big", "i"), node("Gather", "table i")],
        [("x", INT64, ["n", 1])],
        [("y", FLOAT, ["n", 1])],
        [("table", RANDOM.normal(size=5).astype(np.float32)), ("big", np.array([-100_000]))],
    )
    with pytest.raises(SpecError, match=r"--samples FILE\.npz"):
        door.publish(made)
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=np.array([[100_000], [100_003]]))
    assert door.publish(made, samples=samples).items_compared == 2
    np.savez(samples, x=np.array([100_000]))
    with pytest.raises(SpecError, match="the model takes int64"):
        door.publish(made, samples=samples)
    np.savez(samples, z=np.array([[100_000]]))
    with pytest.raises(SpecError, match="has arrays"):
        door.publish(made, samples=samples)
    samples.write_bytes(b"PK no zip")
    with pytest.raises(SpecError, match="cannot be read"):
        door.publish(made, samples=samples)


def test_labels_must_be_as_many_as_the_classes(served: Door, tmp_path: Path):
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\nd\n")
    served.publish(linear(), labels=labels)
    assert served.config().output[0].label_filename == "labels.txt"
    assert (served.repository / "m" / "labels.txt").read_text() == "a\nb\nc\nd\n"
    for text in ("a\nb\nc\n", "a\n\nb\nc\n", ""):
        labels.write_text(text)
        with pytest.raises(SpecError, match=r"labels|empty line"):
            served.publish(linear(), "other", labels=labels)
    labels.write_bytes(b"\xff\n" * 4)
    with pytest.raises(SpecError, match="cannot be read"):
        served.publish(linear(), "other", labels=labels)
    assert not (served.repository / "other").exists()


def test_of_two_outputs_the_labelled_one_is_chosen(door: Door, tmp_path: Path):
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\nd\n")
    made = linear([node("Softmax", "a"), node("Relu", "a", "r")])
    made.graph.output.append(helper.make_tensor_value_info("r", FLOAT, ["n", 4]))
    with pytest.raises(SpecError, match=r"--labels OUTPUT=FILE"):
        door.publish(made, labels=labels)
    door.publish(made, labels=labels, labelled_output="r")
    assert [output.label_filename for output in door.config().output] == ["", "labels.txt"]


def test_one_number_for_each_item_is_published_with_reshape(served: Door):
    made = linear([node("ReduceSum", "a one", keepdims=0), node("ArgMax", "a", "k", axis=1, keepdims=0)])
    made.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    del made.graph.output[:]
    made.graph.output.extend(
        [helper.make_tensor_value_info("y", FLOAT, ["n"]), helper.make_tensor_value_info("k", INT64, ["n"])]
    )
    served.publish(made)
    assert [list(output.dims) for output in served.config().output] == [[1], [1]]
    assert all(output.HasField("reshape") for output in served.config().output)


def test_a_scalar_for_all_items_is_published_without_batching(served: Door):
    made = model(
        [node("Mul", "x knob")],
        [("x", FLOAT, ["n", 8]), ("knob", FLOAT, [])],
        [("y", FLOAT, ["n", 8])],
    )
    report = served.publish(made)
    assert report.max_batch_size == 0
    assert tensors(served.config().input) == [("x", 11, [-1, 8]), ("knob", 11, [1])]


def test_strings_are_served(served: Door):
    made = model(
        [
            node("LabelEncoder", "x", "i", domain=ML, keys_strings=["a", "1"], values_int64s=[1, 2]),
            node("LabelEncoder", "i", "y", domain=ML, keys_int64s=[1, 2], values_strings=["A", "Ü"]),
        ],
        [("x", STRING, ["n", 2])],
        [("y", STRING, ["n", 2])],
        opsets=[helper.make_opsetid(ML, 3)],
    )
    served.publish(made)
    assert served.config().input[0].data_type == ModelConfig().input.add(data_type="TYPE_STRING").data_type


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "uint32", "uint64", "int16", "int32", "bool"])
def test_every_type_that_triton_serves_is_published(served: Door, kind: str):
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    made = model([node("Identity", "x")], [("x", element, ["n", 3])], [("y", element, ["n", 3])])
    assert served.publish(made).inputs == [f"x {kind} [3]"]


def sequence_output() -> onnx.ModelProto:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, ["n", 4]))
    made = linear([node("SequenceConstruct", "a")])
    del made.graph.output[:]
    made.graph.output.append(helper.make_value_info("y", kind))
    return made


def zip_map() -> onnx.ModelProto:
    """What scikit-learn's converter makes of a classifier."""
    entry = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
    made = linear(
        [node("ZipMap", "a", domain=ML, classlabels_int64s=[0, 1, 2, 3])],
        opsets=[helper.make_opsetid(ML, 3)],
    )
    del made.graph.output[:]
    made.graph.output.append(helper.make_value_info("y", helper.make_sequence_type_proto(entry)))
    return made


def optional_input() -> onnx.ModelProto:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, ["n", 8]))
    return model(
        [node("OptionalGetElement", "x")], [helper.make_value_info("x", kind)], [("y", FLOAT, ["n", 8])]
    )


UNSERVED = {
    "a sequence": (sequence_output, "a sequence"),
    "a map": (zip_map, r"zipmap.*False"),
    "an optional": (optional_input, "optional"),
    "bfloat16": (
        lambda: model(
            [node("Cast", "x", to=TensorProto.BFLOAT16)],
            [("x", FLOAT, ["n", 8])],
            [("y", TensorProto.BFLOAT16, ["n", 8])],
        ),
        "BFLOAT16",
    ),
    "an empty tensor": (
        lambda: model([node("Identity", "x")], [("x", FLOAT, ["n", 0])], [("y", FLOAT, ["n", 0])]),
        "dim of 0",
    ),
    "no inputs": (
        lambda: model([node("Identity", "w")], [], [("y", FLOAT, [8, 4])], [("w", W)]),
        "no inputs",
    ),
    "an unknown operator": (
        lambda: model(
            [node("Frob", "x", domain="com.example")],
            [("x", FLOAT, ["n", 8])],
            [("y", FLOAT, ["n", 8])],
            opsets=[helper.make_opsetid("com.example", 1)],
        ),
        "does not load it: .*Frob",
    ),
    "a newer opset": (lambda: linear(opset=23), "opset 23.*up to 21"),
}


@pytest.mark.parametrize("kind", UNSERVED)
def test_what_cannot_be_served_is_refused_with_the_reason(door: Door, kind: str):
    made, reason = UNSERVED[kind]
    with pytest.raises(OnnxFileError, match=f"(?s){reason}"):
        door.publish(made())
    assert door.empty


def test_a_newer_ir_version_is_lowered(served: Door):
    report = served.publish(linear(ir=11))
    assert report.ir_version == 10
    assert any("IR version 11 became 10" in note for note in report.notes)
    assert onnx.load(report.path).ir_version == 10


def test_inputs_with_an_initializer_are_not_served(served: Door):
    made = linear()
    made.graph.input.append(helper.make_tensor_value_info("w", FLOAT, [8, 4]))
    report = served.publish(made)
    assert report.inputs == ["x float32 [8]"]
    assert any("an initializer" in note for note in report.notes)


@pytest.mark.parametrize("outputs", [None, (1, 4), ("n", 5), (4,)])
def test_outputs_that_are_declared_wrong_are_mended(served: Door, outputs: tuple | None):
    report = served.publish(linear(outputs=outputs))
    assert report.max_batch_size == 8
    assert any("declared" in note for note in report.notes)


def external(location: str = "w.bin", length: int = 128, offset: int = 0) -> onnx.ModelProto:
    made = linear()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return made


def test_tensors_in_other_files_become_part_of_the_file(served: Door):
    (served.folder / "w.bin").write_bytes(W.tobytes())
    report = served.publish(external())
    assert any("part of the file now" in note for note in report.notes)
    assert sorted(path.name for path in Path(report.path).parent.iterdir()) == ["model.onnx"]
    x = RANDOM.normal(size=(2, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(Path(report.path).read_bytes())
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ W, rtol=1e-5)


def test_what_is_too_large_for_one_file_keeps_its_tensors_beside_it(served: Door, monkeypatch):
    monkeypatch.setattr("export.pipelines.onnx_files.reading.EMBEDDED_BYTES", 100)
    (served.folder / "w.bin").write_bytes(b"before" + W.tobytes() + b"after")
    report = served.publish(external(offset=6))
    version = Path(report.path).parent
    assert sorted(path.name for path in version.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert (version / "model.onnx.data").read_bytes() == W.tobytes()
    assert served.publish(external(offset=6)).outcome == "unchanged"
    (served.folder / "w.bin").write_bytes(b"before" + (W * 2).tobytes() + b"after")
    assert served.publish(external(offset=6)).version == 2


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("../w.bin", "outside"),
        ("folder/../../w.bin", "plain path"),
        ("/etc/passwd", "plain path"),
        ("link.bin", "link"),
        ("linked/w.bin", "link"),
        ("missing.bin", "not there"),
        ("", "plain path|cannot be understood|does not load"),
        (".", "not there|plain path"),
        ("short.bin", "not all of it"),
    ],
)
def test_tensors_elsewhere_are_not_read(door: Door, tmp_path: Path, location: str, reason: str):
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    (inside / "link.bin").symlink_to(tmp_path / "w.bin")
    (inside / "linked").symlink_to(tmp_path)
    (inside / "short.bin").write_bytes(W.tobytes()[:100])
    path = inside / "m.onnx"
    path.write_bytes(external(location).SerializeToString())
    with pytest.raises(OnnxFileError, match=reason):
        door.publish(path)
    assert door.empty


@pytest.mark.parametrize(
    "changes", [{"length": 1 << 62}, {"offset": 1 << 62}, {"offset": -4}, {"length": 64}]
)
def test_external_tensors_of_absurd_places_are_refused(door: Door, changes: dict):
    (door.folder / "w.bin").write_bytes(W.tobytes())
    with pytest.raises(OnnxFileError):
        door.publish(external(**changes))
    assert door.empty


def absurd(dims: list[int]) -> bytes:
    made = linear()
    made.graph.initializer[0].dims[:] = dims
    return made.SerializeToString()


def endless_constant() -> bytes:
    """Half a terabyte that ONNX Runtime would compute while it loads the graph."""
    size = numpy_helper.from_array(np.array([1 << 37]), "size")
    made = model(
        [node("ConstantOfShape", "size", "c"), node("ReduceSum", "c", "r", keepdims=0), node("Add", "x r")],
        [("x", FLOAT, ["n", 8])],
        [("y", FLOAT, ["n", 8])],
    )
    made.graph.initializer.append(size)
    return made.SerializeToString()


NOT_MODELS = {
    "nothing": b"",
    "text": b"hello, world\n",
    "a page": b"<!DOCTYPE html><html></html>",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "an archive": b"PK\x03\x04" + bytes(100),
    "noise": np.random.default_rng(7).bytes(4096),
    "half a model": linear().SerializeToString()[:-60],
    "a tenth of one": linear().SerializeToString()[:20],
    "negative dims": absurd([-8, 4]),
    "dims beyond memory": absurd([1 << 40, 1 << 20]),
    "dims of other data": absurd([8, 5]),
    "a graph without outputs": helper.make_model(helper.make_graph([], "g", [], [])).SerializeToString(),
    "an endless constant": endless_constant(),
}


@pytest.mark.parametrize("kind", NOT_MODELS)
def test_what_is_no_model_is_refused(door: Door, kind: str):
    with pytest.raises(ExportError) as raised:
        door.publish(NOT_MODELS[kind])
    assert str(raised.value)
    assert door.empty


def test_places_that_belong_to_others_are_left_alone(door: Door):
    with pytest.raises(SpecError, match="of the catalogue"):
        door.publish(linear(), "mobilenet_v2")
    folder = door.repository / "decoder"
    folder.mkdir(parents=True)
    (folder / "config.pbtxt").write_text('backend: "python"\n')
    with pytest.raises(SpecError, match="backend 'python'"):
        door.publish(linear(), "decoder")
    for name in ("../up", "a/b", ".hidden", ""):
        with pytest.raises(SpecError, match="it becomes a folder"):
            door.publish(door.file(linear()), name)


def test_the_command_lists_and_checks_models_without_a_spec(door: Door, capsys):
    path = door.file(linear(), "lin")
    repository = ["--model-repository", str(door.repository)]
    assert run([str(path), "--name", "mine", "--no-serve-check", "--json", *repository]) == 0
    assert json.loads(capsys.readouterr().out)[0]["version"] == 1
    assert published(door.repository) == ["mine"]
    assert run(["--json", *repository]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert listed["mine"]["state"] == "of an ONNX file"
    assert run(["--check", "mine", *repository]) == 0
    config = door.repository / "mine" / "config.pbtxt"
    config.write_text(config.read_text().replace("dims: [4]", "dims: [5]"))
    capsys.readouterr()
    assert run(["--check", *repository]) == 1
    assert "mine: differs" in capsys.readouterr().out
    assert run(["mine", *repository]) == 2
    assert "give FILE.onnx" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["m.onnx", "mobilenet_v2"],
        ["a.onnx", "b.onnx", "--name", "m"],
        ["mobilenet_v2", "--batch"],
        ["m.onnx", "--check"],
        ["m.onnx", "--tensorrt"],
        ["m.onnx", "--precision", "int8"],
        ["m.onnx", "--max-batch-size", "-1"],
        ["m.onnx", "--batch", "--max-batch-size", "0"],
        ["m.onnx", "--dims", "x"],
        ["m.onnx", "--dims", "x=0"],
        ["m.onnx", "--name", "a/b"],
    ],
)
def test_wrong_usage_is_told(arguments: list[str], capsys):
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_file_that_fails_does_not_stop_the_next(door: Door, capsys):
    good, bad = door.file(linear(), "good"), door.file(b"no model", "bad")
    command = [str(bad), str(good), "--no-serve-check", "--model-repository", str(door.repository)]
    assert run(command) == 1
    told = capsys.readouterr()
    assert "bad was not published" in told.err
    assert "good: version 1 published" in told.out


PUBLIC = {
    "gigaam_v2": "features float32 [64, ?]",
    "resample_48_16": "resampled float32 [?]",
    "wespeaker": "features float32 [?, 80]",
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_files_are_published(served: Door, name: str):
    path = extract(ONNX_ASR, f"onnx_asr/preprocessors/data/{name}.onnx")
    report = served.publish(path, name)
    assert report.outputs[0] == PUBLIC[name]
    assert "in one execution" in report.served
