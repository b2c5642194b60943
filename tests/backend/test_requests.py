"""The ONNX Runtime backend of pip Triton: batching, failures, configurations, versions, memory.

Both of its halves pass the same tests. The values of single operators are in test_conformance.py.
"""

import numpy as np
import onnxruntime as ort
import ort_config
import ort_providers
import ort_sessions
import ort_settings
import pytest
from fixed_batch import FixedBatch
from onnx import helper
from tritonclient.utils import InferenceServerException

from export.pipelines.plans.configs import ACCELERATOR_KEYS
from tests.backend.models import times
from tests.graphs import FLOAT, INT64, STRING, executions, graph, infer, load, publish, together
from tests.processes import alive, descendants, wait_for_line, wait_until, without_planner

COMPANY = "dynamic_batching { max_queue_delay_microseconds: 500000 preferred_batch_size: [ 4 ] }"


SUM_AND_DIFFERENCE = graph(
    [helper.make_node("Add", ["x", "y"], ["sum"]), helper.make_node("Sub", ["x", "y"], ["difference"])],
    [("x", FLOAT, ["n", 2]), ("y", FLOAT, ["n", 2])],
    [("sum", FLOAT, ["n", 2]), ("difference", FLOAT, ["n", 2])],
)
LOOK_UP = graph(  # fails on an index beyond the table, so one request can spoil a batch
    [helper.make_node("Gather", ["table", "index"], ["value"])],
    [("index", INT64, ["n", 1])],
    [("value", FLOAT, ["n", 1])],
    [("table", np.arange(10, dtype=np.float32))],
)
ITEMS_AT_ONCE = graph(  # of ones: how many were computed together
    [
        helper.make_node("ReduceSum", ["x", "first"], ["total"]),
        helper.make_node("Sub", ["x", "x"], ["zeros"]),
        helper.make_node("Add", ["zeros", "total"], ["y"]),
    ],
    [("x", FLOAT, ["n", 1])],
    [("y", FLOAT, ["n", 1])],
    [("first", np.array([0], np.int64))],
)
IDENTITY = graph(
    [helper.make_node("Identity", ["text"], ["same"])],
    [("text", STRING, ["n", 1])],
    [("same", STRING, ["n", 1])],
)


@pytest.fixture(scope="module", params=["native", "python"])
def half(request):
    return request.param


def test_a_graph_alone_is_completed_with_batching(client, repository):
    load(client, repository, "completed", SUM_AND_DIFFERENCE)
    config = client.get_model_config("completed").config
    assert config.max_batch_size == ort_config.DEFAULT_MAX_BATCH_SIZE
    assert config.HasField("dynamic_batching")
    assert [(i.name, list(i.dims)) for i in config.input] == [("x", [2]), ("y", [2])]
    assert [(o.name, list(o.dims)) for o in config.output] == [("sum", [2]), ("difference", [2])]


def test_requests_are_joined_into_one_execution_and_split_again(client, running, repository):
    config = f"max_batch_size: 4 {COMPANY} instance_group {{ count: 1 kind: KIND_CPU }}"
    load(client, repository, "joined", SUM_AND_DIFFERENCE, config)
    rows = [np.full((size, 2), value, np.float32) for value, size in enumerate((1, 2, 1), 1)]
    results = together(running.grpc_url, [lambda c, x=x: infer(c, "joined", x=x, y=x * 10) for x in rows])
    for x, result in zip(rows, results, strict=True):
        np.testing.assert_array_equal(result.as_numpy("sum"), x * 11)
        np.testing.assert_array_equal(result.as_numpy("difference"), x * -9)
    assert executions(client, "joined", requests=4) == 1


def test_a_batch_is_computed_in_pieces_of_whole_requests(client, running, repository):
    config = (
        f"max_batch_size: 4 {COMPANY} instance_group {{ count: 1 kind: KIND_CPU }}"
        'parameters { key: "cpu_batch_size" value { string_value: "2" } }'
    )
    load(client, repository, "in_pieces", ITEMS_AT_ONCE, config)
    one, four = (np.ones((size, 1), np.float32) for size in (1, 4))
    results = together(running.grpc_url, [lambda c: infer(c, "in_pieces", x=one)] * 4)
    assert executions(client, "in_pieces", requests=4) == 1
    assert [result.as_numpy("y").tolist() for result in results] == [[[2.0]]] * 4
    assert infer(client, "in_pieces", x=four).as_numpy("y").tolist() == [[4.0]] * 4  # one request stays whole


