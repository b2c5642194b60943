"""From a published graph to a plan beside it, or to the commands that make one."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.common.devices import capability_here, capability_of
from export.common.errors import ConfigError, PlanError, VerificationError
from export.common.packages import cache_dir
from export.common.release import CONTAINER, Release
from export.graphs.preparation import prepare, tolerance_of
from export.graphs.signed import signed
from export.pipelines.plans.commands import GRAPH, WORK, build_command, in_container, plan_name, shown
from export.pipelines.plans.configs import accelerator_config, config_text, plan_config, with_plan
from export.pipelines.plans.profiles import VARIABLE_SIZES, PlanProfile, profile_of
from export.repository.configs.contract import WEIGHTS_KEY, derive_contract, parse_config, read_config_text
from export.repository.publish import CONFIG_FILE, GRAPH_FILE, newest_version, tell_unsigned
from export.sources.spec_calls import samples_of, served_of
from export.sources.specs.spec import ModelSpec
from export.sources.weights import choose_weights, filled_network
from server.environment.regular_files import regular

if TYPE_CHECKING:
    from export.graphs.checks.verification import Verification
    from export.pipelines.plans.building import Builder

__all__ = ["ACCELERATOR_NAME", "PLAN_NAME", "PlanReport", "PlanRequest", "accelerate", "build_plan"]

# tritonserver --model-config-name=...: each is the name of a file in the model's `configs` folder.
PLAN_NAME = "tensorrt"
ACCELERATOR_NAME = "tensorrt_accelerator"
CONFIGS = "configs"
ASSUMED_DEVICE = "l4"  # of a dry run on a machine without a GPU


@dataclass(frozen=True)
class PlanRequest:
    """What is asked for.

    `precision` is one of `export.graphs.preparation.PRECISIONS`. `device` is a name or compute capability;
    None: the GPU that is here. `variable` are the sizes of each dim of -1: smallest, optimal, largest.
    `checkpoint` or `random_weights` are those that the graph was made with; by default the spec's own.
    `release` is the one of Triton that is to load the plan.
    """

    precision: str = "fp32"
    device: str | None = None
    dry_run: bool = False
    variable: tuple[int, int, int] = VARIABLE_SIZES
    checkpoint: Path | None = None
    random_weights: bool = False
    release: Release = CONTAINER


@dataclass(frozen=True)
class PlanReport:
    """What was made. `outcome` is "published" or "dry run"; `differences` are the largest ones against
    PyTorch, by what was run: "graph" on this CPU, "plan" on the GPU; `commands` are to be run, in order;
    `compute_capability` is None where the server builds its own engines."""

    name: str
    outcome: str
    precision: str
    version: int
    compute_capability: str | None
    graph: str
    config: str
    differences: dict[str, float]
    items_compared: int
    commands: list[str]


@dataclass(frozen=True)
class _Source:
    """A published graph, prepared, and all that says what is right for it."""

    spec: ModelSpec
    folder: Path
    version: int
    work: Path
    contract: ModelConfig
    config: ModelConfig
    profile: PlanProfile
    compare: "Callable[..., Verification]"  # a session, and failures known before

    @property
    def version_folder(self) -> Path:
        return self.folder / str(self.version)


def build_plan(
    spec: ModelSpec,
    repository: Path,
    request: PlanRequest,
    progress: Callable[[str], None] = lambda step: None,
) -> PlanReport:
    """Build the plan of the newest version, verify it against PyTorch and put it beside its graph.

    A dry run stops where a GPU is needed: it prepares and verifies the graph, writes the configuration
    beside it, outside of the repository, and reports the commands. Raises an `ExportError`; nothing is in
    the repository then that was not there before.
    """
    here = capability_here()
    if not request.dry_run:
        _require_gpu(here, request)
    capability = capability_of(request.device or here or ASSUMED_DEVICE, request.release)
    source, verification = _prepared(spec, repository, request, progress)
    text = _plan_config_text(source, capability, request.release)
    kept = source.work / f"{PLAN_NAME}.pbtxt"
    differences = {"graph": verification.largest_difference}
    if request.dry_run:
        kept.write_text(text)
        commands = _plan_commands(source, request, capability, kept)
        return _report(source, "dry run", request, capability, kept, differences, verification, commands)
    from export.pipelines.plans.building import find_builder

    builder = find_builder(request.release)
    progress("building the plan, which takes minutes")
    builder.build(source.work, request.precision, capability, source.profile)
    progress("verifying the plan")
    differences["plan"] = source.compare(
        _PlanSession(spec, builder, source.work, capability)
    ).largest_difference
    _put(source.work / plan_name(capability), source.version_folder / plan_name(capability))
    target = source.folder / CONFIGS / f"{PLAN_NAME}.pbtxt"
    _write(target, text)
    return _report(source, "published", request, capability, target, differences, verification, [])


def accelerate(
    spec: ModelSpec,
    repository: Path,
    request: PlanRequest,
    progress: Callable[[str], None] = lambda step: None,
) -> PlanReport:
    """Write the configuration for ONNX Runtime with TensorRT inside, and the prepared graph it serves.

    Needs no GPU: engines are built when the model is loaded. A dry run writes outside of the repository.
    Raises `PlanError` for a precision other than fp32 and fp16.
    """
    if request.precision not in ("fp32", "fp16"):
        raise PlanError(f"--accelerator tensorrt has fp32 and fp16, not {request.precision}")
    source, verification = _prepared(spec, repository, request, progress)
    graph = f"model_tensorrt_{request.precision}.onnx"
    target = source.folder / CONFIGS / f"{ACCELERATOR_NAME}.pbtxt"
    before = _read(target)
    policy = parse_config(before, target) if before else source.config
    config = accelerator_config(policy, source.contract, source.profile, request.precision, graph)
    text = config_text(config, before, target, request.release)
    differences = {"graph": verification.largest_difference}
    kept = source.work / target.name
    serve = shown(_serve_command(source, ACCELERATOR_NAME, request.release))
    if request.dry_run:
        kept.write_text(text)
        commands = [
            *_copies({source.work / GRAPH: source.version_folder / graph, kept: target}),
            serve,
        ]
        return _report(source, "dry run", request, None, kept, differences, verification, commands)
    _put(source.work / GRAPH, source.version_folder / graph)
    _write(target, text)
    return _report(source, "published", request, None, target, differences, verification, [serve])


def _require_gpu(here: str | None, request: PlanRequest) -> None:
    if here is None:
        raise PlanError(
            "a plan is built on the GPU that it is for, and nvidia-smi finds none here: run this on a "
            "machine with one, or see with --dry-run what to run there. Without a plan: --accelerator "
            "tensorrt, whose engines the server builds itself"
        )
    if request.device and (asked := capability_of(request.device, request.release)) != here:
        raise PlanError(
            f"this machine's GPU has compute capability {here}, not {asked}: a plan runs "
            "only on what it was built for; leave --device-profile out, or run this there"
        )


def _prepared(
    spec: ModelSpec, repository: Path, request: PlanRequest, progress: Callable[[str], None]
) -> "tuple[_Source, Verification]":
    import onnx

    folder = repository / spec.name
    version = newest_version(folder)
    if version is None:
        raise PlanError(
            f"{folder} has no {GRAPH_FILE} to build from: run `python -m export {spec.name}` first"
        )
    path = _graph_of(folder, version, request.precision)
    model = signed(onnx.load(regular(path)))
    label = {entry.key: entry.value for entry in model.metadata_props}.get(WEIGHTS_KEY, "")
    progress("fetching")
    random = request.random_weights or (label == "random" and request.checkpoint is None)
    weights = choose_weights(spec, request.checkpoint, random)
    if weights.label != label:
        raise PlanError(
            f"{path} was made with weights {label!r}, which are not {weights.label!r}, so it cannot be "
            "compared with PyTorch: export it again, or give the --checkpoint that it was made with"
        )
    progress("preparing")
    prepared_model = prepare(model, request.precision)
    prepared = prepared_model.SerializeToString(deterministic=True)
    work = cache_dir() / "plans" / request.release.name / spec.name / request.precision
    work.mkdir(parents=True, exist_ok=True)
    (work / GRAPH).write_bytes(prepared)

    from export.graphs.checks.verification import check_graph, compare

    served = served_of(spec, filled_network(spec, weights))
    samples = samples_of(spec)
    tolerant = dataclasses.replace(spec, tolerance=tolerance_of(spec, request.precision))
    source = _Source(
        spec=spec,
        folder=folder,
        version=version,
        work=work,
        contract=derive_contract(spec, label),
        config=_config(folder / CONFIG_FILE),
        profile=profile_of(spec, request.variable),
        compare=lambda session, failures=(): compare(tolerant, session, served, samples, failures),
    )
    progress("verifying the graph")
    return source, source.compare(_cpu_session(prepared), check_graph(spec, prepared_model))


def _graph_of(folder: Path, version: int, precision: str) -> Path:
    """Of the model itself, or for int8 of its sibling, where it has one, which was quantised from it."""
    sibling = folder.with_name(f"{folder.name}_{precision}")
    if precision == "int8" and (lighter := newest_version(sibling)) is not None:
        return sibling / str(lighter) / GRAPH_FILE
    return folder / str(version) / GRAPH_FILE


def _config(path: Path) -> ModelConfig:
    if not path.is_file():
        raise ConfigError(f"{path} is missing; export the model to write it")
    return parse_config(read_config_text(path), path)


def _cpu_session(graph: bytes) -> object:
    import onnxruntime

    from export.graphs.sessions import session_options

    options = session_options()
    # ONNX Runtime 1.32 crashes on float16 convolutions at the level above.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    try:
        return onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no public root
        raise VerificationError([f"ONNX Runtime does not load the prepared graph: {error}"]) from error


class _PlanSession:
    """A plan that runs as ONNX Runtime's session does."""

    def __init__(self, spec: ModelSpec, builder: "Builder", work: Path, capability: str) -> None:
        self._builder, self._work, self._capability = builder, work, capability
        self._outputs = spec.graph_outputs

    def run(self, _: None, feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        answers = self._builder.run(self._work, self._capability, feed)
        return [answers[tensor.name].astype(tensor.dtype) for tensor in self._outputs]


def _plan_config_text(source: _Source, capability: str, release: Release) -> str:
    """With the plans that the version has already, and the new one; what people edited there is kept."""
    target = source.folder / CONFIGS / f"{PLAN_NAME}.pbtxt"
    before = _read(target)
    config = plan_config(parse_config(before, target) if before else source.config, source.contract)
    config.cc_model_filenames.clear()
    for path in source.version_folder.glob(plan_name("*")):
        with_plan(config, path.name.removeprefix("model_cc").removesuffix(".plan"))
    return config_text(with_plan(config, capability), before, target, release)


def _plan_commands(source: _Source, request: PlanRequest, capability: str, config: Path) -> list[str]:
    build = build_command(WORK, request.precision, capability, source.profile, request.release)
    plan = plan_name(capability)
    return [
        shown(in_container(build, source.work, request.release)),
        *_copies(
            {
                source.work / plan: source.version_folder / plan,
                config: source.folder / CONFIGS / config.name,
            }
        ),
        shown(_serve_command(source, PLAN_NAME, request.release)),
    ]


def _copies(files: dict[Path, Path]) -> list[str]:
    return [
        shown(["install", "-D", "-m", "644", str(here), str(there.absolute())])
        for here, there in files.items()
    ]


def _serve_command(source: _Source, config_name: str, release: Release) -> list[str]:
    """This model alone, so that nothing else must be ready."""
    models = source.folder.parent.resolve()
    return [
        *("docker", "run", "--rm", "--gpus", "all", "--shm-size", "1g"),
        *(part for port in (8000, 8001, 8002) for part in ("--publish", f"127.0.0.1:{port}:{port}")),
        *("--volume", f"{models}:/models:ro", "--volume", "tensorrt-cache:/var/cache/tensorrt"),
        *(release.image, "tritonserver", "--model-repository=/models"),
        f"--model-config-name={config_name}",
        *("--model-control-mode=explicit", f"--load-model={source.spec.name}"),
    ]


def _report(
    source: _Source,
    outcome: str,
    request: PlanRequest,
    capability: str | None,
    config: Path,
    differences: dict[str, float],
    verification: "Verification",
    commands: list[str],
) -> PlanReport:
    return PlanReport(
        name=source.spec.name,
        outcome=outcome,
        precision=request.precision,
        version=source.version,
        compute_capability=capability,
        graph=str(source.work / GRAPH),
        config=str(config),
        differences=differences,
        items_compared=verification.items,
        commands=commands,
    )


def _read(path: Path) -> str | None:
    return read_config_text(path) if path.is_file() else None


def _put(file: Path, target: Path) -> None:
    """Copied under another name first, so that a server sees all of it or nothing."""
    target.parent.mkdir(exist_ok=True)
    staged = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        shutil.copyfile(file, staged)
        os.replace(staged, target)
    finally:
        staged.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.write_text(text)
    os.replace(staged, path)
    tell_unsigned(path.parent.parent)
