"""What TensorRT plans are made from: prepared graphs, profiles, devices, commands, configurations."""

import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from export import ModelSpec
from export.catalogue import CATALOGUE
from export.common.devices import DEVICES, capability_here, capability_of
from export.common.errors import PlanError
from export.common.release import CONTAINER, RELEASES
from export.graphs.preparation import PRECISIONS, prepare
from export.pipelines.plans.building import read_outputs
from export.pipelines.plans.commands import build_command, in_container, shown
from export.pipelines.plans.configs import (
    ACCELERATOR_KEYS,
    accelerator_config,
    config_text,
    plan_config,
    with_plan,
)
from export.pipelines.plans.profiles import profile_of
from export.repository.configs.contract import contract_of, derive_contract, parse_config
from export.repository.configs.policy import default_policy
from tests.export.pipelines.plans.models import SPECS, both, columns, graph_of, sums

# Graphs


@pytest.mark.slow
def test_an_exported_graph_casts_bytes_before_anything_else(published):
    """Its network transposes them first."""
    model = graph_of(published, columns)
    assert [node.op_type for node in model.graph.node if "line" in node.input] == ["Cast"]
    assert prepare(model, "fp32") == model


@both
def test_fp16_is_inside_only(published, spec):
    prepared = prepare(graph_of(published, spec), "fp16")
    onnx.checker.check_model(prepared, full_check=True)
    edges = {
        value.name: value.type.tensor_type.elem_type
        for value in (*prepared.graph.input, *prepared.graph.output)
    }
    assert TensorProto.FLOAT16 not in edges.values()
    assert TensorProto.FLOAT16 in {tensor.data_type for tensor in prepared.graph.initializer}
    assert prepared.metadata_props == graph_of(published, spec).metadata_props


def test_int8_and_fp8_need_a_quantised_graph(published):
    model = graph_of(published, columns)
    for precision in ("int8", "fp8"):
        with pytest.raises(PlanError, match=f"{precision} needs a graph with Q/DQ nodes"):
            prepare(model, precision)
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1])
    zero = helper.make_tensor("zero", TensorProto.INT8, [], [0])
    model.graph.initializer.extend([scale, zero])
    output = model.graph.output[0].name
    model.graph.node.append(helper.make_node("QuantizeLinear", [output, "scale", "zero"], ["q"]))
    assert prepare(model, "int8").graph.node[-1].op_type == "QuantizeLinear"
    with pytest.raises(PlanError, match="is no fp16 graph: choose int8"):
        prepare(model, "fp16")


def test_uint8_that_is_used_as_such_is_refused():
    nodes = [helper.make_node("Gather", ["table", "x"], ["y"])]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.UINT8, ["n"])], [value("y", TensorProto.FLOAT, ["n"])]
    )
    with pytest.raises(PlanError, match="input x is UINT8 and goes into Gather"):
        prepare(helper.make_model(graph), "fp32")


# Profiles, devices, commands


def test_profiles_cover_batch_open_dims_and_states():
    assert profile_of(columns, (8, 64, 256)).texts() == ("line:1x8x8", "line:4x8x64", "line:4x8x256")
    assert profile_of(sums).texts()[2] == "x:4x3,total_in:4x3"
    with pytest.raises(PlanError, match="give the smallest, the optimal and the largest"):
        profile_of(columns, (64, 8, 256))


def test_devices_have_the_capability_of_nvidias_table():
    """Written a second time, from https://developer.nvidia.com/cuda-gpus."""
    table = {
        "7.5": "t4",
        "8.0": "a30 a100",
        "8.6": "a10 a40 rtx3090",
        "8.9": "l4 l40s rtx4090",
        "9.0": "h100 h200",
        "10.0": "b200 gb200",
        "10.3": "b300 gb300",
        "12.0": "rtx5090 rtx-pro-6000",
        "12.1": "gb10",
    }
    assert {name: number for number, names in table.items() for name in names.split()} == DEVICES


@pytest.mark.parametrize("device", [*DEVICES, "7.5", "8.9", "L4"])
def test_devices_have_a_compute_capability(device):
    assert capability_of(device, RELEASES["26.08"])


@pytest.mark.parametrize(
    ("device", "release", "message"),
    [
        ("v100", "24.10", "no device profile 'v100'"),
        ("7.0", "24.10", "of Triton 24.10 builds for 7.5 to 9.0"),
        ("12.0", "24.10", "of Triton 24.10 builds for 7.5 to 9.0"),
        ("b200", "24.10", "of Triton 24.10 builds for 7.5 to 9.0"),  # as text, "10.0" is below "9.0"
        ("7.0", "26.08", "of Triton 26.08 builds for 7.5 to 12.1"),
        ("13.0", "26.08", "of Triton 26.08 builds for 7.5 to 12.1"),
    ],
)
def test_other_devices_are_refused(device, release, message):
    with pytest.raises(PlanError, match=message):
        capability_of(device, RELEASES[release])


@pytest.mark.parametrize(("device", "capability"), [("b200", "10.0"), ("RTX5090", "12.0"), ("12.1", "12.1")])
def test_a_newer_release_builds_for_newer_gpus(device, capability):
    assert capability_of(device, RELEASES["26.08"]) == capability


