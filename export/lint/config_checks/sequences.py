"""TV4xx: sequence batching, control inputs, implicit state, and the response cache."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup, ModelSequenceBatching

from export.lint.comparison import data_type_name, loosely_equal, near
from export.lint.config_checks.decoupled import is_decoupled
from export.lint.config_checks.warmup import BYTES
from export.lint.reading.graph import LintedGraph, LintedTensor
from export.lint.reading.repository import Model, Repository
from export.lint.rules import WARNING, Finding

__all__ = ["check"]

SECTION = "sequence_batching"
Control = ModelSequenceBatching.Control
CORRELATION_ID = Control.CONTROL_SEQUENCE_CORRID
CORRELATION_TYPES = {"TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING"}
FLAG_TYPES = {
    "int32_false_true": "TYPE_INT32",
    "fp32_false_true": "TYPE_FP32",
    "bool_false_true": "TYPE_BOOL",
}
INITIAL_STATE = "initial_state"
STATELESS_BACKENDS = {"python", "tensorflow", "openvino"}


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """TV401 to TV413; without sequence batching, TV408 alone, of decoupled models.

    States and controls are also held against each graph that could be read.
    """
    yield from _cache(model, repository)
    batching = model.config.sequence_batching
    if not model.config.HasField(SECTION):
        return
    yield from _strategy(model)
    yield from _controls(model)
    yield from _fed_twice(model)
    yield from _states(model)
    yield from _answered_states(model)
    for graph in model.graphs.values():
        if isinstance(graph, LintedGraph):
            yield from _completed_inputs(model, graph)
            yield from _controls_of_graph(model, graph)
            for index, state in enumerate(batching.state):
                yield from _state_of_graph(model, index, state, graph)


def _cache(model: Model, repository: Repository) -> Iterator[Finding]:
    config = model.config
    of_ensemble = "an ensemble over a decoupled model, which is decoupled, too"
    if config.response_cache.enable:
        for what, found in (
            ("a sequence model", config.HasField(SECTION)),
            (of_ensemble if model.is_ensemble else "a decoupled model", is_decoupled(model, repository)),
        ):
            if found:
                yield model.finding(
                    "TV408", f"the response cache is on for {what}", "remove response_cache", "response_cache"
                )


def _strategy(model: Model) -> Iterator[Finding]:
    direct = model.config.sequence_batching.direct
    if not 0 <= direct.minimum_slot_utilization <= 1:
        yield model.finding(
            "TV412",
            f"minimum_slot_utilization is {direct.minimum_slot_utilization:g}",
            "write a share from 0 to 1",
            SECTION,
            "direct",
            "minimum_slot_utilization",
        )
    oldest = model.config.sequence_batching.oldest
    if oldest.max_candidate_sequences < 0:
        yield model.finding(
            "TV412",
            f"max_candidate_sequences is {oldest.max_candidate_sequences}: Triton takes max_batch_size",
            "write how many sequences may live at once",
            SECTION,
            "oldest",
            "max_candidate_sequences",
            severity=WARNING,
        )


def _controls(model: Model) -> Iterator[Finding]:
    kinds: Counter[int] = Counter()
    names: Counter[str] = Counter()
    for index, entry in enumerate(model.config.sequence_batching.control_input):
        names[entry.name] += 1
        for control in entry.control:
            kinds[control.kind] += 1
            problem = _problem(control)
            if not problem and kinds[control.kind] > 1:
                problem = "its kind is given to another tensor already"
            if problem:
                yield model.finding(
                    "TV407",
                    f"control input {entry.name!r}, {Control.Kind.Name(control.kind)}: {problem}",
                    "write one of int32_false_true, fp32_false_true, bool_false_true with two values; "
                    "for the correlation ID a data_type instead",
                    SECTION, "control_input", index, "control",
                )  # fmt: skip
        if not entry.name or names[entry.name] > 1:
            yield model.finding(
                "TV407",
                f"control input {entry.name!r} is listed twice"
                if entry.name
                else "a control input has no name",
                "give each kind a tensor of its own",
                SECTION, "control_input", index,
            )  # fmt: skip


def _problem(control: Any) -> str:
    values = {name: len(getattr(control, name)) for name in FLAG_TYPES if getattr(control, name)}
    if control.kind == CORRELATION_ID:
        if values:
            return f"it has {', '.join(values)}"
        if data_type_name(control.data_type) not in CORRELATION_TYPES:
            return f"its data_type is {data_type_name(control.data_type)}, not an integer or TYPE_STRING"
    elif len(values) != 1:
        return f"it has {', '.join(values) or 'no values for false and true'}"
    elif list(values.values()) != [2]:
        return f"it has {next(iter(values.values()))} values for false and true"
    return ""


def _fed_twice(model: Model) -> Iterator[Finding]:
    """Triton feeds states and controls itself, so the backend counts one input too many."""
    if model.backend in STATELESS_BACKENDS:
        return
    batching = model.config.sequence_batching
    own = {entry.input_name: "state" for entry in batching.state}
    own |= {entry.name: "control" for entry in batching.control_input}
    for index, entry in enumerate(model.config.input):
        if entry.name in own:
            yield model.finding(
                "TV401",
                f"{entry.name!r} is a {own[entry.name]} of the sequence batcher, and listed as an input, too",
                "remove it from input: Triton feeds it",
                "input",
                index,
            )


def _completed_inputs(model: Model, graph: LintedGraph) -> Iterator[Finding]:
    """Auto-complete lists every input of the graph, those that Triton feeds among them."""
    batching = model.config.sequence_batching
    own = {entry.input_name for entry in batching.state} | {entry.name for entry in batching.control_input}
    fed = [name for name in graph.inputs if name in own]
    if fed and not model.config.input:
        others = [name for name in graph.inputs if name not in own]
        yield model.finding(
            "TV401",
            f"input is not listed, and auto-complete would take {', '.join(map(repr, fed))} into it, too",
            f"list the inputs that clients send: {', '.join(map(repr, others))}"
            if others
            else "give the graph an input for what clients send: it has none but these",
            SECTION,
        )


def _states(model: Model) -> Iterator[Finding]:
    states = model.config.sequence_batching.state
    if not states:
        return
    if model.backend in STATELESS_BACKENDS:
        yield model.finding(
            "TV411",
            f"the {model.backend} backend keeps no implicit state: every request gets the initial one",
            "keep it in the model by correlation ID, or serve the graph with onnxruntime or tensorrt",
            SECTION,
            "state",
        )
    yield from _shared(model, states)
    by_input = sorted(states, key=lambda state: state.input_name.encode())
    outputs = [state.output_name for state in by_input]
    if len(set(outputs)) == len(outputs) and outputs != sorted(outputs, key=str.encode):
        pairs = zip(by_input, sorted(outputs, key=str.encode), strict=True)
        swapped = next((state.input_name, state.output_name, taken) for state, taken in pairs
                       if state.output_name != taken)  # fmt: skip
        yield model.finding(
            "TV402",
            "the names of the states' inputs and outputs sort in different orders, and Triton pairs them by "
            f"that order: {swapped[0]!r} gets {swapped[2]!r} instead of {swapped[1]!r}",
            "rename the tensors so that both sort alike, as in a_in/a_out and b_in/b_out",
            SECTION,
            "state",
        )
    kinds = {
        control.kind for entry in model.config.sequence_batching.control_input for control in entry.control
    }
    for index, state in enumerate(states):
        where = (SECTION, "state", index)
        if not state.initial_state and Control.CONTROL_SEQUENCE_START not in kinds:
            yield model.finding(
                "TV404",
                f"state {state.input_name!r} has no initial_state, and no START control to mask it: a "
                "sequence begins with whatever is in that memory",
                "add initial_state { name: ... data_type: ... dims: ... zero_data: true }",
                *where,
            )
        yield from _initial_state(model, state, where)
        yield from _memory(model, state, where)


def _answered_states(model: Model) -> Iterator[Finding]:
    """NVIDIA's backend spoils the shape of a state that it has answered with, for all but one of a batch."""
    batch = model.signature.max_batch_size or 0
    outputs = model.signature.outputs or {}
    if model.backend != "onnxruntime" or batch < 2:
        return
    for index, state in enumerate(model.config.sequence_batching.state):
        if state.output_name in outputs:
            completed = "" if model.config.output else ", as auto-complete lists all outputs of the graph"
            yield model.finding(
                "TV413",
                f"state {state.output_name!r} is also an output{completed}: in the container, of sequences "
                "that share "
                "a batch all but one request fail and lose their state",
                "give the output a tensor of its own in the graph (Identity), or set max_batch_size: 1"
                if model.config.output
                else f"list the outputs that clients get, without {state.output_name!r}",
                SECTION, "state", index, "output_name",
            )  # fmt: skip


