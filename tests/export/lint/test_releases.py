"""One repository is linted for every release of the lock: what only some refuse is told with their names."""

import json
import shlex

import onnx
import pytest
from onnx import TensorProto, helper

from export.cli.commands import run
from export.common.release import RELEASES
from export.lint import lint
from export.lint.releases.probe import with_value
from tests.conftest import ROOT
from tests.lint_corpus.onnx_graphs import FLOAT
from tests.lint_corpus.parts import write

NAMES = list(RELEASES)
HISTOGRAM = """\
backend: "onnxruntime"
max_batch_size: 8
dynamic_batching { }
model_metrics { metric_control {
  metric_identifier { family: "nv_inference_first_response_histogram_ms" }
  histogram_options { buckets: [ 1, 2, 4 ] }
} }
"""
INFLIGHT = """\
platform: "ensemble"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: 4 }
output { name: "y" data_type: TYPE_FP32 dims: 4 }
ensemble_scheduling {
  max_inflight_requests: 16
  step { model_name: "m" model_version: -1
    input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } }
}
"""
ACCELERATED = """\
backend: "onnxruntime"
max_batch_size: 8
dynamic_batching { }
optimization { execution_accelerators { gpu_execution_accelerator {
  name: "tensorrt" parameters { key: "precision_mode" value: "%s" } } } }
"""


def plain(opset=17, ir_version=8, kind=FLOAT):
    values = [helper.make_tensor_value_info(name, kind, ["N", 4]) for name in "xy"]
    made = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:])
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version
    ).SerializeToString()


def quantised(**values):
    graph = with_value("MatMulNBits", **values).SerializeToString()
    return {"m/config.pbtxt": 'backend: "onnxruntime"', "m/1/model.onnx": graph}


def wrong(opset, ir_version):
    """A product of matrices that do not fit."""
    model = onnx.load_from_string(plain(opset, ir_version))
    model.graph.node[0].CopyFrom(helper.make_node("MatMul", ["x", "w"], ["y"]))
    model.graph.initializer.append(helper.make_tensor("w", FLOAT, [3, 5], [0.0] * 15))
    return model.SerializeToString()


