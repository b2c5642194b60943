"""Faults of folders, versions, files and backends."""

import os

from onnx import TensorProto

from tests.lint_corpus.faults import Fault, collect
from tests.lint_corpus.onnx_graphs import FLOAT, graph
from tests.lint_corpus.parts import (
    CONFIG,
    DECODE_CONFIG,
    DETECTION,
    DETECTION_CONFIG,
    DETECTOR_CONFIG,
    ENSEMBLE_CONFIG,
    GRAPH,
    LFS_POINTER,
    PLAN_CONFIG,
    PLAN_OF_10_5,
    SWITCHED,
    Files,
    X,
    Y,
    edited,
    ensemble,
    model,
    partial,
    plan,
    python,
    without,
)
from tests.lint_corpus.python_sources import CALLING_PY, MODEL_PY, READING_PY

FAULTS: list[Fault] = []


def without_file(files: Files) -> Files:
    """The config alone."""
    return {name: content for name, content in files.items() if name.endswith(".pbtxt")}


fault = collect(FAULTS)

fault("TV101", "an unknown field", model(CONFIG + "instance_groups { kind: KIND_CPU }\n"), line=17)
fault("TV101", "a type that is not one", model(edited(CONFIG, "TYPE_FP32", "TYPE_FLOAT32")), line=7)
fault("TV101", "a brace that is missing", model(CONFIG + "instance_group {\n"))
fault("TV101", "a value in quotes", model(edited(CONFIG, "size: 8", 'size: "8"')), line=3)
fault("TV101", "JSON", model('{"name": "m"}'), line=1)
fault("TV101", "a byte order mark", model("\ufeff" + CONFIG), line=1)
fault("TV101", "a byte order mark before a comment", model("\ufeff# m\n" + CONFIG), line=1)
fault(
    "TV101",
    "a tag that is not UTF-8",
    model(CONFIG.encode() + b'metric_tags { key: "\xe9" value: "x" }\n'),
    line=17,
)
fault(
    "TV101",
    "a text that is not UTF-8, below a comment that is not",
    model(b"# caf\xe9\n" + CONFIG.encode() + b'parameters { key: "k" value { string_value: "caf\xe9" } }\n'),
    line=18,
)
fault("TV101", "a name that is not UTF-8", model(CONFIG.encode() + b"\xe9 { }\n"), line=17)
fault("TV101", "two byte order marks", model("\ufeff\ufeff" + CONFIG), line=1)
fault(
    "TV101", "a byte order mark further down", model(CONFIG + "\ufeffversion_policy { all { } }\n"), line=17
)
NEWER_METRICS = """\
model_metrics <
  metric_control: [
    { metric_identifier: { family: "nv_inference_first_response_histogram_ms" }
      histogram_options { buckets: [ 1, 2 ] } }
  ]
>
"""
fault("TV101", "a field of a later release", model(CONFIG + NEWER_METRICS), line=17)
fault("TV101", "an empty field of a later release", model(CONFIG + "model_metrics { }\n"), line=17)
NEWER_STEPS = edited(
    ENSEMBLE_CONFIG, "ensemble_scheduling {", "ensemble_scheduling {\n max_inflight_requests: {}"
)
fault("TV101", "a limit of a later release", ensemble(NEWER_STEPS.replace("{}", "4", 1)), line=7)
fault("TV101", "no limit of a later release", ensemble(NEWER_STEPS.replace("{}", "0", 1)), line=7)
fault("TV101", "a template", model(edited(CONFIG, "size: 8", "size: ${max_batch_size}")), line=3)
fault("TV101", "a template's dims", model(edited(CONFIG, "[ 10 ]", "[ {{ classes }} ]")), line=14)
fault("TV101", "a template's section", model(CONFIG + "$instance_group\n"), line=17)
fault("TV101", "UTF-16", model(CONFIG.encode("utf-16")), line=1)
fault("TV101", "UTF-16 without a mark", model(CONFIG.encode("utf-16-le")), line=1)
fault("TV101", "UTF-32", model(CONFIG.encode("utf-32")), line=1)
fault("TV101", "a list with a comma too many", model(edited(CONFIG, "[ 3, -1 ]", "[ 3, -1, ]")), line=8)
fault("TV101", "a field twice", model(CONFIG + "max_batch_size: 4\n"), line=17)
fault("TV101", "broken under configs/", model(**{"m/configs/gpu.pbtxt": "nme: 'm'"}), line=1)
fault("TV102", "another name than the folder", model(edited(CONFIG, '"m"', '"model"')), line=1)
fault("TV102", "another case", model(edited(CONFIG, '"m"', '"M"')))
fault("TV103", "in the version folder", {"m/1/config.pbtxt": CONFIG, "m/1/model.onnx": GRAPH})
fault("TV103", "in both", model(**{"m/1/config.pbtxt": CONFIG}), severity="warning")
fault("TV103", "misnamed", {"m/config.pbtx": CONFIG, "m/1/model.onnx": GRAPH})
fault("TV103", "with a suffix", {"m/config.pbtxt.txt": CONFIG, "m/1/model.onnx": GRAPH})
fault("TV103", "a model instead of a repository", {"config.pbtxt": CONFIG, "1/model.onnx": GRAPH})
fault("TV104", "a v before the number", {"m/config.pbtxt": CONFIG, "m/v1/model.onnx": GRAPH})
fault("TV104", "leading zeros", {"m/config.pbtxt": CONFIG, "m/01/model.onnx": GRAPH})
fault("TV104", "a further one with zeros", model(**{"m/002/model.onnx": GRAPH}), severity="warning")
fault("TV104", "a number that ends the server", model(**{"m/20240131123456789012/model.onnx": GRAPH}))
fault("TV104", "beside one that is none", model(**{"m/99999999999999999999_old/model.onnx": GRAPH}))
fault("TV104", "a date", model(**{"m/2024-01-31/model.onnx": GRAPH}))
fault("TV104", "an old version", model(**{"m/2_old/model.onnx": GRAPH}))
fault("TV104", "the graph beside its config", {"m/config.pbtxt": CONFIG, "m/model.onnx": GRAPH})
fault("TV104", "a config alone", {"m/config.pbtxt": CONFIG})
fault("TV104", "an ensemble without one", {k: v for k, v in ensemble().items() if k != "e/1"})
fault("TV105", "a folder of notebooks", model(**{".ipynb_checkpoints/a.ipynb": "{}"}))
fault("TV105", "a folder of documents", model(**{"docs/readme.md": "# models"}))
fault(
    "TV105", "no backend", model(without(CONFIG, 'backend: "onnxruntime"\n'), None, **{"m/1/net.onnx": GRAPH})
)
fault("TV106", "misnamed", model(onnx_graph=None, **{"m/1/net.onnx": GRAPH}))
fault("TV106", "an empty version", model(onnx_graph=None, **{"m/1": None}))
fault("TV106", "another default file name", model(CONFIG + 'default_model_filename: "net.onnx"\n'), line=17)
fault("TV106", "the file of another backend", {"m/config.pbtxt": PLAN_CONFIG, "m/1/model.onnx": GRAPH})
fault("TV106", "the newest of two", model(**{"m/2": None}))
fault(
    "TV106",
    "a Python model under another name",
    {"decode/config.pbtxt": DECODE_CONFIG, "decode/1/decode.py": MODEL_PY},
)
fault(
    "TV106",
    "one compute capability",
    plan(PLAN_CONFIG + 'cc_model_filenames { key: "7.5" value: "t4.plan" }\n'),
)
fault(
    "TV106",
    "an archive of PyTorch",
    {"m/config.pbtxt": edited(CONFIG, "onnxruntime", "pytorch"), "m/1/model.pth": "x"},
)
fault(
    "TV106",
    "a pipeline of DALI under another name",
    {**without_file(partial("dali")), "p/1/pipeline.dali": "x"},
)
fault("TV106", "no pipeline of DALI", {**without_file(partial("dali")), "p/1": None})
fault(
    "TV106",
    "the named pipeline of DALI, beside the usual one",
    {
        **partial("dali"),
        "p/config.pbtxt": f'{partial("dali")["p/config.pbtxt"]}default_model_filename: "a.dali"\n',
    },
    line=5,
)
fault("TV106", "no engine arguments of vLLM", {"l/config.pbtxt": 'backend: "vllm"\n', "l/1/vllm.json": "{}"})
LABELLED = edited(CONFIG, "dims: [ 10 ]", 'dims: [ 10 ]\n  label_filename: "labels.txt"')
fault("TV107", "no file", model(LABELLED), line=15)
fault("TV107", "in the version folder", model(LABELLED, **{"m/1/labels.txt": "a\n" * 10}))
fault("TV108", "one too many", model(LABELLED, **{"m/labels.txt": "a\n" * 11}), severity="warning")
fault("TV108", "a header", model(LABELLED, **{"m/labels.txt": "label\n" + "a\n" * 10}), severity="warning")
fault("TV109", "contradictory", model(CONFIG + 'platform: "tensorrt_plan"\n'), line=17)
fault("TV109", "a platform as backend", plan(edited(PLAN_CONFIG, '"tensorrt"', '"tensorrt_plan"')))
fault("TV109", "backend onnx", model(edited(CONFIG, '"onnxruntime"', '"onnx"')))
fault("TV109", "a backend as platform", python(edited(DECODE_CONFIG, "backend", "platform")))
fault(
    "TV109",
    "a platform of the past",
    model(edited(CONFIG, 'backend: "onnxruntime"', 'platform: "caffe2_netdef"')),
)
fault("TV109", "a template", model(edited(CONFIG, '"onnxruntime"', '"${triton_backend}"')))
fault(
    "TV110", "no such version", model(CONFIG + "version_policy { specific { versions: [ 3 ] } }\n"), line=17
)
fault(
    "TV110",
    "one of two",
    model(CONFIG + "version_policy { specific { versions: [ 1, 3 ] } }\n"),
    severity="warning",
)
fault("TV110", "the latest 0", model(CONFIG + "version_policy { latest { num_versions: 0 } }\n"))


