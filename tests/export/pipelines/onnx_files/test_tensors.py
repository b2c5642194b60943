"""Names and types of tensors, as Triton can say them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.common.errors import ExportError, OnnxFileError
from tests.export.pipelines.onnx_files.files import FLOAT, INT64, ML, STRING, Door, W, linear, model, node


@pytest.mark.parametrize("name", ["input.1", "serving_default_x:0", "x/y", "an input", "ein Würfel", "308"])
def test_names_are_kept_as_they_are(served: Door, name: str):
    served.publish(linear(names=(name, f"{name} out")))
    assert served.config().input[0].name == name


@pytest.mark.parametrize("name", ["two\nlines", "a\tb", "nul\0", "\x7f"])
def test_names_with_control_characters_are_refused(door: Door, name: str):
    with pytest.raises(ExportError, match=r"control characters|does not load"):
        door.publish(linear(names=(name, "y")))
    assert door.empty


@pytest.mark.slow
@pytest.mark.parametrize("dims", [[2], [], ["words"]])
def test_strings_are_served(served: Door, dims: list[int | str]):
    """Those of no dims of their own are how scikit-learn's converter writes a label."""
    made = model(
        [
            node("LabelEncoder", "x", "i", domain=ML, keys_strings=["a", "1"], values_int64s=[1, 2]),
            node("LabelEncoder", "i", "y", domain=ML, keys_int64s=[1, 2], values_strings=["A", "Ü"]),
        ],
        [("x", STRING, ["n", *dims])],
        [("y", STRING, ["n", *dims])],
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
