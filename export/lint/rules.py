"""Every rule: its code, how bad it is, what it is about, and where users met it, or what says it.

The hundreds tell the topic: 1 files, 2 tensors and graphs, 3 batching and instances, 4 sequences and caches,
5 ensembles, 6 warm-up, 7 accelerators and parameters, 8 where the container differs from pip Triton and
nothing is wrong. docs/reference/lint.md has a section for each.
"""

from dataclasses import dataclass

__all__ = ["ERROR", "NOTE", "RULES", "WARNING", "Finding", "Rule"]

ERROR = "error"  # Triton refuses the model or answers wrongly
WARNING = "warning"  # it loads and does less than is written
NOTE = "note"  # nothing to mend: NVIDIA's backend and pip Triton's do not do the same here


@dataclass(frozen=True)
class Rule:
    """severity: of most findings; some variants of a fault are milder."""

    code: str
    severity: str
    title: str
    link: str


@dataclass(frozen=True)
class Finding:
    """One fault. file: relative to the repository; line: in that file, where one is known.

    releases: of Triton that have it, as in 24.10; () where it is a fault in each.
    """

    code: str
    severity: str
    model: str
    file: str
    line: int | None
    message: str
    fix: str
    link: str
    releases: tuple[str, ...] = ()


GITHUB = "https://github.com/triton-inference-server"
ISSUES = f"{GITHUB}/server/issues"
ORT = f"{GITHUB}/onnxruntime_backend"
PYTHON = f"{GITHUB}/python_backend/blob/main"
TUTORIALS = f"{GITHUB}/tutorials"
CORE = f"{GITHUB}/core/blob/main/src"
UTILS = f"{CORE}/model_config_utils.cc"
SERVING = f"{GITHUB}/onnxruntime_backend/blob/r24.10/README.md"
GUIDE = "https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs"