def in_process(model):
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"])


def test_a_gpu_computes_batches_of_one_size():
    """The graph tells how many items it got; on a CPU, as the shape is all that matters here."""
    session = FixedBatch(in_process(ITEMS_AT_ONCE), 4)
    for count, computed in ((1, 4), (3, 4), (4, 4), (6, 6)):
        (answers,) = session.run(["y"], {"x": np.ones((count, 1), np.float32)})
        assert answers.tolist() == [[computed]] * count


def test_filling_up_a_batch_changes_no_answer():
    session = FixedBatch(in_process(SUM_AND_DIFFERENCE), 8)
    x, y = np.arange(6, dtype=np.float32).reshape(3, 2), np.ones((3, 2), np.float32)
    found = session.run(["difference", "sum"], {"x": x, "y": y})
    np.testing.assert_array_equal(found, [x - y, x + y])


def test_each_provider_has_its_own_batch_size():
    parameters = {"cpu_batch_size": {"string_value": "2"}, "cuda_batch_size": {"string_value": "8"}}
    sizes = [
        ort_settings.items_at_once({"parameters": parameters}, f"{provider}ExecutionProvider")
        for provider in ("CPU", "CUDA", "Tensorrt")
    ]
    assert sizes == [2, 8, 0]
    parameters["cuda_batch_size"]["string_value"] = "-1"
    with pytest.raises(ort_config.SettingsError, match="cuda_batch_size is -1"):
        ort_settings.items_at_once({"parameters": parameters}, "CUDAExecutionProvider")


def test_only_requested_outputs_come_back(client, repository):
    load(client, repository, "chosen", SUM_AND_DIFFERENCE)
    ones = np.ones((1, 2), np.float32)
    result = infer(client, "chosen", outputs=["difference"], x=ones, y=ones)
    assert [output.name for output in result.get_response().outputs] == ["difference"]


def test_requests_of_one_batch_may_want_different_outputs(client, running, repository):
    config = f"max_batch_size: 4 {COMPANY} instance_group {{ count: 1 kind: KIND_CPU }}"
    load(client, repository, "differing", SUM_AND_DIFFERENCE, config)
    x = np.ones((2, 2), np.float32)
    wanted = [["sum"], ["difference"]]
    results = together(
        running.grpc_url, [lambda c, w=w: infer(c, "differing", outputs=w, x=x, y=x) for w in wanted]
    )
    np.testing.assert_array_equal(results[0].as_numpy("sum"), x * 2)
    np.testing.assert_array_equal(results[1].as_numpy("difference"), x * 0)
    assert executions(client, "differing", requests=4) == 1


def test_one_bad_request_of_a_batch_fails_alone(client, running, repository):
    config = f"max_batch_size: 4 {COMPANY} instance_group {{ count: 1 kind: KIND_CPU }}"
    load(client, repository, "look_up", LOOK_UP, config)
    indices = [3, 99, 5, 7]
    results = together(
        running.grpc_url,
        [lambda c, i=i: infer(c, "look_up", index=np.array([[i]], np.int64)) for i in indices],
    )
    values = [r if isinstance(r, Exception) else r.as_numpy("value").item() for r in results]
    assert [values[0], values[2], values[3]] == [3.0, 5.0, 7.0]
    assert "model 'look_up'" in str(values[1])
    assert "idx=99" in str(values[1])  # ONNX Runtime's own words, with the value that came


