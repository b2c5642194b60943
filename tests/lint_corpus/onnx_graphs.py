"""ONNX graphs for the repositories, as small as what they show allows."""

import onnx
from onnx import TensorProto, helper

FLOAT, UINT8, INT8, INT32, INT64 = (
    TensorProto.FLOAT,
    TensorProto.UINT8,
    TensorProto.INT8,
    TensorProto.INT32,
    TensorProto.INT64,
)
SIZES = {  # bytes; of other types 8
    FLOAT: 4, INT32: 4, TensorProto.UINT32: 4, UINT8: 1, INT8: 1, TensorProto.BOOL: 1,
    TensorProto.FLOAT16: 2, TensorProto.BFLOAT16: 2, TensorProto.INT16: 2, TensorProto.UINT16: 2,
}  # fmt: skip


def graph(inputs, outputs, opset=18, ir_version=9, weights=()) -> bytes:
    """A graph with these tensors, as name=(type, shape); its outputs are zeros.

    An output that comes as a whole value is a ZipMap, as scikit-learn's converter makes them.
    """
    zipped = {name for name, value in outputs.items() if isinstance(value, onnx.ValueInfoProto)}
    shaped = {name: (FLOAT, ["N", 1]) if name in zipped else value for name, value in outputs.items()}
    sizes = {size for _, shape in shaped.values() for size in shape if isinstance(size, int)}
    first = next(iter(inputs))
    if isinstance(inputs[first][1][0], str):
        nodes = [helper.make_node("Shape", [first], ["batch"], start=0, end=1)]
    else:  # a size that nobody knows beforehand
        nodes = [
            helper.make_node("RandomUniform", [], ["random"], shape=[9], low=-1.0),
            helper.make_node("Relu", ["random"], ["some"]),
            helper.make_node("NonZero", ["some"], ["found"]),
            helper.make_node("Shape", ["found"], ["batch"], start=1, end=2),
        ]
    for name, (data_type, shape) in shaped.items():
        sources = [f"size_{size}" if isinstance(size, int) else "batch" for size in shape]
        zero = TensorProto(data_type=data_type, dims=[1], raw_data=bytes(8)[: SIZES.get(data_type, 8)])
        if data_type == TensorProto.STRING:
            zero = helper.make_tensor("zero", INT64, [1], [0])
        nodes.append(helper.make_node("Concat", sources or ["scalar", "scalar"], [f"{name}_shape"], axis=0))
        made = f"{name}_made" if name in zipped or data_type == TensorProto.STRING else name
        nodes.append(helper.make_node("ConstantOfShape", [f"{name}_shape"], [made], value=zero))
        if name in zipped:
            nodes.append(
                helper.make_node("ZipMap", [made], [name], domain="ai.onnx.ml", classlabels_int64s=[0])
            )
        elif made != name:
            nodes.append(helper.make_node("Cast", [made], [name], to=TensorProto.STRING))
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, *value) for name, value in inputs.items()],
        [
            value if isinstance(value, onnx.ValueInfoProto) else helper.make_tensor_value_info(name, *value)
            for name, value in outputs.items()
        ],
        initializer=[
            *(helper.make_tensor(f"size_{size}", INT64, [1], [size]) for size in sorted(sizes)),
            helper.make_tensor("scalar", INT64, [0], []),
            *weights,
        ],
    )
    domains = {"": opset} | ({"ai.onnx.ml": 3} if zipped else {})
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid(*entry) for entry in domains.items()], ir_version=ir_version
    ).SerializeToString()


UNBATCHED_GRAPH = graph({"x": (FLOAT, [1, 3, "W"])}, {"y": (FLOAT, [1, 10])})


def operators(
    *nodes, inputs=None, outputs=None, opsets=None, initializers=(), functions=(), ir_version=8
) -> bytes:
    """A graph of these nodes, from x to y; both are FP32 [N, 4] where nothing else is said."""
    inputs = {"x": (FLOAT, ["N", 4])} if inputs is None else inputs
    outputs = {"y": (FLOAT, ["N", 4])} if outputs is None else outputs
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, *value) for name, value in inputs.items()],
        [helper.make_tensor_value_info(name, *value) for name, value in outputs.items()],
        initializer=list(initializers),
    )
    imports = [helper.make_opsetid(*entry) for entry in ({"": 17} if opsets is None else opsets).items()]
    return helper.make_model(
        made, opset_imports=imports, ir_version=ir_version, functions=list(functions)
    ).SerializeToString()