_RULES = (
    Rule("TV101", ERROR, "config.pbtxt is not a model configuration", f"{ISSUES}/257"),
    Rule(
        "TV102",
        ERROR,
        "the name in the config is not the folder's",
        f"{CORE}/model_repository_manager/model_repository_manager.cc",
    ),
    Rule(
        "TV103",
        ERROR,
        "a config where Triton does not read it",
        f"{TUTORIALS}/tree/main/Feature_Guide/Data_Pipelines",
    ),
    Rule("TV104", ERROR, "no version folder, or one whose name is not a version", f"{TUTORIALS}/pull/80"),
    Rule("TV105", ERROR, "a folder whose backend cannot be determined", f"{ISSUES}/7336"),
    Rule("TV106", ERROR, "the model file is missing or misnamed", f"{ISSUES}/4957"),
    Rule("TV107", ERROR, "the label file is missing", f"{ISSUES}/3467"),
    Rule("TV108", WARNING, "the label file has another number of labels", f"{ISSUES}/7367"),
    Rule("TV109", ERROR, "backend or platform is wrong", f"{ISSUES}/6541"),
    Rule("TV110", ERROR, "the version policy names a missing version", f"{ISSUES}/3485"),
    Rule(
        "TV111",
        ERROR,
        "external data of the graph is missing",
        "https://github.com/onnx/onnx-tensorrt/issues/818",
    ),
    Rule("TV112", ERROR, "the model file is not a model", f"{TUTORIALS}/issues/34"),
    Rule("TV113", ERROR, "model.py cannot be a Python model", f"{PYTHON}/README.md"),
    Rule("TV114", ERROR, "the execution environment is missing", f"{ISSUES}/8290"),
    Rule("TV115", ERROR, "a broken plan, or one of another TensorRT", f"{ISSUES}/7613"),
    Rule("TV117", WARNING, "model.py names a tensor or model that is not there", f"{PYTHON}/README.md"),
    Rule("TV118", WARNING, "the model's configs call different models", f"{GUIDE}/model_configuration.html"),
    Rule("TV119", ERROR, "a backend that a release does not bring", f"{GUIDE}/compatibility.html"),
    Rule("TV120", ERROR, "the runtime is not there", f"{CORE}/backend_model.cc"),
    Rule("TV121", ERROR, "a file that is none", f"{GUIDE}/model_repository.html"),
    Rule("TV122", ERROR, "a detection pipeline and its detector are not a pair", f"{ISSUES}/5452"),
    Rule("TV201", ERROR, "the graph's batch dimension is fixed", f"{ORT}/issues/111"),
    Rule("TV202", ERROR, "dims count the batch dimension wrongly", f"{ISSUES}/1338"),
    Rule("TV203", ERROR, "dims differ from the graph's", f"{ISSUES}/4194"),
    Rule("TV204", ERROR, "the data type differs from the graph's", f"{ISSUES}/2644"),
    Rule("TV205", ERROR, "the graph has no tensor of that name", f"{ISSUES}/4817"),
    Rule("TV206", ERROR, "the config lacks an input of the graph", f"{ISSUES}/4824"),
    Rule("TV207", WARNING, "a tensor is listed twice", f"{CORE}/model.cc"),
    Rule("TV208", ERROR, "reshape changes the number of elements", f"{ORT}/issues/88"),
    Rule("TV209", ERROR, "a tensor's entry is not valid", UTILS),
    Rule(
        "TV210",
        ERROR,
        "the opset is too new for the release",
        "https://github.com/ELS-RD/transformer-deploy/issues/82",
    ),
    Rule("TV211", ERROR, "the IR version is too new for the release", f"{ISSUES}/8001"),
    Rule("TV212", ERROR, "a type that the backend does not take", f"{ORT}/issues/94"),
    Rule("TV213", ERROR, "batch_input or batch_output is not valid", UTILS),
    Rule(
        "TV214",
        ERROR,
        "an output's dims are not what ONNX Runtime makes of them",
        "https://github.com/salute-developers/GigaAM/issues/82",
    ),
    Rule("TV215", ERROR, "an operator that the release's ONNX Runtime does not have", f"{ISSUES}/4894"),
    Rule(
        "TV216",
        ERROR,
        "ONNX Runtime refuses the graph",
        "https://github.com/microsoft/onnxruntime/issues/10399",
    ),
    Rule("TV217", ERROR, "a scalar in a model that batches", f"{ORT}/blob/r24.10/src/onnxruntime.cc"),
    Rule("TV218", ERROR, "an output whose first dim is not the batch", f"{ORT}/issues/159"),
    Rule(
        "TV219",
        ERROR,
        "optional where the graph has no default, or the reverse",
        f"{ORT}/blob/r24.10/src/onnxruntime.cc",
    ),
    Rule("TV301", WARNING, "batching without dynamic_batching", f"{ISSUES}/5721"),
    Rule("TV302", ERROR, "a preferred batch size is out of range", f"{ORT}/issues/148"),
    Rule("TV303", WARNING, "dynamic_batching without a batch dimension", f"{ISSUES}/2097"),
    Rule("TV304", ERROR, "two schedulers at once", f"{ISSUES}/1966"),
    Rule("TV305", WARNING, "preferred_batch_size keeps batches at one", f"{ISSUES}/3116"),
    Rule("TV306", ERROR, "priorities or queue policies contradict each other", f"{GUIDE}/batcher.html"),
    Rule("TV307", WARNING, "a queue delay of a second or more", f"{ISSUES}/7271"),
    Rule("TV308", WARNING, "an instance count below one", f"{ISSUES}/5349"),
    Rule("TV309", ERROR, "a GPU is asked for on a CPU target", f"{ISSUES}/3912"),
    Rule("TV310", ERROR, "GPU ids where there is no GPU instance", UTILS),
    Rule("TV311", ERROR, "TensorRT instances that are not KIND_GPU", f"{ISSUES}/4696"),
    Rule("TV312", ERROR, "an optimisation profile that cannot be chosen", UTILS),
    Rule("TV313", ERROR, "max_batch_size is negative", UTILS),
    Rule("TV314", WARNING, "a queue delay with a limited queue loses instances", f"{ISSUES}/8870"),
    Rule("TV315", WARNING, "decoupled on a backend that answers once", f"{GUIDE}/decoupled_models.html"),
    Rule("TV316", WARNING, "a queue without a bound, or no time-out in it", f"{GUIDE}/batcher.html"),
    Rule(
        "TV401",
        ERROR,
        "a state or control tensor is also an input",
        f"{GUIDE}/implicit_state_management.html",
    ),
    Rule("TV402", ERROR, "states whose sorted names cross", f"{ISSUES}/8586"),
    Rule(
        "TV403",
        ERROR,
        "initial_state is not valid",
        f"{CORE}/sequence_batch_scheduler/sequence_batch_scheduler.cc",
    ),
    Rule(
        "TV404",
        WARNING,
        "a state that begins as uninitialised memory",
        "https://github.com/triton-inference-server/common/pull/28",
    ),
    Rule("TV405", ERROR, "a state that the graph lacks or has otherwise", f"{ISSUES}/5446"),
    Rule("TV406", ERROR, "a control input that the graph lacks or has otherwise", f"{ISSUES}/6507"),
    Rule("TV407", ERROR, "a control input is not valid", UTILS),
    Rule("TV408", ERROR, "response cache on a sequence or decoupled model", f"{GUIDE}/response_cache.html"),
    Rule("TV409", ERROR, "growable state memory without its conditions", f"{CORE}/sequence_state.cc"),
    Rule("TV410", ERROR, "two states share a tensor", f"{CORE}/sequence_state.cc"),
    Rule("TV411", WARNING, "implicit state on a backend that keeps none", f"{ISSUES}/5609"),
    Rule("TV412", ERROR, "a sequence strategy's setting is out of range", UTILS),
    Rule(
        "TV413",
        WARNING,
        "a state that is also an output fails in batches",
        f"{GITHUB}/backend/blob/r24.10/src/backend_output_responder.cc",
    ),
    Rule("TV501", ERROR, "a section that ensembles may not have", f"{ISSUES}/4341"),
    Rule("TV502", ERROR, "the ensemble is incomplete", f"{ISSUES}/7632"),
    Rule("TV503", ERROR, "a step names a model or version that is not there", f"{ISSUES}/5474"),
    Rule("TV504", ERROR, "a map names a tensor that the model lacks, or leaves one out", f"{ISSUES}/5742"),
    Rule("TV505", ERROR, "an ensemble tensor dangles", f"{ISSUES}/5943"),
    Rule("TV506", ERROR, "data types differ along the chain", f"{ISSUES}/2885"),
    Rule("TV507", ERROR, "dims differ along the chain", f"{ISSUES}/1682"),
    Rule("TV508", ERROR, "the ensemble's batch is larger than a member's", f"{ISSUES}/6776"),
    Rule("TV509", ERROR, "the ensemble runs in a circle", UTILS),
    Rule(
        "TV510",
        ERROR,
        "branches of different decoupled models meet",
        f"{CORE}/ensemble_scheduler/ensemble_utils.cc",
    ),
    Rule("TV601", ERROR, "warm-up dims are open", f"{CORE}/backend_model_instance.cc"),
    Rule(
        "TV602", ERROR, "warm-up names an unknown input, or misses one", f"{CORE}/backend_model_instance.cc"
    ),
    Rule("TV603", ERROR, "warm-up differs from the input it feeds", f"{ISSUES}/1796"),
    Rule("TV604", ERROR, "the warm-up's batch size is out of range", f"{ISSUES}/5129"),
    Rule("TV605", ERROR, "warm-up data is missing or short", f"{ISSUES}/1796"),
    Rule("TV701", ERROR, "an accelerator that this release does not know", f"{ISSUES}/3204"),
    Rule(
        "TV702", ERROR, "an accelerator key or value that this release rejects", f"{ORT}/blob/main/README.md"
    ),
    Rule("TV703", ERROR, "a TensorRT profile that lacks a batch size or shape", f"{ISSUES}/4038"),
    Rule("TV704", WARNING, "a GPU accelerator on CPU instances", f"{ISSUES}/2488"),
    Rule("TV705", ERROR, "a backend parameter's value is not valid", f"{ORT}/blob/main/README.md"),
    Rule("TV706", WARNING, "a parameter that this release does not read", f"{ORT}/blob/r24.10/README.md"),
    Rule(
        "TV707",
        WARNING,
        "a precision mode that TensorRT 11 has no more",
        "https://docs.nvidia.com/deeplearning/tensorrt/11.0.0/getting-started/release-notes-11/11.0.0.html",
    ),
    Rule(
        "TV708",
        ERROR,
        "metric tags or buckets that Prometheus does not allow",
        f"{CORE}/metric_model_reporter.cc",
    ),
    Rule("TV801", NOTE, "text is cut at NUL in the container", f"{ORT}/blob/r24.10/src/onnxruntime.cc"),
    Rule(
        "TV802",
        NOTE,
        "completed tensors come in another order in the container",
        f"{ORT}/blob/r24.10/src/onnxruntime.cc",
    ),
    Rule("TV803", NOTE, "a parameter of pip Triton's backend alone", SERVING),
    Rule("TV804", NOTE, "ragged batches are the container's alone", f"{GUIDE}/ragged_batching.html"),
)
RULES: dict[str, Rule] = {rule.code: rule for rule in _RULES}