def test_strings_pass_and_what_is_not_utf8_fails_alone(client, running, repository):
    config = f"max_batch_size: 4 {COMPANY} instance_group {{ count: 1 kind: KIND_CPU }}"
    load(client, repository, "identity", IDENTITY, config)
    texts = [b"plain", b"\xff\xfe", "größer".encode(), b""]
    results = together(
        running.grpc_url, [lambda c, t=t: infer(c, "identity", text=np.array([[t]], object)) for t in texts]
    )
    answers = [r if isinstance(r, Exception) else r.as_numpy("same").item() for r in results]
    assert [answers[0], answers[2], answers[3]] == [texts[0], texts[2], texts[3]]
    assert "input 'text' holds a string that is not UTF-8" in str(answers[1])


@pytest.mark.slow
def test_what_comes_alone_is_answered_or_refused_as_in_company(client, repository):
    load(client, repository, "look_up", LOOK_UP)
    with pytest.raises(InferenceServerException, match=r"model 'look_up'.*idx=99"):
        infer(client, "look_up", index=np.array([[99]], np.int64))
    np.testing.assert_array_equal(
        infer(client, "look_up", index=np.array([[3], [5]])).as_numpy("value"), [[3], [5]]
    )
    load(client, repository, "identity", IDENTITY)
    texts = np.array([["größer".encode()], [b""]], object)
    np.testing.assert_array_equal(infer(client, "identity", text=texts).as_numpy("same"), texts)
    with pytest.raises(InferenceServerException, match="input 'text' holds a string that is not UTF-8"):
        infer(client, "identity", text=np.array([[b"\xff"]], object))


def test_an_optional_input_may_be_left_out(client, repository):
    model = graph(
        [helper.make_node("Add", ["x", "offset"], ["y"])],
        [("x", FLOAT, [2]), ("offset", FLOAT, [2])],
        [("y", FLOAT, [2])],
        [("offset", np.array([10, 20], np.float32))],  # an input with a default: the initializer
    )
    config = """max_batch_size: 0
        input { name: "x" data_type: TYPE_FP32 dims: 2 }
        input { name: "offset" data_type: TYPE_FP32 dims: 2 optional: true }
        output { name: "y" data_type: TYPE_FP32 dims: 2 }"""
    load(client, repository, "optional", model, config)
    x = np.array([1, 2], np.float32)
    np.testing.assert_array_equal(infer(client, "optional", x=x).as_numpy("y"), [11, 22])
    np.testing.assert_array_equal(infer(client, "optional", x=x, offset=x).as_numpy("y"), [2, 4])


def test_a_scalar_per_item_is_reshaped_as_the_config_says(client, repository):
    model = graph([helper.make_node("Neg", ["x"], ["y"])], [("x", FLOAT, ["n"])], [("y", FLOAT, ["n"])])
    load(client, repository, "scalars", model)
    assert client.get_model_config("scalars").config.input[0].HasField("reshape")
    x = np.array([[1], [2], [3]], np.float32)
    np.testing.assert_array_equal(infer(client, "scalars", x=x).as_numpy("y"), -x)


def test_versions_are_served_beside_each_other(client, repository):
    publish(repository, "versions", times(2), "version_policy { all {} }", version=1)
    publish(repository, "versions", times(3), version=2)
    client.load_model("versions")
    x = np.ones((1, 1), np.float32)
    assert infer(client, "versions", version="1", x=x).as_numpy("y").item() == 2
    assert infer(client, "versions", version="2", x=x).as_numpy("y").item() == 3


@pytest.mark.slow
def test_unloading_ends_every_instance(client, running, repository, half):
    before = set(descendants(running.pid))
    load(client, repository, "instances", times(2), "instance_group { count: 3 kind: KIND_CPU }")
    started = set(without_planner(descendants(running.pid))) - before
    assert len(started) == (3 if half == "python" else 0)
    client.unload_model("instances")
    wait_until(lambda: not alive(started))  # the server answers before the processes have ended


def test_an_accelerator_that_is_not_installed_is_a_warning(client, running, repository):
    config = """optimization { execution_accelerators {
        cpu_execution_accelerator { name: "openvino" } } }"""
    load(client, repository, "accelerated", times(2), config)
    x = np.ones((1, 1), np.float32)
    assert infer(client, "accelerated", x=x).as_numpy("y").item() == 2
    wait_for_line(running.log, "W", "OpenVINOExecutionProvider is asked for, but not in this onnxruntime")


