"""TensorRT as far as it can be tested without a GPU: graphs, profiles, commands, configurations.

The way from a published graph to a published plan has stand-ins for what a GPU machine has
(tests/stand_ins.py).
"""

import json
import shlex
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import tritonclient.grpc as grpc
from onnx import TensorProto, helper
from torch import nn
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from export import ModelSpec, State, Tensor, release
from export.catalogue import CATALOGUE
from export.cli import main
from export.contract import contract_of, derive_contract, parse_config
from export.errors import ExportError, PlanError, VerificationError
from export.pipeline import export_model
from export.plans.building import find_builder, read_outputs
from export.plans.commands import build_command, in_container, shown
from export.plans.configs import ACCELERATOR_KEYS, accelerator_config, config_text, plan_config, with_plan
from export.plans.devices import DEVICES, capability_here, capability_of
from export.plans.pipeline import ACCELERATOR_NAME, Request, accelerate, build_plan
from export.plans.preparation import prepare, tolerance_of
from export.plans.profiles import profile_of
from export.plans.python_package import PythonBuilder
from export.policy import default_policy
from server import TritonServer
from tests.graphs import infer
from tests.stand_ins import install


class Columns(nn.Module):
    """Line UINT8 [batch, 8, w] -> FP32 [batch, w, 4]; transposes UINT8, which TensorRT cannot."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(8, 4)

    def forward(self, line):
        return self.mix(line.transpose(1, 2).to(torch.float32) / 25)


class Sums(nn.Module):
    """What was sent so far, mixed: FP32 [batch, 3], the state alike."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(3, 3)

    def forward(self, x, total):
        total = total + x
        return self.mix(total), total


def as_it_is(network):
    return network


columns = ModelSpec(
    name="columns",
    network=Columns,
    served=as_it_is,
    inputs=(Tensor("line", "uint8", (8, -1)),),
    outputs=(Tensor("scores", "float32", (-1, 4)),),
    max_batch_size=4,
    tolerance=1e-4,
)
sums = ModelSpec(
    name="sums",
    network=Sums,
    served=as_it_is,
    inputs=(Tensor("x", "float32", (3,)),),
    outputs=(Tensor("mixed", "float32", (3,)),),
    states=(State("total_in", "total_out", "float32", (3,)),),
    max_batch_size=4,
    tolerance=1e-4,
)
SPECS = {spec.name: spec for spec in (columns, sums)}
both = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    repository = tmp_path_factory.mktemp("published")
    for spec in SPECS.values():
        export_model(spec, repository, random_weights=True)
    return repository


@pytest.fixture
def repository(published, tmp_path, monkeypatch):
    """A copy of the exported models, and a cache of its own."""
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path / "a cache"))
    subprocess.run(["cp", "-r", published, tmp_path / "models"], check=True)
    return tmp_path / "models"


@pytest.fixture
def gpu_machine(tmp_path, monkeypatch):
    def become(**stand_ins):
        monkeypatch.setenv("PATH", install(tmp_path / "bin", **stand_ins))

    return become


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def graph_of(repository: Path, spec: ModelSpec) -> onnx.ModelProto:
    return onnx.load(repository / spec.name / "1" / "model.onnx")


# Graphs


def test_uint8_is_cast_at_the_edge_and_answers_stay_the_same(published):
    model = graph_of(published, columns)
    assert model.graph.node[0].op_type == "Transpose"
    prepared = prepare(model, "fp32")
    takers = [node.op_type for node in prepared.graph.node if "line" in node.input]
    assert takers == ["Cast"]
    onnx.checker.check_model(prepared, full_check=True)
    feed = {"line": np.arange(8 * 5, dtype=np.uint8).reshape(1, 8, 5)}
    before, after = (
        onnxruntime.InferenceSession(graph.SerializeToString()).run(None, feed)[0]
        for graph in (model, prepared)
    )
    np.testing.assert_array_equal(before, after)


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


@pytest.mark.parametrize("device", [*DEVICES, "7.5", "8.9", "L4"])
def test_devices_have_a_compute_capability(device):
    assert capability_of(device)


