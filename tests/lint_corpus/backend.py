"""Faults of what the ONNX Runtime backend reads in a config, and where ours differs from NVIDIA's."""

from onnx import TensorProto, helper

from tests.lint_corpus.faults import Fault, collect
from tests.lint_corpus.onnx_graphs import (
    CUSTOM,
    FLOAT,
    INT64,
    UNSHAPED,
    operators,
)
from tests.lint_corpus.parts import (
    FOUR,
    edited,
    model,
    parameter,
)

FAULTS: list[Fault] = []
fault = collect(FAULTS)
node = helper.make_node

fault("TV705", "no number", model(FOUR + parameter("inter_op_thread_count", ""), UNSHAPED), line=6)
fault(
    "TV705",
    "of which a part is read",
    model(FOUR + parameter("intra_op_thread_count", "2.5"), UNSHAPED),
    severity="warning",
)
fault(
    "TV705",
    "a number that ends the server",
    model(FOUR + parameter("intra_op_thread_count", "9999999999"), UNSHAPED),
)
fault("TV705", "an empty switch", model(FOUR + parameter("enable_mem_arena", ""), UNSHAPED))
fault("TV705", "a device that is none", model(
    FOUR + parameter("memory.enable_memory_arena_shrinkage", "true"), UNSHAPED))  # fmt: skip
fault("TV705", "an arena that is off", model(FOUR + parameter("enable_mem_arena", "off")
    + parameter("memory.enable_memory_arena_shrinkage", "cpu:0"), UNSHAPED))  # fmt: skip
fault("TV705", "bounds of an unknown input", model(FOUR + parameter("max_shape", "z=4"), UNSHAPED))
fault("TV705", "bounds of another rank", model(FOUR + parameter("max_shape", "x=4,4"), UNSHAPED))
fault("TV705", "bounds that refuse everything", model(FOUR + parameter("max_shape", "x=3"), UNSHAPED))
fault("TV705", "bounds that are none", model(FOUR + parameter("max_shape", "4"), UNSHAPED))
fault(
    "TV706",
    "of later releases",
    model(FOUR + parameter("session.use_device_allocator_for_initializers", "1"), UNSHAPED),
    severity="warning",
)
fault(
    "TV706",
    "of no release",
    model(FOUR + parameter("share_session_between_instances", "true"), UNSHAPED),
    severity="warning",
    line=6,
)
fault(
    "TV706",
    "a typing error",
    model(FOUR + parameter("intra_op_thread_counts", "2"), UNSHAPED),
    severity="warning",
)
fault(
    "TV706",
    "a setting of the backend",
    model(FOUR + parameter("enable-global-threadpool", "1"), UNSHAPED),
    severity="warning",
)
fault(
    "TV801",
    "in and out",
    model(
        edited(FOUR, "TYPE_FP32", "TYPE_STRING"),
        operators(
            node("Identity", ["x"], ["y"]),
            inputs={"x": (TensorProto.STRING, ["N", 4])},
            outputs={"y": (TensorProto.STRING, ["N", 4])},
        ),
    ),
    severity="note",
)
fault(
    "TV802",
    "two outputs",
    model(
        'backend: "onnxruntime"\n',
        operators(
            node("Relu", ["x"], ["b"]),
            node("Neg", ["x"], ["a"]),
            outputs={"b": (FLOAT, ["N", 4]), "a": (FLOAT, ["N", 4])},
        ),
    ),
    severity="note",
)
fault(
    "TV803",
    "a bound",
    model(
        edited(FOUR, "[ 4 ]", "[ -1 ]") + parameter("max_shape", "x=640"),
        operators(
            node("Relu", ["x"], ["y"]), inputs={"x": (FLOAT, ["N", "W"])}, outputs={"y": (FLOAT, ["N", "W"])}
        ),
    ),
    severity="note",
    line=6,
)
fault(
    "TV804",
    "a ragged input",
    model(
        edited(
            FOUR,
            "dims: [ 4 ] }\noutput",
            "dims: [ -1 ] allow_ragged_batch: true }\noutput",
            "[ 4 ] }\nd",
            "[ 1 ] }\nd",
        ),
        operators(
            node("Reshape", ["x", "shape"], ["y"]),
            inputs={"x": (FLOAT, ["K"])},
            outputs={"y": (FLOAT, ["N", 1])},
            initializers=[helper.make_tensor("shape", INT64, [2], [-1, 1])],
        ),
    ),
    severity="note",
)
fault(
    "TV315",
    "of ONNX Runtime",
    model(FOUR + "model_transaction_policy { decoupled: true }\n", UNSHAPED),
    severity="warning",
    line=6,
)
fault(
    "TV106",
    "a library that the linker must find",
    model(FOUR + 'model_operations { op_library_filename: "libmine.so" }\n', CUSTOM),
    severity="warning",
)
fault(
    "TV705",
    "an arena to shrink that is off",
    model(
        FOUR
        + parameter("memory.enable_memory_arena_shrinkage", "cpu:0")
        + parameter("enable_mem_arena", "Off"),
        UNSHAPED,
    ),
    line=6,
)
fault(
    "TV705",
    "a GPU's arena on CPUs",
    model(
        FOUR
        + parameter("memory.enable_memory_arena_shrinkage", "gpu:0")
        + "instance_group { kind: KIND_CPU }\n",
        UNSHAPED,
    ),
)
fault(
    "TV705",
    "of CUDA, where there are only CPUs",
    model(FOUR + parameter("cudnn_conv_algo_search", "9"), UNSHAPED),
    target="cpu",
    severity="warning",
)