BATCHED = 'backend: "onnxruntime"\nmax_batch_size: 8\ndynamic_batching { }\n'
CASES = {  # the rule, and the releases that have the fault
    "a histogram": ({"m/config.pbtxt": HISTOGRAM, "m/1/model.onnx": plain()}, "TV101", ["24.10"]),
    "a histogram without buckets": (
        {"m/config.pbtxt": HISTOGRAM.replace("1, 2, 4", ""), "m/1/model.onnx": plain()},
        "TV101",
        NAMES,
    ),
    "buckets that do not rise": (
        {"m/config.pbtxt": HISTOGRAM.replace("1, 2, 4", "1, 4, 2"), "m/1/model.onnx": plain()},
        "TV708",
        ["25.10", "26.08"],
    ),
    "a bucket twice": (
        {"m/config.pbtxt": HISTOGRAM.replace("1, 2, 4", "1, 2, 2"), "m/1/model.onnx": plain()},
        "TV708",
        ["25.10", "26.08"],
    ),
    "a bucket below zero": (
        {"m/config.pbtxt": HISTOGRAM.replace("1, 2, 4", "-1, 2"), "m/1/model.onnx": plain()},
        "TV708",
        ["25.10", "26.08"],
    ),
    "a bucket that is no number": (
        {"m/config.pbtxt": HISTOGRAM.replace("1, 2, 4", "1, inf"), "m/1/model.onnx": plain()},
        "TV708",
        ["25.10", "26.08"],
    ),
    "a metric that is no histogram": (
        {
            "m/config.pbtxt": HISTOGRAM.replace("first_response_histogram_ms", "count"),
            "m/1/model.onnx": plain(),
        },
        "TV708",
        ["25.10", "26.08"],
    ),
    "weights of 8 bits": (
        quantised(bits=8),
        "TV215",
        ["24.10"],
    ),
    "weights of 2 bits": (
        quantised(bits=2),
        "TV215",
        ["24.10", "25.10"],
    ),
    "weights of 3 bits": (
        quantised(bits=3),
        "TV215",
        NAMES,
    ),
    "blocks of 8": (
        quantised(block_size=8),
        "TV215",
        ["25.10", "26.08"],
    ),
    "blocks of 512": (
        quantised(block_size=512),
        "TV215",
        ["26.08"],
    ),
    "a graph that is wrong, and too new for one": (
        {"m/config.pbtxt": BATCHED, "m/1/model.onnx": wrong(23, 10)},
        "TV216",
        ["25.10", "26.08"],
    ),
    "a graph that is wrong, with an IR version for the newest": (
        {"m/config.pbtxt": BATCHED, "m/1/model.onnx": wrong(17, 12)},
        "TV216",
        ["26.08"],
    ),
    "a graph that is wrong everywhere": (
        {"m/config.pbtxt": BATCHED, "m/1/model.onnx": wrong(17, 8)},
        "TV216",
        NAMES,
    ),
    "requests in flight of an ensemble": (
        {"e/config.pbtxt": INFLIGHT, "e/1/.keep": "", "m/config.pbtxt": BATCHED, "m/1/model.onnx": plain()},
        "TV101",
        ["24.10", "25.10"],
    ),
    "an opset": ({"m/config.pbtxt": BATCHED, "m/1/model.onnx": plain(23, 10)}, "TV210", ["24.10"]),
    "an opset of the newest only": (
        {"m/config.pbtxt": BATCHED, "m/1/model.onnx": plain(26, 10)},
        "TV210",
        ["24.10", "25.10"],
    ),
    "an IR version": (
        {"m/config.pbtxt": BATCHED, "m/1/model.onnx": plain(17, 12)},
        "TV211",
        ["24.10", "25.10"],
    ),
    "tensors of BF16": (
        {"m/config.pbtxt": BATCHED, "m/1/model.onnx": plain(kind=TensorProto.BFLOAT16)},
        "TV212",
        ["24.10", "25.10"],
    ),
    "a precision of TensorRT 10": (
        {"m/config.pbtxt": ACCELERATED % "FP16", "m/1/model.onnx": plain()},
        "TV707",
        ["26.08"],
    ),
    "a precision of later backends": (
        {"m/config.pbtxt": ACCELERATED % "BF16", "m/1/model.onnx": plain()},
        "TV702",
        ["24.10", "25.10"],
    ),
    "an entry of later backends": (
        {
            "m/config.pbtxt": BATCHED + 'parameters { key: "session.use_device_allocator_for_initializers" '
            'value { string_value: "1" } }',
            "m/1/model.onnx": plain(),
        },
        "TV706",
        ["24.10"],
    ),
    "lost instances": (
        {
            "m/config.pbtxt": BATCHED.replace(
                "{ }",
                "{ max_queue_delay_microseconds: 100 default_queue_policy { max_queue_size: 8 } }",
            ),
            "m/1/model.onnx": plain(),
        },
        "TV314",
        ["24.10", "25.10"],
    ),
    "TensorFlow": (
        {"m/config.pbtxt": 'platform: "tensorflow_savedmodel"', "m/1/model.savedmodel/saved_model.pb": "x"},
        "TV119",
        ["25.10", "26.08"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_fault_is_told_for_the_releases_that_have_it_and_for_no_other(name, tmp_path):
    files, code, faulty = CASES[name]
    repository = write(tmp_path, files)
    told = [finding for finding in lint(repository) if finding.code == code]
    assert sorted({release for finding in told for release in finding.releases or NAMES}) == faulty
    for each, release in RELEASES.items():
        alone = {finding.code for finding in lint(repository, releases=[release])}
        assert (code in alone) == (each in faulty), each


@pytest.mark.parametrize("opset", [21, 23, 26])
def test_each_release_tells_the_highest_that_it_takes(tmp_path, opset):
    files = {"m/config.pbtxt": BATCHED, "m/1/model.onnx": plain(opset + 1, 10)}
    told = [finding.message for finding in lint(write(tmp_path, files)) if finding.code == "TV210"]
    for release in RELEASES.values():
        limit = f"{release.onnxruntime} of release {release.name} takes at most {release.max_opset}"
        assert any(limit in message for message in told) == (opset >= release.max_opset), told


def test_our_repository_is_clean_for_each_release():
    for release in RELEASES.values():
        findings = lint(ROOT / "model_repository", releases=[release])
        assert not [finding for finding in findings if finding.severity != "note"], release.name


def test_the_command_takes_releases_and_refuses_unknown_ones(tmp_path, capsys):
    repository = str(write(tmp_path, CASES["a histogram"][0]))
    assert run(["lint", repository, "--release", "26.08"]) == 0
    assert run(["lint", repository, "--release", "24.10,26.08", "--json", "--ignore", "TV316"]) == 1
    output = capsys.readouterr().out
    (finding,) = json.loads(output[output.index("[") :])
    assert finding["releases"] == ["24.10"]
    assert "model_metrics" in finding["message"]
    assert run(["lint", repository, "--release", "24.09"]) == 2
    assert "it has 24.10" in capsys.readouterr().err
    assert run(["lint", repository, "--release", " 26.08 , 25.10 "]) == 0


@pytest.mark.parametrize("names", ["", " ", ",", "24.10,,26.08", "26.08,"])
def test_an_empty_name_of_a_release_is_told(names, tmp_path, capsys):
    repository = str(write(tmp_path, CASES["a histogram"][0]))
    assert run(["lint", repository, "--release", names]) == 2
    said = capsys.readouterr().err
    assert f"--release {shlex.quote(names)} has an empty name" in said
    assert NAMES[0] in said