@pytest.mark.parametrize(
    ("device", "message"),
    [("v100", "no device profile 'v100'"), ("7.0", "builds for 7.5 to 9.0"), ("12.0", "builds for 7.5 to")],
)
def test_other_devices_are_refused(device, message):
    with pytest.raises(PlanError, match=message):
        capability_of(device)


@pytest.mark.parametrize(
    ("says", "capability"), [("8.9", "8.9"), ("'7.5\n7.5'", "7.5"), ("'[N/A]'", None), (None, None)]
)
def test_the_gpu_here_is_asked(gpu_machine, says, capability):
    gpu_machine(capability=says)
    assert capability_here() == capability


def test_commands_survive_the_shell():
    command = in_container(build_command("/work", "fp32", "8.9", profile_of(sums)), Path("/a folder/x"))
    assert shlex.split(shown(command).replace("\\\n", "")) == command
    assert release.TENSORRT_IMAGE in command
    assert "--noTF32" in command
    assert "--noTF32" not in build_command("/work", "fp16", "8.9", profile_of(sums))


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
    read = parse_config(config_text(planned, None, Path("tensorrt.pbtxt")), "text")
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
    read = parse_config(config_text(accelerated, None, Path("tensorrt_accelerator.pbtxt")), "text")
    (accelerator,) = read.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    assert set(accelerator.parameters) <= ACCELERATOR_KEYS
    for key in ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes"):
        named = {part.split(":")[0] for part in accelerator.parameters[key].split(",")}
        assert named == {tensor.name for tensor in spec.graph_inputs}
    assert accelerator.parameters["precision_mode"] == "FP16"
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
    first.dynamic_batching.max_queue_delay_microseconds = 77
    second = accelerator_config(first, contract, profile_of(columns, (8, 16, 32)), "fp16", "graph.onnx")
    parameters = second.optimization.execution_accelerators.gpu_execution_accelerator[0].parameters
    assert parameters["trt_engine_cache_path"] == "/mine"
    assert (parameters["precision_mode"], parameters["trt_profile_max_shapes"]) == ("FP16", "line:4x8x32")
    assert second.dynamic_batching.max_queue_delay_microseconds == 77


# From a published graph to a plan


@both
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_dry_run_writes_outside_and_prints_what_makes_the_plan(repository, gpu_machine, spec, precision):
    before = contents(repository)
    report = build_plan(spec, repository, Request(precision, device="t4", dry_run=True))
    assert contents(repository) == before
    assert report.outcome == "dry run"
    gpu_machine(capability="7.5")
    for command in report.commands[:-1]:  # the last one serves
        subprocess.run(command, shell=True, check=True)
    changed = set(contents(repository)) - set(before)
    assert changed == {f"{spec.name}/1/model_cc7.5.plan", f"{spec.name}/configs/tensorrt.pbtxt"}
    serve = shlex.split(report.commands[-1].replace("\\\n", ""))
    assert {release.IMAGE, "--model-config-name=tensorrt", f"--load-model={spec.name}"} <= set(serve)


@both
def test_a_plan_is_built_verified_and_published(repository, gpu_machine, spec):
    gpu_machine(capability="8.9")
    before = contents(repository)
    report = build_plan(spec, repository, Request("fp16"))
    assert (report.outcome, report.compute_capability) == ("published", "8.9")
    assert report.differences["plan"] < tolerance_of(spec, "fp16")
    after = contents(repository)
    assert after[f"{spec.name}/1/model_cc8.9.plan"]
    assert {name: after[name] for name in before} == before
    assert cc_of(after[f"{spec.name}/configs/tensorrt.pbtxt"]) == ["8.9"]
    other = build_plan(spec, repository, Request("fp16", device="t4", dry_run=True))
    assert cc_of(Path(other.config).read_bytes()) == ["7.5", "8.9"]


def cc_of(config: bytes) -> list[str]:
    return sorted(parse_config(config.decode(), "text").cc_model_filenames)


def test_a_plan_that_answers_otherwise_is_not_published(repository, gpu_machine):
    gpu_machine(error=0.5)
    before = contents(repository)
    with pytest.raises(VerificationError, match=r"differs from PyTorch by 0\.5"):
        build_plan(columns, repository, Request("fp16"))
    assert contents(repository) == before


