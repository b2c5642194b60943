"""Faults of graphs against ONNX Runtime: dims that it gives outputs, operators, the batch, defaults."""

from onnx import TensorProto, helper

from tests.lint_corpus.faults import Fault, collect
from tests.lint_corpus.onnx_graphs import (
    CUSTOM,
    DEFAULTED,
    FLOAT,
    INT64,
    RECURRENT,
    TIME_FIRST,
    UNSHAPED,
    VIEW,
    named,
    operators,
)
from tests.lint_corpus.parts import (
    DEFAULTED_CONFIG,
    FOUR,
    TIMED,
    VIEW_CONFIG,
    edited,
    model,
    without,
)

FAULTS: list[Fault] = []
fault = collect(FAULTS)
node = helper.make_node

fault(
    "TV202",
    "left out, and auto-complete adds it",
    model(  # max_batch_size becomes 4
        'backend: "onnxruntime"\ninput { name: "x" data_type: TYPE_FP32 dims: [ -1, 4 ] }\n',
        operators(node("Relu", ["x"], ["y"])),
    ),
    line=2,
)
fault(
    "TV202",
    "left out of an output",
    model(
        'backend: "onnxruntime"\noutput { name: "y" data_type: TYPE_FP32 dims: [ -1, 4 ] }\n',
        operators(node("Relu", ["x"], ["y"])),
    ),
    line=2,
)
fault(
    "TV203",
    "of an output without a shape",
    model(edited(FOUR, "[ 4 ] }\ndynamic", "[ 5 ] }\ndynamic"), UNSHAPED),
    also=("TV214",),
)
NO_RANK = operators(
    node("Reshape", ["x", "shape"], ["y"]),
    inputs={"x": (FLOAT, ["N", 4]), "shape": (INT64, ["K"])},
    outputs={"y": (FLOAT, None)},
)
UNBATCHED = """\
backend: "onnxruntime"
input { name: "x" data_type: TYPE_FP32 dims: [ -1, 4 ] }
input { name: "shape" data_type: TYPE_INT64 dims: [ -1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ -1, 4 ] }
"""
fault("TV203", "where not even their number is known", model(UNBATCHED, NO_RANK), line=4)
fault(
    "TV203",
    "a dim of 0 in the graph",
    model(
        FOUR,
        operators(
            node("Relu", ["x"], ["y"]), inputs={"x": (FLOAT, ["N", 0])}, outputs={"y": (FLOAT, ["N", 0])}
        ),
    ),
)
fault(
    "TV201",
    "which ONNX Runtime finds",
    model(FOUR, operators(node("ReduceMean", ["x"], ["y"], axes=[0], keepdims=1))),
    line=4,
)
fault(
    "TV214", "open where it is folded to a size", model(edited(VIEW_CONFIG, "[ 12 ]", "[ -1 ]"), VIEW), line=4
)
fault(
    "TV214",
    "a size that only folding finds, without it",
    model(VIEW_CONFIG + "optimization { graph { level: 2 } }\n", VIEW),
    line=4,
)
fault(
    "TV214",
    "a size that the graph has wrong",
    model(FOUR, operators(node("Concat", ["x", "x"], ["y"], axis=1))),
    line=4,
)
fault(
    "TV214",
    "through a reshape",
    model(edited(VIEW_CONFIG, "dims: [ 12 ]", "dims: [ 1, -1 ] reshape { shape: [ -1 ] }"), VIEW),
    line=4,
)

