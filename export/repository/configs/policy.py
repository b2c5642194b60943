"""The policy that a model starts with, comments included. People then edit it; exports keep it."""

import sys
from collections.abc import Mapping, Sequence

from tritonclient.grpc.model_config_pb2 import (
    ModelConfig,
    ModelDynamicBatching,
    ModelInstanceGroup,
    ModelQueuePolicy,
    ModelWarmup,
)

from export.repository.configs.contract import print_config
from export.sources.specs.spec import TRITON_TYPES, ModelSpec, Tensor

__all__ = ["default_policy", "default_policy_text", "instance_policy"]

HOST_POLICIES = ("lower_cores", "upper_cores")  # of server/environment/host_policies.py; an instance each
THREADS = 1  # of one operator, per instance
PREFERRED_BATCH_SIZES = (4, 8, 16, 32)
QUEUE_TIMEOUT_US = 5_000_000
WARMUP_VARIABLE_SIZE = 256  # for dims of -1
SEQUENCES = 128  # live ones per instance
SEQUENCE_IDLE_US = 30_000_000

COMMENTS = {
    "sequence_batching": f"""\
Requests of one correlation ID run one after the other, on the instance that keeps their states; those of
different sequences share batches. Each instance has {SEQUENCES} sequences at a time; the next ones wait for a
place, or are refused when the `timeout` that their first request gives is over.
A sequence that sends nothing for {SEQUENCE_IDLE_US // 1_000_000} seconds is ended, and its states are freed.
There is no warm-up: its requests would belong to no sequence.""",
    "dynamic_batching": """\
Requests that wait together run together, in the largest of these sizes that the queue fills; an idle
instance takes what there is at once. What is left in the queue keeps the other instance busy
(docs/decisions/0005). On a GPU, measure larger ones.
The queue is bounded: an overloaded server refuses at once (REJECT, the default), it is not just late. A model
that takes well under a millisecond is better off without default_queue_policy (docs/decisions/0013).
Keep this section even when it is empty: without it nothing is ever batched.""",
    "instance_group": """\
On the GPU where there is one, else on the CPU (KIND_AUTO, the default). On a CPU, instances times
threads should equal the cores: two instances of one thread each, as here, beat one instance of two
threads under load. `python -m server` defines the host policies, a half of the cores each, so that two
busy instances never share a core; a tritonserver without them ignores their names (docs/decisions/0005).""",
    "intra_op_thread_count": "Threads of one operator, per instance; 0 is one per core.",
    "cpu_batch_size": """\
On a CPU a batch is computed so many items at a time: the activations of more leave the processor's cache, and
take memory that stays taken (docs/decisions/0009). A GPU, and NVIDIA's backend, ignore it.""",
    "sequence_restart": """\
A START with the correlation ID of a live sequence is an error, and that sequence goes on. This is for pip
Triton; in the container such a START begins the sequence anew (docs/decisions/0008).""",
    "model_warmup": "The first request after loading is then as fast as the next.",
}


def instance_policy() -> ModelConfig:
    """Two instances of one thread each, a half of the cores for each of them."""
    config = ModelConfig()
    for host_policy in HOST_POLICIES:
        config.instance_group.add(count=1, kind=ModelInstanceGroup.KIND_AUTO, host_policy=host_policy)
    config.parameters["intra_op_thread_count"].string_value = str(THREADS)
    return config


def default_policy(spec: ModelSpec, sizes: Mapping[str, Sequence[int]] | None = None) -> ModelConfig:
    """Dynamic batching, a queue bounded as the spec says, two instances, warm-up with one item.

    A model with states has sequences instead, a bounded number of them, and no warm-up. One that does not
    batch has no dynamic batching. `sizes` are an input's dims to warm up with, by name, where dims are open.
    """
    config = instance_policy()
    if spec.cpu_batch_size:
        config.parameters["cpu_batch_size"].string_value = str(spec.cpu_batch_size)
    if spec.states:
        sequences = config.sequence_batching
        sequences.max_sequence_idle_microseconds = SEQUENCE_IDLE_US
        sequences.oldest.max_candidate_sequences = SEQUENCES
        sequences.oldest.preferred_batch_size.extend(_preferred(spec))
        config.parameters["sequence_restart"].string_value = "refuse"
        return config
    if spec.max_batch_size:
        _batch(config.dynamic_batching, spec)
    if any(tensor.dtype == "object" for tensor in spec.inputs):
        return config  # no string is right for every model
    # A full batch, too, would cost each start five times what it spares the first such request (0035).
    warmup = config.model_warmup.add(name="batch of 1", batch_size=1)
    for tensor in spec.inputs:
        dims = [_warm_size(tensor, index) for index in range(len(tensor.dims))] or [1]
        warmup.inputs[tensor.name].CopyFrom(
            ModelWarmup.Input(
                data_type=TRITON_TYPES[tensor.dtype],
                dims=(sizes or {}).get(tensor.name, dims) or [1],
                zero_data=True,
            )
        )
    return config


def _batch(batching: ModelDynamicBatching, spec: ModelSpec) -> None:
    batching.preferred_batch_size.extend(_preferred(spec))
    if spec.queue_limit:
        batching.default_queue_policy.CopyFrom(
            ModelQueuePolicy(
                timeout_action=ModelQueuePolicy.REJECT,
                default_timeout_microseconds=QUEUE_TIMEOUT_US,
                allow_timeout_override=True,
                max_queue_size=spec.queue_limit,
            )
        )


def _preferred(spec: ModelSpec) -> list[int]:
    return [size for size in PREFERRED_BATCH_SIZES if size <= spec.max_batch_size]


def default_policy_text(spec: ModelSpec, sizes: Mapping[str, Sequence[int]] | None = None) -> str:
    """`default_policy` as text, each field and parameter under a comment that says why it is there."""
    config, sections = default_policy(spec, sizes), []
    for name, comment in COMMENTS.items():
        section = _section(config, name)
        if section.ListFields():
            lines = "".join(f"# {line}\n" for line in comment.splitlines())
            sections.append(lines + print_config(section))
    return "\n".join(sections)


def _warm_size(tensor: Tensor, index: int) -> int:
    most = tensor.most(index)
    return most if tensor.dims[index] != -1 else min(WARMUP_VARIABLE_SIZE, most if most > 0 else sys.maxsize)


def _section(config: ModelConfig, name: str) -> ModelConfig:
    """One field of a config, or one of its parameters, alone."""
    section = ModelConfig()
    if name in config.parameters:
        section.parameters[name].CopyFrom(config.parameters[name])
    elif name in {field.name for field, _ in config.ListFields()}:
        section.CopyFrom(config)
        for field, _ in config.ListFields():
            if field.name != name:
                section.ClearField(field.name)
    return section