VIEW = operators(  # y = x.view(n, c * w), whose dims are a matter of constant folding
    helper.make_node("Shape", ["x"], ["s"]),
    helper.make_node("Gather", ["s", "zero"], ["n"]),
    helper.make_node("Gather", ["s", "one"], ["c"]),
    helper.make_node("Gather", ["s", "two"], ["w"]),
    helper.make_node("Mul", ["c", "w"], ["cw"]),
    helper.make_node("Unsqueeze", ["n", "axis"], ["n1"]),
    helper.make_node("Unsqueeze", ["cw", "axis"], ["c1"]),
    helper.make_node("Concat", ["n1", "c1"], ["t"], axis=0),
    helper.make_node("Reshape", ["x", "t"], ["y"]),
    inputs={"x": (FLOAT, ["N", 3, 4])},
    outputs={"y": (FLOAT, ["N", "K"])},
    initializers=[
        *(
            helper.make_tensor(name, INT64, [], [value])
            for name, value in (("zero", 0), ("one", 1), ("two", 2))
        ),
        helper.make_tensor("axis", INT64, [1], [0]),
    ],
)


def named(inputs, outputs) -> bytes:
    """x to y by an operator that nothing is known of, so that names of dims are all there is."""
    return operators(
        helper.make_node("Foo", ["x"], ["y"], domain="my.ops"),
        inputs={"x": (FLOAT, inputs)},
        outputs={"y": (FLOAT, outputs)},
        opsets={"": 17, "my.ops": 1},
    )


def timed(*nodes, dims, channels: int = 37, initializers=()) -> bytes:
    """A reader of text lines up to columns "s", [N, channels, T]; `nodes` make y of them."""
    return operators(
        helper.make_node("Conv", ["x", "w"], ["h"], strides=[1, 4]),
        helper.make_node("Squeeze", ["h", "two"], ["s"]),
        *nodes,
        inputs={"x": (FLOAT, ["batch", 1, 32, "width"])},
        outputs={"y": (FLOAT, dims)},
        initializers=[
            helper.make_tensor("w", FLOAT, [channels, 1, 32, 4], [0.0] * channels * 128),
            helper.make_tensor("two", INT64, [1], [2]),
            *initializers,
        ],
    )


TIME_FIRST = timed(helper.make_node("Transpose", ["s"], ["y"], perm=[2, 0, 1]), dims=["time", "batch", 37])


BATCH_FIRST = timed(
    helper.make_node("Transpose", ["s"], ["y"], perm=[0, 2, 1]), dims=["unk__1", "unk__2", 37]
)


RECURRENT = timed(  # its linear layer sees [T * N, 8], by sizes that are computed
    helper.make_node("Transpose", ["s"], ["t"], perm=[2, 0, 1]),
    helper.make_node("GRU", ["t", "gw", "gr"], ["g"], hidden_size=8),
    helper.make_node("Squeeze", ["g", "one"], ["r"]),
    helper.make_node("Shape", ["r"], ["tn"], start=0, end=2),
    helper.make_node("Reshape", ["r", "rows"], ["flat"]),
    helper.make_node("MatMul", ["flat", "lw"], ["z"]),
    helper.make_node("Concat", ["tn", "classes"], ["back"], axis=0),
    helper.make_node("Reshape", ["z", "back"], ["y"]),
    dims=["a", "b", 37],
    channels=2,
    initializers=[
        helper.make_tensor("gw", FLOAT, [1, 24, 2], [0.0] * 48),
        helper.make_tensor("gr", FLOAT, [1, 24, 8], [0.0] * 192),
        helper.make_tensor("lw", FLOAT, [8, 37], [0.0] * 296),
        helper.make_tensor("one", INT64, [1], [1]),
        helper.make_tensor("rows", INT64, [2], [-1, 8]),
        helper.make_tensor("classes", INT64, [1], [37]),
    ],
)


CUT_TO_FOUR = operators(  # right for x of 2 by 2 alone, which is all that its users send
    helper.make_node("Reshape", ["x", "shape"], ["y"]),
    inputs={"x": (FLOAT, ["N", "H", "W"])},
    outputs={"y": (FLOAT, ["M", 4])},
    initializers=[helper.make_tensor("shape", INT64, [2], [-1, 4])],
)


UNSHAPED = operators(helper.make_node("Relu", ["x"], ["y"]), outputs={"y": (FLOAT, None)})


CUSTOM = operators(helper.make_node("Foo", ["x"], ["y"], domain="my.ops"), opsets={"": 17, "my.ops": 1})


LOCAL_FUNCTION = operators(
    helper.make_node("Foo", ["x"], ["y"], domain="my.ops"),
    opsets={"": 17, "my.ops": 1},
    functions=[
        helper.make_function(
            "my.ops",
            "Foo",
            ["a"],
            ["b"],
            [helper.make_node("Relu", ["a"], ["b"])],
            [helper.make_opsetid("", 17)],
        )
    ],
)


CONTRIB = operators(
    helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft"), opsets={"": 17, "com.microsoft": 1}
)


DEFAULTED = operators(
    helper.make_node("Add", ["x", "bias"], ["y"]),
    inputs={"x": (FLOAT, ["N", 4]), "bias": (FLOAT, [4])},
    initializers=[helper.make_tensor("bias", FLOAT, [4], [0, 0, 0, 0])],
)