def _shared(model: Model, states: Any) -> Iterator[Finding]:
    for field in ("input_name", "output_name"):
        counts = Counter(getattr(state, field) for state in states)
        for name, count in counts.items():
            if count > 1 or not name:
                last = max(index for index, state in enumerate(states) if getattr(state, field) == name)
                yield model.finding(
                    "TV410",
                    f"{count} states have {field} {name!r}" if name else f"a state has no {field}",
                    "give each state two tensors of its own",
                    SECTION, "state", last,
                )  # fmt: skip


def _initial_state(model: Model, state: Any, where: tuple[Any, ...]) -> Iterator[Finding]:
    problems = []
    if len(state.initial_state) > 1:
        problems.append((f"there are {len(state.initial_state)} of them", "keep one"))
    for initial in state.initial_state[:1]:
        dims, expected = list(initial.dims), list(state.dims)
        if not initial.name:
            problems.append(("it has no name", "add name: ..., any will do"))
        if any(dim < 1 for dim in dims):
            problems.append((f"its dims {dims} are open", "write the size that a sequence begins with"))
        elif not loosely_equal(dims, expected):
            problems.append((f"its dims are {dims}, the state's {expected}", "write the state's dims"))
        elif dims != (ones := [1 if dim == -1 else dim for dim in expected]):
            yield model.finding(
                "TV403",
                f"initial_state of {state.input_name!r}: its dims are {dims}, but Triton feeds the first "
                f"request a state of {ones}: open dims begin with 1",
                f"write dims: {ones}, or close the state's dims",
                *where,
                "initial_state",
                severity=WARNING,
            )
        if initial.data_type != state.data_type:
            ours, theirs = data_type_name(initial.data_type), data_type_name(state.data_type)
            problems.append((f"it is {ours}, the state {theirs}", f"write data_type: {theirs}"))
        if not initial.WhichOneof("state_data"):
            problems.append(("it has no data", "add zero_data: true, or a data_file"))
        elif initial.data_file:
            yield from _initial_data(model, state, initial, where)
    for problem, fix in problems:
        yield model.finding(
            "TV403", f"initial_state of {state.input_name!r}: {problem}", fix, *where, "initial_state"
        )