fault(
    "TV210",
    "ai.onnx.ml 6",
    model(
        FOUR,
        operators(
            node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.0], scale=[2.0]),
            opsets={"": 21, "ai.onnx.ml": 6},
        ),
    ),
)
fault("TV215", "an unknown domain", model(FOUR, CUSTOM))
fault(
    "TV215",
    "an unknown operator of Microsoft's",
    model(
        FOUR,
        operators(node("Geluu", ["x"], ["y"], domain="com.microsoft"), opsets={"": 17, "com.microsoft": 1}),
    ),
)
fault("TV215", "an operator of a later opset", model(FOUR, operators(node("Gelu", ["x"], ["y"]))))
fault(
    "TV215",
    "one that was taken out",
    model(
        FOUR,
        operators(
            node("Upsample", ["x", "scales"], ["y"]),
            initializers=[helper.make_tensor("scales", FLOAT, [2], [1, 1])],
        ),
    ),
)
INTEGERS = edited(FOUR, "TYPE_FP32", "TYPE_INT64")
OF_INTEGERS = {"inputs": {"x": (INT64, ["N", 4])}, "outputs": {"y": (INT64, ["N", 4])}}
fault(
    "TV215",
    "no kernel for a type, on a CPU",
    model(
        INTEGERS,
        operators(
            node("Softplus", ["x"], ["z"]),
            node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE),
            node("Erf", ["d"], ["e"]),
            node("Cast", ["e"], ["y"], to=INT64),
            **OF_INTEGERS,
        ),
    ),
    target="cpu",
    also=("TV216",),
)
DOUBLES = edited(FOUR, "TYPE_FP32", "TYPE_FP64")
OF_DOUBLES = {
    "inputs": {"x": (TensorProto.DOUBLE, ["N", 4])},
    "outputs": {"y": (TensorProto.DOUBLE, ["N", 4])},
}
fault(
    "TV215",
    "no kernel for a type",
    model(DOUBLES, operators(node("Erf", ["x"], ["y"]), **OF_DOUBLES)),
    severity="warning",
)
fault(
    "TV215",
    "in a branch",
    model(
        FOUR,
        operators(
            node(
                "If",
                ["flag"],
                ["y"],
                then_branch=helper.make_graph(
                    [node("Foo", ["x"], ["t"], domain="my.ops")],
                    "then",
                    [],
                    [helper.make_tensor_value_info("t", FLOAT, ["N", 4])],
                ),
                else_branch=helper.make_graph(
                    [node("Relu", ["x"], ["e"])],
                    "else",
                    [],
                    [helper.make_tensor_value_info("e", FLOAT, ["N", 4])],
                ),
            ),
            opsets={"": 17, "my.ops": 1},
            initializers=[helper.make_tensor("flag", TensorProto.BOOL, [], [True])],
        ),
    ),
)
fault(
    "TV216",
    "types that do not match",
    model(FOUR, operators(node("Cast", ["x"], ["z"], to=INT64), node("Add", ["x", "z"], ["y"]))),
)
fault("TV216", "a tensor that nobody makes", model(FOUR, operators(node("Add", ["x", "z"], ["y"]))))

