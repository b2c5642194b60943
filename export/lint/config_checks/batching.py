"""TV301 to TV303, TV305 to TV307, TV314, TV316: the schedulers, but for what is of sequences alone."""

import operator
import re
from collections.abc import Iterator
from typing import Any

from tritonclient.grpc import model_config_pb2
from tritonclient.grpc.model_config_pb2 import ModelDynamicBatching, ModelQueuePolicy

from export.lint.reading.release_schema import lacking
from export.lint.reading.repository import Model, Repository
from export.lint.rules import ERROR, Finding

__all__ = ["check", "limits_queue"]

# Their models gain by the dynamic batcher. TensorRT, TensorFlow and OpenVINO switch it on where no scheduler
# is given, also if all tensors are listed; backends such as vLLM batch on their own.
BATCHED_BACKENDS = {"onnxruntime", "python", "pytorch"}
LONG_DELAY_US = 1_000_000
LONGEST_IDLE_US = 3_600_000_000  # the gateway forgets a sequence after as long
TEXT = model_config_pb2.TYPE_STRING
FRAMEWORK = re.compile(
    r"^\s*(?:import|from)\s+(?:torch|tensorflow|onnxruntime|tensorrt|jax|flax|paddle|openvino|keras|mxnet|tf_keras|"
    r"transformers|sentence_transformers|ultralytics|timm|diffusers|xgboost|lightgbm|sklearn)\b",
    re.MULTILINE,
)


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """TV301 to TV303, TV305 to TV307, TV314 and TV316; of sequence batching, preferred sizes, delays and how
    long one may idle.

    The repository says which models others call: such need no batching if they are Python, and no bounds, as
    what calls them has those.
    """
    config = model.config
    if config.HasField("sequence_batching"):
        yield from _preferred(model, ("sequence_batching", "oldest"), config.sequence_batching.oldest)
        for strategy in ("oldest", "direct"):
            if config.sequence_batching.HasField(strategy):
                batcher = getattr(config.sequence_batching, strategy)
                yield from _delay(model, ("sequence_batching", strategy), batcher)
        yield from _idle(model)
    elif config.HasField("dynamic_batching"):
        yield from _preferred(model, ("dynamic_batching",), config.dynamic_batching)
        yield from _delay(model, ("dynamic_batching",), config.dynamic_batching)
        yield from _effect(model)
        yield from _priorities(model)
        yield from _lost_instances(model)
        if not _is_called(model, repository):
            yield from _unbounded(model)
    elif not config.HasField("ensemble_scheduling"):
        yield from _unbatched(model, repository)


def _unbatched(model: Model, repository: Repository) -> Iterator[Finding]:
    config = model.config
    if (
        config.max_batch_size > 1
        and config.input
        and config.output  # else auto-complete adds it
        and model.backend in BATCHED_BACKENDS
        and not config.model_transaction_policy.decoupled
        and "set_dynamic_batching" not in model.python_source
        and not (model.backend == "python" and _prepares(model, repository))
    ):
        yield model.finding(
            "TV301",
            f"max_batch_size is {config.max_batch_size}, but there is no dynamic_batching: requests never "
            "share an execution",
            "add dynamic_batching { }",
            "max_batch_size",
        )


def _prepares(model: Model, repository: Repository) -> bool:
    """Does this Python model prepare for other models, or finish what they did?

    Such steps work through their requests one by one, and gain nothing by a batch: what is a step of an
    ensemble or called by another Python model, takes or gives text (encoded images among it), or imports no
    framework for networks.
    """
    tensors = (*model.config.input, *model.config.output)
    if not FRAMEWORK.search(model.python_source) or any(entry.data_type == TEXT for entry in tensors):
        return True
    return _is_called(model, repository)


def _is_called(model: Model, repository: Repository) -> bool:
    """By an ensemble, or by the code of another model."""
    named = re.compile(rf"""["']{re.escape(model.name)}["']""")
    return any(
        any(step.model_name == model.name for step in other.config.ensemble_scheduling.step)
        or (other.name != model.name and named.search(other.python_source))
        for other in repository.variants
    )


def _preferred(model: Model, where: tuple[Any, ...], batcher: Any) -> Iterator[Finding]:
    largest = max(model.config.max_batch_size, 0)
    sizes = list(batcher.preferred_batch_size)
    wrong = [size for size in sizes if not 0 < size <= largest]
    if wrong:  # core asks before auto-complete may raise max_batch_size
        yield model.finding(
            "TV302",
            f"preferred_batch_size {wrong} is not between 1 and max_batch_size, which is {largest}",
            "raise max_batch_size, or prefer smaller sizes" if largest else "set max_batch_size",
            *where,
            "preferred_batch_size",
        )
    elif sizes and max(sizes) == 1 and largest > 1:
        yield model.finding(
            "TV305",
            "preferred_batch_size is 1: whatever waits is cut down to batches of one",
            "leave preferred_batch_size out, then batches grow up to max_batch_size",
            *where,
            "preferred_batch_size",
        )


def _delay(model: Model, where: tuple[Any, ...], batcher: Any) -> Iterator[Finding]:
    delay = batcher.max_queue_delay_microseconds
    if delay >= LONG_DELAY_US:
        yield model.finding(
            "TV307",
            f"max_queue_delay_microseconds is {delay}: a lone request waits {delay / 1e6:g} s",
            "the unit is microseconds; some hundreds are usual",
            *where,
            "max_queue_delay_microseconds",
        )