def _initial_data(model: Model, state: Any, initial: Any, where: tuple[Any, ...]) -> Iterator[Finding]:
    shown = f"{INITIAL_STATE}/{initial.data_file}"
    file = model.folder / INITIAL_STATE / initial.data_file
    problem, fix, severity = "", "", None
    if not file.is_file():
        problem, fix = f"there is no {shown} in {model.name}/", "put the file there"
    elif not file.resolve().is_relative_to(model.folder.resolve()):
        problem, severity = f"{shown} is outside the model's folder", WARNING
        fix = f"copy the file into {model.name}/{INITIAL_STATE}/"
    else:
        width = BYTES.get(data_type_name(initial.data_type), 0)  # text comes with its lengths, in any number
        needed, size = math.prod(initial.dims) * width, file.stat().st_size
        if needed > 0 and size < needed:
            problem = f"{shown} has {size} bytes, its dims and type need {needed}"
            fix = "give the raw values of the tensor"
        elif needed > 0 and size > needed:
            problem, severity = f"{shown} has {size} bytes, of which Triton reads {needed}", WARNING
            fix = "give the raw values of the tensor, in the state's type and dims"
    if problem:
        yield model.finding(
            "TV403",
            f"initial_state of {state.input_name!r}: {problem}",
            fix,
            *where,
            "initial_state",
            severity=severity,
        )


