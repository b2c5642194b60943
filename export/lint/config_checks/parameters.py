"""TV705 to TV706, TV803: `parameters` that the ONNX Runtime backend reads, with the values that it takes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from export.lint.comparison import near
from export.lint.config_checks.instances import only_on_cpu
from export.lint.reading.release_schema import lacking
from export.lint.reading.repository import Model, Repository
from export.lint.rules import WARNING, Finding

__all__ = ["check"]

# Of the backend in release 24.10. A number is what std::stoi makes of the text.
NUMBERS = {
    "execution_mode": range(2),
    "intra_op_thread_count": None,
    "inter_op_thread_count": None,
}
NUMBERS_OF_CUDA = {"cudnn_conv_algo_search": range(3), "arena_extend_strategy": range(2)}
BOOLEANS = ("enable_mem_arena", "enable_mem_pattern")
FALSEHOODS = {"false", "off", "0"}
TRUTHS = {"true", "on", "1", *FALSEHOODS}
SHRINKAGE = "memory.enable_memory_arena_shrinkage"
SIZES_OF_CUDA = ("gpu_mem_limit",)
PLAIN = ("do_copy_in_default_stream",)
CORE = ("TRITON_BATCH_STRATEGY_PATH",)
KNOWN = {*NUMBERS, *NUMBERS_OF_CUDA, *BOOLEANS, SHRINKAGE, *SIZES_OF_CUDA, *PLAIN, *CORE}

ON_CPU = "FORCE_CPU_ONLY_INPUT_TENSORS"
ELSEWHERE = {  # what people write into config.pbtxt, and who reads it if this backend does not
    "share_session_between_instances": "no release",
    "enable_global_threadpool": "--backend-config=onnxruntime,enable-global-threadpool=1",
    "enable-global-threadpool": "--backend-config=onnxruntime,enable-global-threadpool=1",
    "default-max-batch-size": "--backend-config=default-max-batch-size=8",
    ON_CPU: "the Python backend",
    "EXECUTION_ENV_PATH": "the Python backend",
}
DEVICE_ALLOCATOR = "session.use_device_allocator_for_initializers"
OURS = {  # read by pip Triton's backend alone, where answers depend on it
    "max_shape": "the container does not enforce it: there a request beyond it runs",
    "sequence_restart": "in the container a START of a living sequence begins it anew",
}
OURS_ONLY_FASTER = ("cpu_batch_size", "cuda_batch_size")
INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)")
INTEGERS = range(-(2**31), 2**31)
DIGITS = 12  # enough to be out of range
BOUND = re.compile(r"-1|[1-9][0-9]{0,17}")


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """TV705, TV706 and TV803, of the ONNX Runtime backend's parameters, and TV705 of the Python backend's.

    With the target "cpu", or instances on CPUs alone, faults of CUDA's parameters are warnings.
    """
    if model.backend == "python":
        yield from _of_python(model)
    if model.backend != "onnxruntime":
        return
    cpu = target == "cpu" or only_on_cpu(model)
    for key in sorted(model.config.parameters):
        value = model.config.parameters[key].string_value
        if problem := _problem(model, key, value, cpu):
            yield model.finding(
                "TV705",
                f"{key} is {value!r}{problem.what}",
                problem.fix,
                "parameters",
                key,
                "value",
                severity=problem.severity,
            )
        elif key in OURS:
            yield model.finding(
                "TV803",
                f"only pip Triton's backend reads {key}; {OURS[key]}",
                "nothing to fix; do not count on it in the container",
                "parameters",
                key,
            )
        if key not in KNOWN:
            yield from _unknown(model, key)


def _of_python(model: Model) -> Iterator[Finding]:
    """What the Python backend refuses (src/python_be.cc); the rest is the model's own."""
    value = model.config.parameters[ON_CPU].string_value if ON_CPU in model.config.parameters else "yes"
    if value not in ("yes", "no"):
        yield model.finding(
            "TV705", f"{ON_CPU} is {value!r}", "write yes or no", "parameters", ON_CPU, "value"
        )


@dataclass(frozen=True)
class _Problem:
    """what: begins behind the value; severity: None for an error."""

    what: str
    fix: str
    severity: str | None = None