def limits_queue(batching: ModelDynamicBatching) -> bool:
    """Whether requests may be refused or reordered: no batch is then formed ahead (docs/decisions/0013)."""
    policy = batching.default_queue_policy
    return bool(
        policy.max_queue_size
        or policy.default_timeout_microseconds
        or policy.allow_timeout_override
        or batching.priority_levels
    )


def _lost_instances(model: Model) -> Iterator[Finding]:
    """Triton's count of waiting instances sinks by one with each merge of two batches, for good."""
    batching, groups = model.config.dynamic_batching, model.config.instance_group
    alone = groups and sum(group.count or 1 for group in groups) == 1
    losing = lacking("dispatch without lost instances", model.releases)
    if losing and batching.max_queue_delay_microseconds and limits_queue(batching) and not alone:
        yield model.finding(
            "TV314",
            "a queue delay together with a limited queue: each time Triton merges two waiting batches it "
            "counts one instance less, until none is left and requests wait for ever",
            "remove max_queue_delay_microseconds, or the limits of the queue",
            "dynamic_batching",
            "max_queue_delay_microseconds",
            releases=losing,
        )


def _unbounded(model: Model) -> Iterator[Finding]:
    """Of each priority level that requests can have."""
    batching = model.config.dynamic_batching
    levels = batching.priority_levels  # a uint64: as many are not counted through
    of_levels = {
        level: policy for level, policy in batching.priority_queue_policy.items() if 1 <= level <= levels
    }
    policies = [*sorted(of_levels.items(), key=operator.itemgetter(0))]
    if len(of_levels) < max(1, levels):
        policies.append((0, batching.default_queue_policy))
    for level, policy in policies:
        lacks = []
        if not policy.max_queue_size:
            lacks.append("max_queue_size, so under overload the queue grows until memory ends")
        if not policy.default_timeout_microseconds:
            lacks.append("default_timeout_microseconds, so a request waits however long that takes")
        elif policy.timeout_action == ModelQueuePolicy.DELAY:
            lacks.append("timeout_action: REJECT, so a request that is late waits on, behind all others")
        if lacks:
            where = ("priority_queue_policy", str(level)) if level else ("default_queue_policy",)
            delayed = batching.max_queue_delay_microseconds and lacking(
                "dispatch without lost instances", model.releases
            )
            yield model.finding(
                "TV316",
                f"the queue{f' of priority {level}' if level else ''} has no {'; and no '.join(lacks)}",
                f"{'remove max_queue_delay_microseconds (TV314) and ' if delayed else ''}write "
                "default_queue_policy { max_queue_size: 256 default_timeout_microseconds: 5000000 }, "
                "or bound the load in front of it",
                "dynamic_batching",
                *where,
            )
            return


def _idle(model: Model) -> Iterator[Finding]:
    """What waits in Triton's sequence batcher waits for a slot: nothing else bounds it."""
    idle_us = model.config.sequence_batching.max_sequence_idle_microseconds
    if idle_us > LONGEST_IDLE_US:
        yield model.finding(
            "TV316",
            f"max_sequence_idle_microseconds is {idle_us}: a client that has gone keeps its slot for "
            f"{idle_us / 3.6e9:g} hours, for which the next sequence may wait",
            "the unit is microseconds; write as long as a client may pause",
            "sequence_batching",
            "max_sequence_idle_microseconds",
        )


def _effect(model: Model) -> Iterator[Finding]:
    batching = model.config.dynamic_batching
    queue = batching.HasField("default_queue_policy") or batching.priority_levels
    batches_nothing = model.signature.max_batch_size == 0 and not batching.preferred_batch_size
    if batches_nothing and not queue and not batching.preserve_ordering:
        yield model.finding(
            "TV303",
            "max_batch_size is 0, so dynamic_batching never puts two requests together",
            "set max_batch_size and leave the batch out of dims, or remove dynamic_batching",
            "dynamic_batching",
        )


def _priorities(model: Model) -> Iterator[Finding]:
    batching, where = model.config.dynamic_batching, "dynamic_batching"
    levels, default = batching.priority_levels, batching.default_priority_level
    if levels and not 1 <= default <= levels:
        yield model.finding(
            "TV306",
            f"there are {levels} priority levels and default_priority_level is {default}",
            f"write a level from 1 to {levels}",
            where,
            "default_priority_level" if default else "priority_levels",
        )
    for level in sorted(batching.priority_queue_policy):
        if levels and not 1 <= level <= levels:
            yield model.finding(
                "TV306",
                f"there is a queue policy for priority {level}, but the levels are 1 to {levels}",
                "correct the level, or raise priority_levels",
                where,
                "priority_queue_policy",
                str(level),
            )
    if not levels and (default or batching.priority_queue_policy):
        yield model.finding(
            "TV306",
            "priorities are set, but priority_levels is 0: they have no effect",
            "set priority_levels",
            where,
            "default_priority_level" if default else "priority_queue_policy",
            severity="warning",
        )
    if batching.preserve_ordering:
        if levels > 1:
            yield model.finding(
                "TV306",
                f"preserve_ordering allows one priority level, there are {levels}",
                "remove one of the two",
                where,
                "preserve_ordering",
            )
        policies = [batching.default_queue_policy, *batching.priority_queue_policy.values()]
        if any(
            policy.default_timeout_microseconds and policy.timeout_action == ModelQueuePolicy.DELAY
            for policy in policies
        ):
            yield model.finding(
                "TV306",
                "preserve_ordering does not allow a queue policy whose timeout_action is DELAY",
                "write REJECT, or remove preserve_ordering",
                where,
                "preserve_ordering",
                severity=ERROR,
            )