def test_a_build_that_fails_shows_the_command_and_what_it_said(repository, gpu_machine):
    gpu_machine(exit_code=3)
    with pytest.raises(PlanError, match=r"(?s)this ended with 3:\ndocker run.*Could not build"):
        build_plan(columns, repository, Request("fp32"))


def test_without_a_gpu_it_says_what_to_run_instead(repository):
    with pytest.raises(PlanError, match=r"--dry-run.*--accelerator tensorrt"):
        build_plan(columns, repository, Request("fp16"))


def test_a_plan_for_another_gpu_is_not_built_here(repository, gpu_machine):
    gpu_machine(capability="8.9")
    with pytest.raises(PlanError, match=r"has compute capability 8\.9, not 7\.5"):
        build_plan(columns, repository, Request("fp16", device="t4"))


def test_without_docker_and_package_both_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlanError, match=f"neither docker here.*tensorrt-cu12=={release.TENSORRT}"):
        find_builder()


def test_another_tensorrt_builds_nothing_that_the_release_would_not_load(monkeypatch):
    monkeypatch.setattr("export.plans.python_package.installed_version", lambda: "11.4.0.106")
    with pytest.raises(PlanError, match=r"tensorrt 11\.4\.0\.106 is installed, but Triton .* loads plans of"):
        find_builder()


class TensorRT(types.ModuleType):
    """What `PythonBuilder` uses of TensorRT's package, by the names of its 10.5 bindings."""

    NetworkDefinitionCreationFlag = types.SimpleNamespace(STRONGLY_TYPED=1)
    BuilderFlag = types.SimpleNamespace(TF32="TF32")

    def __init__(self, errors=()):
        super().__init__("tensorrt")
        self.told, self.errors, self.num_errors = {}, errors, len(errors)
        self.Logger = type("Logger", (), {"WARNING": 2, "__init__": lambda *_: None})
        self.Builder = lambda logger: self
        self.OnnxParser = lambda network, logger: self

    def create_network(self, flags):
        self.told["flags"] = flags

    def parse(self, graph):
        self.told["graph"] = graph
        return not self.errors

    def get_error(self, index):
        return self.errors[index]

    def create_builder_config(self):
        return self

    create_optimization_profile = create_builder_config

    def clear_flag(self, flag):
        self.told["cleared"] = flag

    def set_shape(self, name, *shapes):
        self.told[name] = shapes

    def add_optimization_profile(self, profile):
        self.told["profiles"] = self.told.get("profiles", 0) + 1

    def create_timing_cache(self, data):
        self.told["cache"] = data
        return "cache"

    def set_timing_cache(self, cache, ignore_mismatch):
        assert (cache, ignore_mismatch) == ("cache", False)

    def build_serialized_network(self, network, config):
        return b"plan"

    def get_timing_cache(self):
        return types.SimpleNamespace(serialize=lambda: b"timings")


def test_the_python_package_is_asked_for_the_same(monkeypatch, tmp_path):
    trt = TensorRT()
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    (tmp_path / "model.onnx").write_bytes(b"graph")
    for kept in (b"", b"timings"):
        PythonBuilder().build(tmp_path, "fp32", "8.9", profile_of(sums))
        assert trt.told["cache"] == kept
    assert (tmp_path / "model_cc8.9.plan").read_bytes() == b"plan"
    assert (trt.told["flags"], trt.told["graph"], trt.told["cleared"]) == (2, b"graph", "TF32")
    assert trt.told["total_in"] == ((1, 3), (4, 3), (4, 3))
    monkeypatch.setitem(sys.modules, "tensorrt", TensorRT(errors=["no GRU", "no Scan"]))
    with pytest.raises(PlanError, match=r"(?s)does not take .*no GRU\n  no Scan"):
        PythonBuilder().build(tmp_path, "fp32", "8.9", profile_of(sums))