def _problem(model: Model, key: str, value: str, cpu: bool) -> _Problem | None:
    of_cuda = WARNING if cpu else None  # not looked at where there is no GPU
    if key in NUMBERS:
        return _number_problem(value, NUMBERS[key], None)
    if key in NUMBERS_OF_CUDA:
        return _number_problem(value, NUMBERS_OF_CUDA[key], of_cuda)
    if key in BOOLEANS and value.lower() not in TRUTHS:
        return _Problem("", "write true or false")
    if key in SIZES_OF_CUDA and not re.fullmatch(r"\d+", value):
        return _Problem("", "write a whole number, of bytes", of_cuda)
    if key == SHRINKAGE:
        devices = [device for device in value.split(";") if device]
        if wrong := [device for device in devices if not re.fullmatch(r"cpu:0|gpu:\d+", device)]:
            return _Problem(
                f": every request fails, there is no {wrong[0]!r}", "write cpu:0, gpu:0 or cpu:0;gpu:0"
            )
        if cpu and any(device.startswith("gpu") for device in devices):
            return _Problem(": every request fails, for there are instances on CPUs alone", "write cpu:0")
        if "cpu:0" in devices and _has_no_arena(model):
            return _Problem(
                ": every request fails, for enable_mem_arena says that there is none", "remove one"
            )
    if key == "max_shape" and (what := _bounds_problem(model, value)):
        return _Problem(f": {what}", "write INPUT=d1,d2;OTHER=d1")
    return None


def _has_no_arena(model: Model) -> bool:
    if "enable_mem_arena" not in model.config.parameters:
        return False
    return model.config.parameters["enable_mem_arena"].string_value.lower() in FALSEHOODS


def _number_problem(value: str, choices: range | None, severity: str | None) -> _Problem | None:
    fix = f"write {', '.join(map(str, choices))}" if choices else "write a whole number"
    found = INTEGER.match(value)
    if not found:
        return _Problem(", which is not a number", fix, severity)
    number = int(found[1]) if len(found[1]) <= DIGITS else INTEGERS.stop
    if number not in INTEGERS:
        return _Problem(": NVIDIA's backend ends the server over a number of that size", fix, severity)
    if choices is not None and number not in choices:
        return _Problem("", fix, severity)
    if found[0] != value or found[1] != found[0]:
        return _Problem(f", of which Triton reads {number}", f'write "{number}"', WARNING)
    if number < 0:
        return _Problem(", which has no effect: ONNX Runtime takes as many as there are cores", fix, WARNING)
    return None


def _unknown(model: Model, key: str) -> Iterator[Finding]:
    """Keys of one's own are common, so only those are told that were meant for the backend."""
    if key in OURS or key in OURS_ONLY_FASTER:
        return
    if key == DEVICE_ALLOCATOR:
        if without := lacking(key, model.releases):
            yield model.finding(
                "TV706",
                f"the ONNX Runtime backend of {', '.join(without)} does not read {key}; later ones do",
                "remove it",
                "parameters",
                key,
                releases=without,
            )
    elif key in ELSEWHERE:
        yield model.finding(
            "TV706",
            f"the ONNX Runtime backend does not read {key}; {ELSEWHERE[key]} "
            + ("does" if "--" not in ELSEWHERE[key] else "is how it is set"),
            "remove it",
            "parameters",
            key,
        )
    elif key.startswith(("session.", "ep.", "optimization.")):
        yield model.finding(
            "TV706",
            f"the ONNX Runtime backend passes no session entry {key} on",
            "remove it",
            "parameters",
            key,
        )
    elif (hint := near_key(key)) and hint not in model.config.parameters:
        yield model.finding(
            "TV706",
            f"the ONNX Runtime backend does not read {key}",
            f"write {hint}",
            "parameters",
            key,
        )


def near_key(key: str) -> str:
    """The parameter that a key was probably meant to be, or ""."""
    folded = {name.lower().replace("-", "_"): name for name in (KNOWN | set(OURS) | set(OURS_ONLY_FASTER))}
    plain = key.lower().replace("-", "_")
    if plain in folded:
        return folded[plain]
    for name in folded:
        if abs(len(name) - len(plain)) <= 2 and near(plain, [name, "-" * len(name)]) == f"write {name!r}":
            return folded[name]
    return ""


def _bounds_problem(model: Model, value: str) -> str:
    """What is wrong with INPUT=d1,d2;INPUT2=d1, the largest sizes of inputs (-1: no bound), or ""."""
    inputs = model.signature.inputs or {}
    shapes = {
        name: list(entry.reshape.shape if entry.HasField("reshape") else entry.dims)
        for name, entry in inputs.items()
    }
    seen = set()
    for part in value.split(";"):
        name, _, sizes = (text.strip() for text in part.rpartition("="))
        bounds = [size.strip() for size in sizes.split(",")]
        if not name or not all(map(BOUND.fullmatch, bounds)):
            return f"{part!r} does not give the largest sizes of an input; -1 sets no bound"
        if shapes and name not in shapes:
            return f"there is no input {name!r}; there is {', '.join(map(repr, shapes))}"
        if name in seen:
            return f"input {name!r} is in it twice"
        seen.add(name)
        if shapes and len(bounds) != len(shapes[name]):
            return f"input {name!r} has dims {shapes[name]}, the bound has {len(bounds)}"
        if any(0 < int(bound) < size for bound, size in zip(bounds, shapes.get(name, ()), strict=False)):
            return f"input {name!r} has dims {shapes[name]}, so that bound refuses every request"
    return ""
