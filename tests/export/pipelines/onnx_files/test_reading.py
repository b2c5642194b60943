"""Files that are read as hostile: tensors elsewhere, absurd dims, what is no model."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.common.errors import ExportError, OnnxFileError
from tests.export.pipelines.onnx_files.files import FLOAT, RANDOM, Door, W, linear, model, node


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
    monkeypatch.setattr("export.pipelines.onnx_files.given.reading.EMBEDDED_BYTES", 100)
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


def elsewhere(tensor: TensorProto, location: str) -> TensorProto:
    """The tensor without its values, which lie in that file."""
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.ClearField("int64_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def sparse(part: str, location: str) -> onnx.SparseTensorProto:
    made = helper.make_sparse_tensor(
        helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("i", TensorProto.INT64, [1], [2]),
        [4],
    )
    elsewhere(getattr(made, part), location)
    return made


def in_a_constant(part: str, location: str) -> onnx.ModelProto:
    held = helper.make_node("Constant", [], ["c"], sparse_value=sparse(part, location))
    return linear([held, node("Mul", "a c")])


def in_a_graph(part: str, location: str) -> onnx.ModelProto:
    made = linear([node("Mul", "a s")])
    made.graph.sparse_initializer.append(sparse(part, location))
    return made


@pytest.mark.parametrize("made", [in_a_constant, in_a_graph])
@pytest.mark.parametrize("part", ["values", "indices"])
@pytest.mark.parametrize("location", ["/etc/passwd", "../w.bin", "link.bin"])
def test_sparse_tensors_elsewhere_are_not_read_either(door: Door, made, part: str, location: str):
    (door.folder / "link.bin").symlink_to("/etc/passwd")
    with pytest.raises(OnnxFileError, match=r"plain path|outside of the folder|which is a link"):
        door.publish(made(part, location))
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