@pytest.mark.parametrize(
    ("says", "capability"), [("8.9", "8.9"), ("'7.5\n7.5'", "7.5"), ("'[N/A]'", None), (None, None)]
)
def test_the_gpu_here_is_asked(gpu_machine, says, capability):
    gpu_machine(capability=says)
    assert capability_here() == capability


def test_commands_survive_the_shell():
    build = build_command("/work", "fp32", "8.9", profile_of(sums), CONTAINER)
    command = in_container(build, Path("/a folder/x"), CONTAINER)
    assert shlex.split(shown(command).replace("\\\n", "")) == command
    assert "--noTF32" in command
    assert "--noTF32" not in build_command("/work", "fp16", "8.9", profile_of(sums), CONTAINER)


@pytest.mark.parametrize("release", RELEASES.values(), ids=RELEASES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_release_builds_strongly_typed_networks_in_its_own_words(release, precision):
    """TensorRT 11 has no other networks; trtexec's flags for precision are gone there."""
    build = build_command("/work", precision, "8.9", profile_of(sums), release)
    words = {word.partition("=")[0] for word in in_container(build, Path("/x"), release)}
    assert release.tensorrt_image in words
    assert ("--stronglyTyped" in words) == release.tensorrt.startswith("10.")
    assert not words & {"--fp16", "--bf16", "--int8", "--fp8", "--int4", "--best", "--calib"}


def test_outputs_of_trtexec_are_read():
    text = '[\n  { "name" : "y"\n  , "dimensions" : "2x2"\n  , "values" : [ 1, -2.5e-07, nan, -inf ]\n  }\n]'
    np.testing.assert_array_equal(read_outputs(text)["y"], [[1, -2.5e-07], [np.nan, -np.inf]])


# Configurations

catalogue = pytest.mark.parametrize("spec", [*CATALOGUE.values(), *SPECS.values()], ids=[*CATALOGUE, *SPECS])


def config_of(spec):
    config = default_policy(spec)
    contract = derive_contract(spec, "random")
    config.MergeFrom(contract)
    return config, contract


@catalogue
def test_the_plan_has_the_same_contract_and_policy(spec):
    config, contract = config_of(spec)
    planned = with_plan(with_plan(plan_config(config, contract), "7.5"), "8.9")
    read = parse_config(config_text(planned, None, Path("tensorrt.pbtxt"), CONTAINER), "text")
    assert read == planned
    assert dict(read.cc_model_filenames) == {"7.5": "model_cc7.5.plan", "8.9": "model_cc8.9.plan"}
    assert not read.default_model_filename  # no other GPU's engine by mistake
    assert (read.backend, read.instance_group[0].kind) == ("tensorrt", ModelInstanceGroup.KIND_GPU)
    assert sum(group.count for group in read.instance_group) == sum(g.count for g in config.instance_group)
    assert set(read.parameters) == set(contract.parameters)
    assert (read.dynamic_batching, read.sequence_batching) == (
        config.dynamic_batching,
        config.sequence_batching,
    )
    kept = contract_of(read, contract.parameters)
    kept.backend = contract.backend
    assert kept == contract
    assert_sizes_fit(read, spec)


@catalogue
def test_the_accelerator_is_configured_whole(spec):
    config, contract = config_of(spec)
    accelerated = accelerator_config(config, contract, profile_of(spec), "fp16", "graph.onnx")
    read = parse_config(config_text(accelerated, None, Path("tensorrt_accelerator.pbtxt"), CONTAINER), "text")
    (accelerator,) = read.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    assert set(accelerator.parameters) <= ACCELERATOR_KEYS
    for key in ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes"):
        named = {part.split(":")[0] for part in accelerator.parameters[key].split(",")}
        assert named == {tensor.name for tensor in spec.graph_inputs}
    assert "precision_mode" not in accelerator.parameters  # types are the graph's
    assert read.default_model_filename == "graph.onnx"
    assert contract_of(read, contract.parameters) == contract
    assert_sizes_fit(read, spec)


def assert_sizes_fit(config: ModelConfig, spec: ModelSpec):
    """What Triton will send lies within what TensorRT is built for."""
    profile = profile_of(spec)
    for tensor in spec.graph_inputs:
        assert profile.largest[tensor.name][0] == config.max_batch_size
    for warmup in config.model_warmup:
        for name, value in warmup.inputs.items():
            dims = (warmup.batch_size, *value.dims)
            bounds = zip(profile.smallest[name], dims, profile.largest[name], strict=True)
            assert all(low <= dim <= high for low, dim, high in bounds)


def test_what_people_change_stays():
    config, contract = config_of(columns)
    first = accelerator_config(config, contract, profile_of(columns), "fp32", "graph.onnx")
    accelerator = first.optimization.execution_accelerators.gpu_execution_accelerator[0]
    accelerator.parameters["trt_engine_cache_path"] = "/mine"
    accelerator.parameters["precision_mode"] = "FP16"  # as older exports wrote
    first.dynamic_batching.max_queue_delay_microseconds = 77
    second = accelerator_config(first, contract, profile_of(columns, (8, 16, 32)), "fp16", "graph.onnx")
    parameters = second.optimization.execution_accelerators.gpu_execution_accelerator[0].parameters
    assert parameters["trt_engine_cache_path"] == "/mine"
    assert parameters["trt_profile_max_shapes"] == "line:4x8x32"
    assert "precision_mode" not in parameters
    assert second.dynamic_batching.max_queue_delay_microseconds == 77