def _memory(model: Model, state: Any, where: tuple[Any, ...]) -> Iterator[Finding]:
    if not state.use_growable_memory:
        return
    kinds = {group.kind for group in model.config.instance_group}
    if not state.use_same_buffer_for_input_output:
        problem, fix = "use_same_buffer_for_input_output is off", "switch it on"
    elif kinds & {ModelInstanceGroup.KIND_CPU, ModelInstanceGroup.KIND_MODEL}:
        problem, fix = "the instances are not KIND_GPU", "write kind: KIND_GPU, or remove use_growable_memory"
    else:
        return
    yield model.finding(
        "TV409", f"state {state.input_name!r} uses growable memory, but {problem}", fix, *where
    )


def _controls_of_graph(model: Model, graph: LintedGraph) -> Iterator[Finding]:
    skip = 1 if model.config.max_batch_size > 0 else 0
    for index, entry in enumerate(model.config.sequence_batching.control_input):
        tensor = graph.inputs.get(entry.name)
        where = (SECTION, "control_input", index)
        if tensor is None:
            yield model.finding(
                "TV406",
                f"the graph has no input {entry.name!r}; it has {', '.join(map(repr, graph.inputs))}",
                near(entry.name, graph.inputs) or "remove the control, or write a name of the graph",
                *where,
            )
            continue
        expected = next((name for control in entry.control if (name := _control_type(control))), "")
        if expected and tensor.data_type != expected:
            yield model.finding(
                "TV406",
                f"control input {entry.name!r} is {expected} in the config, {tensor.data_type} in the graph",
                f"write the values as {tensor.data_type}, or cast in the graph",
                *where,
            )
        if tensor.dims[skip:] != (1,) or not tensor.dims:
            yield model.finding(
                "TV406",
                f"a control input has dims [1] after the batch; the graph has {tensor.shape}",
                "reshape it in the graph",
                *where,
            )


def _control_type(control: Any) -> str:
    if control.kind == CORRELATION_ID:
        return data_type_name(control.data_type)
    return next((data_type for name, data_type in FLAG_TYPES.items() if getattr(control, name)), "")


def _state_of_graph(model: Model, index: int, state: Any, graph: LintedGraph) -> Iterator[Finding]:
    known = {**graph.inputs, **graph.overridable}
    for kind, name, tensors in (
        ("input", state.input_name, known),
        ("output", state.output_name, graph.outputs),
    ):
        tensor = tensors.get(name)
        if tensor is None:
            problem = f"the graph has no {kind} {name!r}; it has {', '.join(map(repr, tensors)) or 'none'}"
            fix = near(name, tensors) or "write a name of the graph"
        else:
            problem, fix = _difference(model, kind, state, tensor)
        if problem:
            yield model.finding("TV405", problem, fix, SECTION, "state", index, f"{kind}_name")


def _difference(model: Model, kind: str, state: Any, tensor: LintedTensor) -> tuple[str, str]:
    data_type, dims = data_type_name(state.data_type), list(state.dims)
    batch = model.config.max_batch_size
    expected = tensor.dims[1:] if batch > 0 else tensor.dims
    if data_type != tensor.data_type:
        problem = (
            f"state {kind} {tensor.name!r} is {data_type} in the config and {tensor.data_type} in the graph"
        )
        return problem, f"write data_type: {tensor.data_type}"
    if not loosely_equal(dims, expected):
        where = " (the first is the batch)" if batch > 0 else ""
        problem = f"state {kind} {tensor.name!r} has dims {dims}, and {tensor.shape} in the graph{where}"
        return problem, f"write dims: {list(expected)}; a state's first dim in the graph is the batch"
    if batch > 1 and tensor.dims[0] != -1:
        problem = f"max_batch_size is {batch}, the batch of state {kind} {tensor.name!r} is {tensor.dims[0]}"
        return problem, "export the state with an open batch as its first dimension"
    return "", ""