CONFIG_OF_TIMES = """max_batch_size: 4
    input {{ name: "{i}" data_type: {t} dims: {d} }}
    output {{ name: "y" data_type: TYPE_FP32 dims: 1 }} {more}"""


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("no_input", {"i": "z"}, "graph has no input 'z', it has 'x'"),
        ("no_input_2", {"i": "z"}, "the graph's input 'x' is not in the configuration"),
        ("type", {"t": "TYPE_INT32"}, "input 'x' is TYPE_INT32, in the graph TYPE_FP32"),
        ("dims", {"d": "7"}, r"input 'x' has dims \[7\], in the graph \[1\]"),
        ("threads", {"more": 'parameters { key: "intra_op_thread_count" value { string_value: "two" } }'},
         "intra_op_thread_count is 'two', which is not an integer"),
        ("mode", {"more": 'parameters { key: "execution_mode" value { string_value: "7" } }'},
         "execution_mode is 7; choose one of 0, 1"),
        ("accelerator", {"more": """optimization { execution_accelerators {
            cpu_execution_accelerator { name: "warp" } } }"""}, "unknown CPU accelerator 'warp'"),
        ("ragged", {"more": "batch_output { target_name: \"y\" kind: BATCH_SCATTER_WITH_INPUT_SHAPE"
         " source_input: \"x\" }"},
         "batch_output: not supported"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_refused_at_load(client, repository, name, config, message):
    config = CONFIG_OF_TIMES.format(**{"i": "x", "t": "TYPE_FP32", "d": "1", "more": "", **config})
    with pytest.raises(InferenceServerException, match=message):
        load(client, repository, name, times(2), config)


def test_a_batch_dimension_fixed_at_one_is_refused_at_load(client, repository):
    model = graph([helper.make_node("Neg", ["x"], ["y"])], [("x", FLOAT, [1, 1])], [("y", FLOAT, [1, 1])])
    with pytest.raises(InferenceServerException, match="first dimension of input 'x' is fixed at 1"):
        load(client, repository, "fixed", model, CONFIG_OF_TIMES.format(i="x", t="TYPE_FP32", d="1", more=""))
    with pytest.raises(InferenceServerException, match="max_batch_size is 8, but the graph does not batch"):
        load(client, repository, "fixed_completed", model, "max_batch_size: 8")


def test_a_graph_that_is_no_graph_is_refused_and_the_server_goes_on(client, repository):
    with pytest.raises(InferenceServerException, match=r"model\.onnx"):
        load(client, repository, "garbage", b"not an ONNX file")
    load(client, repository, "times_two", times(2))
    assert infer(client, "times_two", x=np.ones((1, 1), np.float32)).as_numpy("y").item() == 2


def test_an_output_without_the_batch_in_front_is_an_error_not_a_wrong_answer(client, repository):
    model = graph(
        [helper.make_node("Concat", ["x", "x"], ["y"], axis=0)],
        [("x", FLOAT, ["n", 1])],
        [("y", FLOAT, ["m", 1])],
    )
    load(client, repository, "doubled", model)
    with pytest.raises(InferenceServerException, match=r"output 'y' has shape \[2, 1\] for a batch of 1"):
        infer(client, "doubled", x=np.ones((1, 1), np.float32))


# How a config.pbtxt is read, without a server.


def parameters(**values):
    return {"parameters": {key: {"string_value": value} for key, value in values.items()}}


def test_session_options_follow_the_config():
    config = parameters(
        intra_op_thread_count="3", inter_op_thread_count="2", execution_mode="1", enable_mem_arena="false"
    )
    options = ort_sessions.session_options({**config, "optimization": {"graph": {"level": 2}}})
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 2)
    assert options.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert options.enable_cpu_mem_arena is False
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = ort_sessions.session_options({})
    assert plain.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    assert plain.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL


@pytest.mark.parametrize(
    ("kind", "available", "chosen", "warned"),
    [
        ("CPU", ["CUDAExecutionProvider"], ["CPUExecutionProvider"], 0),
        ("GPU", ["CUDAExecutionProvider"], ["CUDAExecutionProvider", "CPUExecutionProvider"], 0),
        ("AUTO", ["CUDAExecutionProvider"], ["CUDAExecutionProvider", "CPUExecutionProvider"], 0),
        ("AUTO", [], ["CPUExecutionProvider"], 0),
        ("GPU", [], ["CPUExecutionProvider"], 1),
    ],
)
def test_instance_kinds_choose_providers(kind, available, chosen, warned):
    providers, warnings = ort_providers.execution_providers(
        parameters(cudnn_conv_algo_search="1"), kind, 2, available
    )
    assert [name for name, _ in providers] == chosen
    assert len(warnings) == warned
    if len(chosen) == 2:
        assert providers[0][1] == {"device_id": "2", "cudnn_conv_algo_search": "HEURISTIC"}


def test_the_cpu_is_last_after_tensorrt_and_cuda():
    accelerators = [
        {"name": "tensorrt"},
        {"name": "cuda", "parameters": {"use_ep_level_unified_stream": "1"}},
    ]
    config = {"optimization": {"execution_accelerators": {"gpu_execution_accelerator": accelerators}}}
    names = ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    providers, warnings = ort_providers.execution_providers(config, "GPU", 1, names)
    assert [name for name, _ in providers] == [*names, "CPUExecutionProvider"]
    assert providers[1][1] == {"device_id": "1", "use_ep_level_unified_stream": "1"}
    assert not warnings
    assert ort_providers.execution_providers(config, "CPU", 0, names) == ([("CPUExecutionProvider", {})], [])
    _, warnings = ort_providers.execution_providers(config, "GPU", 0, ["CUDAExecutionProvider"])
    assert ["TensorrtExecutionProvider is asked for" in warning for warning in warnings] == [True]
    accelerators[0]["name"] = "tensorrtx"
    with pytest.raises(ort_config.SettingsError, match="unknown GPU accelerator 'tensorrtx'"):
        ort_providers.execution_providers(config, "GPU", 0, names)


def test_a_provider_that_falls_back_is_noticed():
    providers = [("CUDAExecutionProvider", {}), ("CPUExecutionProvider", {})]
    (warning,) = ort_providers.fallback_warnings(providers, ["CPUExecutionProvider"])
    assert "CUDAExecutionProvider was asked for and is installed, but could not be used" in warning
    assert not ort_providers.fallback_warnings(providers, [name for name, _ in providers])


@pytest.mark.skipif(
    "CUDAExecutionProvider" not in ort.get_available_providers(), reason="needs onnxruntime-gpu"
)
def test_onnxruntime_itself_falls_back_as_we_expect():
    """Where CUDA is installed but cannot be used, a session is made, and says what it runs on."""
    providers = [("CUDAExecutionProvider", {}), ("CPUExecutionProvider", {})]
    used = ort.InferenceSession(times(2), providers=providers).get_providers()
    assert used[-1] == "CPUExecutionProvider"
    assert len(ort_providers.fallback_warnings(providers, used)) == 2 - len(used)


def test_the_accelerators_keys_are_those_that_export_may_write():
    ours = ort_providers.TENSORRT_PARAMETERS | {"precision_mode"} | set(ort_providers.TENSORRT_RENAMED)
    assert ours == ACCELERATOR_KEYS


def test_tensorrt_parameters_become_provider_options():
    accelerator = {
        "name": "tensorrt",
        "parameters": {"precision_mode": "FP16", "max_workspace_size_bytes": "1073741824"},
    }
    config = {"optimization": {"execution_accelerators": {"gpu_execution_accelerator": [accelerator]}}}
    available = ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    providers, _ = ort_providers.execution_providers(config, "GPU", 0, available)
    assert providers[0] == (
        "TensorrtExecutionProvider",
        {"device_id": "0", "trt_fp16_enable": "1", "trt_max_workspace_size": "1073741824"},
    )
    for key in ("precision", "trt_fp16_enable"):  # the latter is ONNX Runtime's own, which is refused, too
        accelerator["parameters"] = {key: "1"}
        with pytest.raises(ort_config.SettingsError, match=f"unknown parameter '{key}'"):
            ort_providers.execution_providers(config, "GPU", 0, available)