SCALED = operators(node("Mul", ["x", "s"], ["y"]), inputs={"x": (FLOAT, ["N", 4]), "s": (FLOAT, [])})
SCALE = 'input { name: "s" data_type: TYPE_FP32 dims: [ 1 ] }\n'
fault("TV217", "an input", model(FOUR + SCALE, SCALED), line=6)
fault("TV217", "a reshaped input", model(FOUR + edited(SCALE, "[ 1 ]", "[ 1 ] reshape { }"), SCALED))
SUMMED = operators(node("ReduceSum", ["x"], ["y"], keepdims=0), outputs={"y": (FLOAT, [])})
fault("TV217", "an output", model(edited(FOUR, "[ 4 ] }\ndynamic", "[ 1 ] }\ndynamic"), SUMMED), line=4)
fault(
    "TV218",
    "twice the batch",
    model(FOUR, operators(node("Concat", ["x", "x"], ["y"], axis=0), outputs={"y": (FLOAT, ["M", 4])})),
    line=4,
)
fault(
    "TV218",
    "rows of all items",
    model(
        edited(FOUR, "[ 4 ] }\ndynamic", "[ 2 ] }\ndynamic"),
        operators(
            node("Reshape", ["x", "shape"], ["y"]),
            outputs={"y": (FLOAT, ["M", 2])},
            initializers=[helper.make_tensor("shape", INT64, [2], [-1, 2])],
        ),
    ),
    line=4,
)
fault(
    "TV218",
    "a number of things found",
    model(
        edited(FOUR, "TYPE_FP32 dims: [ 4 ] }\ndynamic", "TYPE_INT64 dims: [ 2 ] }\ndynamic"),
        operators(
            node("NonZero", ["x"], ["z"]), node("Transpose", ["z"], ["y"]), outputs={"y": (INT64, ["M", 2])}
        ),
    ),
    line=4,
    severity="warning",
)
fault("TV218", "time first", model(TIMED, TIME_FIRST), line=4)
fault("TV218", "time first, one request at a time", model(edited(TIMED, "size: 8", "size: 1"), TIME_FIRST))
fault("TV218", "time first, of a width", model(edited(TIMED, "[ 1, 32, -1 ]", "[ 1, 32, 96 ]"), TIME_FIRST))
fault("TV218", "time first, all completed", {"m/1/model.onnx": TIME_FIRST})
fault("TV218", "time first, after a recurrent layer", model(TIMED, RECURRENT))
OPEN = edited(FOUR, "[ 4 ]", "[ -1 ]")
fault(
    "TV218",
    "transposed",
    model(
        OPEN,
        operators(
            node("Transpose", ["x"], ["y"], perm=[1, 0]),
            inputs={"x": (FLOAT, ["N", "T"])},
            outputs={"y": (FLOAT, ["unk__1", "unk__2"])},
        ),
    ),
    line=4,
)
fault(
    "TV218",
    "rows of all items, of a size that the config fixes",
    model(
        edited(FOUR, "[ 4 ] }\ndynamic", "[ 2 ] }\ndynamic"),
        operators(
            node("Reshape", ["x", "shape"], ["y"]),
            inputs={"x": (FLOAT, ["N", "T"])},
            outputs={"y": (FLOAT, ["M", 2])},
            initializers=[helper.make_tensor("shape", INT64, [2], [-1, 2])],
        ),
    ),
    line=4,
)
LIBRARY = 'model_operations { op_library_filename: "/opt/my.so" }\n'
fault("TV218", "named as another dim", model(OPEN + LIBRARY, named(["N", "T"], ["T", "K"])), line=4)
fault("TV218", "a batch at another place", model(OPEN + LIBRARY, named(["N", "T"], ["unk__1", "N"])), line=4)
fault(
    "TV218",
    "completed",
    model(
        'backend: "onnxruntime"\nmax_batch_size: 8\n',
        operators(node("Concat", ["x", "x"], ["y"], axis=0), outputs={"y": (FLOAT, ["M", 4])}),
    ),
)
fault(
    "TV219",
    "a default that is asked for",
    model(without(DEFAULTED_CONFIG, " optional: true"), DEFAULTED),
    line=3,
)
fault(
    "TV219",
    "optional without a default",
    model(
        edited(DEFAULTED_CONFIG, "dims: [ -1, 4 ] }\ninput", "dims: [ -1, 4 ] optional: true }\ninput"),
        DEFAULTED,
    ),
    line=2,
)
fault(
    "TV219",
    "a default in a model that batches",
    model(
        FOUR + 'input { name: "bias" data_type: TYPE_FP32 dims: [ 4 ] }\n',
        operators(
            node("Add", ["x", "bias"], ["y"]),
            inputs={"x": (FLOAT, ["N", 4]), "bias": (FLOAT, ["B", 4])},
            initializers=[helper.make_tensor("bias", FLOAT, [1, 4], [0, 0, 0, 0])],
        ),
    ),
    line=6,
)
COUNTED = (
    'batch_input { kind: BATCH_ELEMENT_COUNT target_name: [ "a", "b" ] '
    'data_type: TYPE_FP32 source_input: "x" }\n'
)
fault(
    "TV206",
    "two targets of one batch_input",
    model(
        FOUR + COUNTED,
        operators(
            node("Add", ["a", "b"], ["c"]),
            node("Add", ["x", "c"], ["y"]),
            inputs={"x": (FLOAT, ["N", 4]), "a": (FLOAT, ["K"]), "b": (FLOAT, ["K"])},
        ),
    ),
    also=("TV804",),
)