def external(length: int) -> bytes:
    weight = TensorProto(name="w", data_type=FLOAT, dims=[length // 4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "model.onnx.data"), ("offset", "0"), ("length", str(length))):
        weight.external_data.add(key=key, value=value)
    return graph({"x": X}, {"y": Y}, weights=[weight])


fault("TV111", "no data file", model(onnx_graph=external(400)))
fault("TV111", "a short one", model(onnx_graph=external(400), **{"m/1/model.onnx.data": b"\0" * 100}))
fault("TV112", "a pointer of Git LFS", model(onnx_graph=LFS_POINTER))
RTX_PLAN = bytes.fromhex("76747274000000000200000000000000047508000000000001070174") + bytes(40)
PLAN_OF_8_6 = b"ftrt" + bytes(20) + bytes([8, 6, 1, 6]) + bytes(40)
fault("TV115", "of no release", {"m/config.pbtxt": PLAN_CONFIG, "m/1/model.plan": PLAN_OF_8_6})
fault("TV115", "of TensorRT-RTX", {"m/config.pbtxt": PLAN_CONFIG, "m/1/model.plan": RTX_PLAN})
fault(
    "TV115",
    "of one release",
    {"m/config.pbtxt": PLAN_CONFIG, "m/1/model.plan": PLAN_OF_10_5},
    severity="warning",
)
fault("TV115", "unknown", {"m/config.pbtxt": PLAN_CONFIG, "m/1/model.plan": bytes(99)}, severity="note")
fault("TV115", "an empty file", {"m/config.pbtxt": PLAN_CONFIG, "m/1/model.plan": b""})
fault("TV115", "a short file", {"m/config.pbtxt": PLAN_CONFIG, "m/1/model.plan": PLAN_OF_10_5[:8]})
fault("TV115", "a header cut off", {"m/config.pbtxt": PLAN_CONFIG, "m/1/model.plan": PLAN_OF_10_5[:27]})
fault("TV115", "a folder", {"m/config.pbtxt": PLAN_CONFIG, "m/1/model.plan": None})
fault(
    "TV115",
    "for one kind of GPU",
    {
        "m/config.pbtxt": PLAN_CONFIG + 'cc_model_filenames { key: "7.5" value: "t4.plan" }\n',
        "m/1/t4.plan": PLAN_OF_8_6,
    },
)
fault("TV112", "a plan's pointer", {"m/config.pbtxt": PLAN_CONFIG, "m/1/model.plan": LFS_POINTER})
fault("TV112", "half a graph", model(onnx_graph=GRAPH[: len(GRAPH) // 2]))
fault("TV112", "an empty file", model(onnx_graph=b""))
fault("TV112", "a web page", model(onnx_graph="<!DOCTYPE html><title>404</title>"))
fault("TV113", "a syntax error", python(source="class TritonPythonModel:\n    def execute(self\n"), line=2)
fault(
    "TV113",
    "another class",
    python(source="class Model:\n    def execute(self, requests):\n        return []\n"),
)
fault("TV113", "an empty file", python(source=""))
fault("TV113", "comments alone", python(source="# class TritonPythonModel\n"))
fault(
    "TV113", "the class in a function", python(source="def make():\n    " + edited(MODEL_PY, "\n", "\n    "))
)
WITHOUT = edited(MODEL_PY, "execute", "run")
fault("TV113", "no execute", python(source=WITHOUT), line=1)
fault(
    "TV113",
    "a base of the same file without execute",
    python(
        source=edited(WITHOUT, "TritonPythonModel", "Base") + "class TritonPythonModel(Base):\n    x = 1\n"
    ),
    line=4,
)
fault(
    "TV113", "execute outside the class", python(source=f"{WITHOUT}def execute(requests):\n    return []\n")
)
fault("TV113", "execute without self", python(source=edited(MODEL_PY, "self, ", "")), line=2)
fault("TV113", "execute without requests", python(source=edited(MODEL_PY, ", requests", "")), line=2)
fault(
    "TV113",
    "initialize without args",
    python(source=f"{MODEL_PY}    def initialize(self):\n        pass\n"),
    line=4,
)
fault(
    "TV117",
    "an input of another name",
    python(source=edited(READING_PY, '"bytes"', '"data"')),
    severity="warning",
    line=5,
)
fault(
    "TV117",
    "an output of another name",
    python(source=edited(READING_PY, '"image"', '"picture"')),
    severity="warning",
    line=6,
)
fault(
    "TV117",
    "a model that is not there",
    python(source=edited(CALLING_PY, '"m"', '"n"'), **model()),
    severity="warning",
    line=5,
)
ENVIRONMENT = 'parameters {{ key: "EXECUTION_ENV_PATH" value {{ string_value: "{}" }} }}\n'
fault(
    "TV114",
    "no archive",
    python(DECODE_CONFIG + ENVIRONMENT.format("$$TRITON_MODEL_DIRECTORY/env.tar.gz")),
    line=7,
)
fault(
    "TV114",
    "a relative path",
    python(DECODE_CONFIG + ENVIRONMENT.format("env.tar.gz"), **{"decode/env.tar.gz": b"x"}),
)
fault("TV114", "text in front", python(DECODE_CONFIG + ENVIRONMENT.format("/x$$TRITON_MODEL_DIRECTORY/env")))
fault(
    "TV114",
    "an archive that is none",
    python(
        DECODE_CONFIG + ENVIRONMENT.format("$$TRITON_MODEL_DIRECTORY/env.tar.gz"),
        **{"decode/env.tar.gz": "x"},
    ),
)
fault(
    "TV114",
    "a folder without activate",
    python(DECODE_CONFIG + ENVIRONMENT.format("$$TRITON_MODEL_DIRECTORY/env"), **{"decode/env/bin/x": ""}),
)
fault(
    "TV114",
    "a folder of another model",
    python(
        DECODE_CONFIG + ENVIRONMENT.format("$$TRITON_MODEL_DIRECTORY/../m/env"),
        **model(**{"m/env/bin/activate": ""}),
    ),
    severity="warning",
)
fault(
    "TV114",
    "a path of one machine",
    python(DECODE_CONFIG + ENVIRONMENT.format("/opt/envs/env.tar.gz")),
    severity="warning",
)
PIPELINE, ON_A_CPU = "pipeline/config.pbtxt", "pipeline/configs/cpu.pbtxt"
fault(
    "TV118",
    "the ensemble alone was changed",
    {**SWITCHED, PIPELINE: edited(SWITCHED[PIPELINE], '"m"', '"n"')},
    severity="warning",
    line=7,
)
fault(
    "TV118",
    "the config of a CPU alone was changed",
    {**SWITCHED, ON_A_CPU: edited(SWITCHED[ON_A_CPU], '"m"', '"n"')},
    severity="warning",
    line=7,
)
fault("TV119", "TensorFlow", partial("tensorflow"), line=1)
fault(
    "TV119",
    "PyTorch's compiled models",
    {
        "m/config.pbtxt": edited(CONFIG, 'backend: "onnxruntime"', 'platform: "torch_aoti"'),
        "m/1/model.pt2": "x",
    },
)
fault("TV120", "a name of nothing", model(CONFIG + 'runtime: "x"\n'), line=17)
fault("TV120", "a library that is not there", python(DECODE_CONFIG + 'runtime: "libmine.so"\n'))
fault("TV120", "another backend's", model(CONFIG + 'runtime: "libtriton_python.so"\n'))
fault("TV120", "out of the folder", model(CONFIG + 'runtime: "../mine.so"\n', **{"m/mine.so": b"x"}))
fault("TV120", "a backend in Python that is none", python(DECODE_CONFIG + 'runtime: "model.py"\n'))
fault("TV121", "a pipe for a graph", model(onnx_graph=None, **{"m/1/model.onnx": os.mkfifo}))
fault("TV121", "a pipe for a plan", {"m/config.pbtxt": PLAN_CONFIG, "m/1/model.plan": os.mkfifo})
fault(
    "TV121",
    "a pipe for a source",
    {"decode/config.pbtxt": DECODE_CONFIG, "decode/1/model.py": os.mkfifo},
)
fault(
    "TV121",
    "a device for labels",
    model(
        edited(CONFIG, "dims: [ 10 ]", 'dims: [ 10 ] label_filename: "labels.txt"'),
        **{"m/labels.txt": lambda file: os.symlink("/dev/zero", file)},
    ),
    also=("TV107",),
)
fault("TV121", "a pipe for another config", model(**{"m/configs/gpu.pbtxt": os.mkfifo}))
fault("TV121", "a pipe for a config", {"m/config.pbtxt": os.mkfifo, "m/1/model.onnx": GRAPH})
PHOTOGRAPHS, CARS = "detect_cars/config.pbtxt", "cars/config.pbtxt"


def detection(pipeline=DETECTION_CONFIG, detector=DETECTOR_CONFIG, **more) -> Files:
    """The pair with other configs; without the detector's folder for "", and the same of the pipeline."""
    files = {**DETECTION, PHOTOGRAPHS: pipeline, CARS: detector, **more}
    return {
        path: content for path, content in files.items() if files.get(f"{path.split('/')[0]}/config.pbtxt")
    }


fault("TV122", "a detector that was deleted", detection(detector=""), line=5)
fault("TV122", "a detector that was renamed", detection(edited(DETECTION_CONFIG, '"cars"', '"card"')), line=5)
fault("TV122", "pixels of another size", detection(edited(DETECTION_CONFIG, '"640"', '"416"')), line=7)
fault(
    "TV122",
    "more at a time than the detector takes",
    detection(edited(DETECTION_CONFIG, '"4"', '"5"')),
    line=6,
)
fault(
    "TV122",
    "a number of thousands of digits",
    detection(edited(DETECTION_CONFIG, '"4"', f'"{"9" * 5000}"')),
    line=6,
)
fault("TV122", "another number of labels", detection(**{"detect_cars/labels.txt": "car\n"}), line=5)
fault("TV122", "a pipeline that was deleted", detection(pipeline=""), severity="note")
fault(
    "TV122",
    "a pipeline that calls a sibling",
    {
        **detection(edited(DETECTION_CONFIG, '"cars"', '"vans"')),
        "vans/config.pbtxt": edited(DETECTOR_CONFIG, "cars", "vans"),
        "vans/1/model.py": MODEL_PY,
    },
    severity="note",
)
fault(
    "TV122",
    "a stranger under the name of the pipeline",
    detection(edited(DECODE_CONFIG, '"decode"', '"detect_cars"')),
    severity="warning",
)
