"""What each field of TensorFlow Serving's configs is here: a policy of a model, an option of the server, or
nothing, and why. Knows nothing of files that are written, but their text."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelQueuePolicy

from export.common.errors import ConfigError
from export.repository.configs.contract import BACKEND, print_config
from export.repository.configs.policy import instance_policy

__all__ = ["Field", "TranslatedModel", "batching_fields", "monitoring_fields", "translated"]

LATEST = 1  # versions that are served where no policy says otherwise, in both
GRAPHS = ("saved_model.pb", "saved_model.pbtxt")


@dataclass(frozen=True)
class Field:
    """name: as in the file; value: its text; became: what it is here, or why it is nothing."""

    name: str
    value: str
    became: str


@dataclass
class TranslatedModel:
    """text: of its config.pbtxt; commands: what publishes its graph."""

    name: str
    text: str = ""
    fields: list[Field] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


def translated(config: Any, batching: Any, models_file: Path, repository: Path) -> list[TranslatedModel]:
    """config: a ModelServerConfig, batching: BatchingParameters or None. Raises `ConfigError`."""
    if config.HasField("custom_model_config"):
        raise ConfigError(f"{models_file}: custom_model_config is code of its own; list the models instead")
    if not config.model_config_list.config:
        raise ConfigError(f"{models_file} lists no models: it needs model_config_list {{ config {{ ... }} }}")
    names = [one.name for one in config.model_config_list.config]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{models_file} has {', '.join(twice)} more than once; each name is a model")
    return [_model(one, batching, models_file, repository) for one in config.model_config_list.config]


def _model(theirs: Any, batching: Any, models_file: Path, repository: Path) -> TranslatedModel:
    model, ours = TranslatedModel(theirs.name), ModelConfig(name=theirs.name, backend=BACKEND)
    platform = theirs.model_platform or ("other" if theirs.model_type == 2 else "tensorflow")
    if platform != "tensorflow":
        raise ConfigError(f"{models_file}: {theirs.name} is of the platform {platform!r}, not a SavedModel")
    if not theirs.base_path:
        raise ConfigError(f"{models_file}: {theirs.name} has no base_path, the folder of its versions")
    for descriptor, value in theirs.ListFields():
        model.fields += _field(descriptor.name, value, theirs, ours, models_file)
    if not theirs.HasField("model_version_policy"):
        model.fields.append(Field("model_version_policy", "(none)", "the newest version, as there"))
    if batching is None:
        model.fields.append(Field("(no batching file)", "", "requests are batched all the same"))
    _batch(batching, ours)
    ours.MergeFrom(instance_policy())
    model.text = (
        f"# Of {models_file.name} of TensorFlow Serving: a policy, which is kept when the model is\n"
        "# exported; its tensors are then written here, too.\n" + print_config(ours)
    )
    model.commands = _commands(theirs, batching, repository)
    return model


def _field(name: str, value: Any, theirs: Any, ours: ModelConfig, file: Path) -> Iterator[Field]:
    if name == "name":
        yield Field(name, value, f"the model {value}")
    elif name == "base_path":
        yield Field(name, value, _base(value))
    elif name in ("model_platform", "model_type"):
        yield Field(name, str(value), "converted to ONNX: backend onnxruntime")
    elif name == "model_version_policy":
        yield Field(name, _short(value), _versions(value, ours))
    elif name == "version_labels":
        labels = ", ".join(f"{one.key}: {one.value}" for one in value)
        yield Field(
            name,
            labels,
            "the gateway for TensorFlow Serving's clients reads them from this file "
            f"(--tfserving-model-config {file})",
        )
    else:
        yield Field(
            name,
            _short(value),
            "nothing: Triton's trace and log settings are the server's (docs/how-to/serve.md)",
        )


def _base(path: str) -> str:
    if "://" in path:
        return "copy it here first: SavedModels are converted from a local folder"
    if not Path(path).is_dir():
        return "not on this machine: run the commands where it is"
    there = _there(path)
    return f"its versions are {', '.join(map(str, there))}" if there else "it has no versions"


def _there(path: str) -> list[int]:
    """Versions of a model, in order; none where the folder is not here."""
    if not Path(path).is_dir():
        return []
    return sorted(int(one.name) for one in Path(path).iterdir() if one.name.isdecimal())


def _versions(policy: Any, ours: ModelConfig) -> str:
    kind = _given(policy)
    if kind == "all":
        ours.version_policy.all.SetInParent()
        return "version_policy all"
    if kind == "specific":
        if (least := min(policy.specific.versions, default=1)) < 1:
            raise ConfigError(f"model_version_policy has version {least}; Triton's begin with 1: rename it")
        ours.version_policy.specific.versions.extend(policy.specific.versions)
        return "version_policy specific; the commands keep the numbers"
    count = policy.latest.num_versions or LATEST
    ours.version_policy.latest.num_versions = count
    return f"version_policy latest, {count}"


def _given(policy: Any) -> str:
    found = [descriptor.name for descriptor, _ in policy.ListFields()]
    if len(found) > 1:
        raise ConfigError(f"model_version_policy has {' and '.join(found)}; it is one of them")
    return found[0] if found else "latest"


def _commands(theirs: Any, batching: Any, repository: Path) -> list[str]:
    """One for each version that is served, or one for the newest where the versions are not known."""
    policy, there = theirs.model_version_policy, _there(theirs.base_path)
    kind = _given(policy)
    if kind == "specific":
        versions = sorted(policy.specific.versions)
    else:
        versions = there if kind == "all" else there[-(policy.latest.num_versions or LATEST) :]
    size = ["--max-batch-size", str(_size(batching))] if _size(batching) else []
    found = []
    for version in versions or [None]:
        path = theirs.base_path if version is None else f"{theirs.base_path.rstrip('/')}/{version}"
        number = [] if version is None else ["--version", str(version)]
        words = ["python", "-m", "export", "savedmodel", path, "--name", theirs.name, *number, *size]
        found.append(shlex.join([*words, "--model-repository", str(repository)]))
    return found


def _size(batching: Any) -> int:
    """The largest batch that is asked for, 0 for none."""
    if batching is None:
        return 0
    return batching.max_batch_size.value or max(batching.allowed_batch_sizes, default=0)


def _batch(theirs: Any, ours: ModelConfig) -> None:
    """Into `dynamic_batching`, which has to be there, empty or not."""
    ours.dynamic_batching.SetInParent()
    if theirs is None:
        return
    if size := _size(theirs):
        ours.max_batch_size = size
    ours.dynamic_batching.preferred_batch_size.extend(theirs.allowed_batch_sizes)
    if theirs.HasField("batch_timeout_micros"):
        ours.dynamic_batching.max_queue_delay_microseconds = theirs.batch_timeout_micros.value
    if theirs.HasField("max_enqueued_batches"):
        ours.dynamic_batching.default_queue_policy.CopyFrom(
            ModelQueuePolicy(
                timeout_action=ModelQueuePolicy.REJECT,
                max_queue_size=theirs.max_enqueued_batches.value * max(1, _size(theirs)),
            )
        )


def batching_fields(theirs: Any, file: Path) -> list[Field]:
    """What became of each field of BatchingParameters, in every model. Raises `ConfigError` for sizes that
    contradict each other."""
    sizes, most = list(theirs.allowed_batch_sizes), theirs.max_batch_size.value
    queue = theirs.max_enqueued_batches.value * max(1, _size(theirs))
    numbers = [most, *sizes, theirs.batch_timeout_micros.value, queue]
    if min(numbers) < 0 or max(numbers) >= 2**31:
        raise ConfigError(
            f"{file}: {min(numbers) if min(numbers) < 0 else max(numbers)} is not a size or time"
        )
    if sizes and (sizes != sorted(set(sizes)) or 0 in sizes or (most and sizes[-1] != most)):
        raise ConfigError(
            f"{file}: allowed_batch_sizes {sizes} have to rise, and to end with max_batch_size, "
            f"{most or 'which is not given'}"
        )
    words = {
        "max_batch_size": "max_batch_size, and --max-batch-size of the command",
        "batch_timeout_micros": "max_queue_delay_microseconds: a batch waits no longer for more",
        "max_enqueued_batches": f"max_queue_size {queue}, in requests: batches times their size",
        "num_batch_threads": (
            "nothing: two instances, each with a thread of its own (docs/decisions/0005); see instance_group"
        ),
        "thread_pool_name": "nothing: each model has its own instances",
        "allowed_batch_sizes": "preferred_batch_size: batches are not padded up to them",
        "pad_variable_length_inputs": "nothing: requests of unlike dims run in batches of their own",
        "enable_large_batch_splitting": "nothing: a request larger than max_batch_size is refused; split it",
        "max_execution_batch_size": "nothing: max_batch_size is that of an execution",
    }
    return [Field(one.name, _short(value), words[one.name]) for one, value in theirs.ListFields()]


def monitoring_fields(theirs: Any) -> list[Field]:
    """What became of a MonitoringConfig."""
    found = []
    for descriptor, value in theirs.prometheus_config.ListFields():
        became = "Triton's metrics for Prometheus are always on, at port 8002"
        if descriptor.name == "path":
            became = "the path is /metrics: change it in Prometheus (metrics_path)"
        found.append(Field(f"prometheus_config.{descriptor.name}", str(value), became))
    return found


def _short(value: Any) -> str:
    """In one line; a wrapper's own value."""
    many: Sequence[Any] = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    texts = [" ".join(str(getattr(one, "value", one)).split()) for one in many]
    return ", ".join(text or "{}" for text in texts)