def test_other_weights_than_the_graphs_are_refused(repository, tmp_path):
    checkpoint = tmp_path / "other.pth"
    torch.save(Columns().state_dict(), checkpoint)
    with pytest.raises(PlanError, match="was made with weights 'random'"):
        build_plan(columns, repository, Request("fp32", dry_run=True, checkpoint=checkpoint))


def test_nothing_exported_is_said(tmp_path):
    with pytest.raises(ExportError, match="run `python -m export columns` first"):
        build_plan(columns, tmp_path, Request("fp32", dry_run=True))


def test_the_accelerator_needs_no_gpu_and_leaves_the_served_configuration(repository):
    before = contents(repository)
    report = accelerate(columns, repository, Request("fp16"))
    assert report.outcome == "published"
    after = contents(repository)
    assert set(after) - set(before) == {
        "columns/1/model_tensorrt_fp16.onnx",
        "columns/configs/tensorrt_accelerator.pbtxt",
    }
    assert {name: after[name] for name in before} == before
    dry = accelerate(columns, repository, Request("fp16", dry_run=True))
    assert contents(repository) == after
    for command in dry.commands[:-1]:
        subprocess.run(command, shell=True, check=True)
    assert contents(repository) == after  # the dry run's commands do what the command does
    with pytest.raises(PlanError, match="has fp32 and fp16, not int8"):
        accelerate(columns, repository, Request("int8"))


def test_the_accelerators_configuration_is_served_here_without_tensorrt(repository):
    """tritonserver reads it from `configs`, and everything else as before: other models keep their own."""
    accelerate(columns, repository, Request("fp16"))
    line = np.random.default_rng(0).integers(0, 255, (2, 8, 12), np.uint8, endpoint=True)
    with TritonServer(repository, arguments=[f"--model-config-name={ACCELERATOR_NAME}"]) as server:
        assert all(model.ready for model in server.models())
        with grpc.InferenceServerClient(server.grpc_url) as client:
            config = client.get_model_config("columns").config
            assert config.default_model_filename == "model_tensorrt_fp16.onnx"
            assert not client.get_model_config("sums").config.default_model_filename.endswith("fp16.onnx")
            scores = infer(client, "columns", line=line).as_numpy("scores")
    session = onnxruntime.InferenceSession(graph_of(repository, columns).SerializeToString())
    expected = session.run(None, {"line": line})[0]
    assert scores.dtype == expected.dtype
    difference = np.abs(scores - expected).max()
    assert 0 < difference < tolerance_of(columns, "fp16")  # it is the fp16 graph


# The command


def test_the_command_prints_what_a_shell_can_run(repository, gpu_machine, capsys, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "columns", columns)
    arguments = ["columns", "--tensorrt", "--precision", "fp16", "--dry-run", "--device-profile", "t4"]
    assert main([*arguments, "--model-repository", str(repository)]) == 0
    script = capsys.readouterr().out
    gpu_machine(capability="7.5")
    building = script[: script.rindex("docker run")]
    subprocess.run(["sh", "-e", "-c", building], check=True)
    assert (repository / "columns" / "1" / "model_cc7.5.plan").is_file()


def test_the_command_says_what_to_run_without_a_gpu(repository, capsys, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "columns", columns)
    assert main(["columns", "--tensorrt", "--model-repository", str(repository)]) == 1
    assert "columns was not published: a plan is built on the GPU" in capsys.readouterr().err


def test_the_command_reports_json(repository, capsys, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "columns", columns)
    main(["columns", "--accelerator", "tensorrt", "--json", "--model-repository", str(repository)])
    (report,) = json.loads(capsys.readouterr().out)
    assert (report["name"], report["outcome"]) == ("columns", "published")
    assert Path(report["config"]).is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tensorrt"],
        ["mobilenet_v2", "--dry-run"],
        ["mobilenet_v2", "--precision", "fp16"],
        ["mobilenet_v2", "--tensorrt", "--accelerator", "tensorrt"],
        ["mobilenet_v2", "--accelerator", "tensorrt", "--device-profile", "t4"],
        ["mobilenet_v2", "--tensorrt", "--variable-sizes", "8,16"],
        ["mobilenet_v2", "--tensorrt", "--check"],
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(arguments):
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
