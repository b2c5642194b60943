"""The part of a model's policy that a tuner may change, taken out of a config and put into one.

Nothing else of the config is touched: not its contract, not its queue policy, warm-up, cache or states.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from perf.harness.serving import THREADS_KEY
from perf.summaries.tune import policy_words

__all__ = ["SPINNING_KEY", "Batching", "Group", "Policy", "apply", "policy_of", "scheduler_of"]

SPINNING_KEY = "session.intra_op.allow_spinning"
SPINNING = {True: "1", False: "0"}


@dataclass(frozen=True)
class Group:
    """`count` instances; host_policy: the name of Triton's host policy that places them, "" for none."""

    count: int
    host_policy: str = ""


@dataclass(frozen=True)
class Batching:
    """preferred: batch sizes that the batcher waits for; delay_us: how long, in microseconds."""

    preferred: tuple[int, ...] = ()
    delay_us: int = 0


@dataclass(frozen=True)
class Policy:
    """One point of the search.

    groups    instance groups; none leaves Triton's default
    threads   of one operator, per instance; 0 is one per core, None leaves the config without that parameter
    batching  None leaves the model without a dynamic batcher
    spinning  whether idle threads of a session spin; None leaves the config without that parameter
    """

    groups: tuple[Group, ...] = ()
    threads: int | None = None
    batching: Batching | None = None
    spinning: bool | None = None

    def __str__(self) -> str:
        return policy_words(asdict(self))


def scheduler_of(config: ModelConfig) -> str:
    """Where the batching is written: "dynamic_batching", "sequence_batching" (of the kind `oldest`), or "".

    "" is a model whose batching has no settings: no batches at all, an ensemble, or direct sequences.
    """
    if config.HasField("sequence_batching"):
        return "sequence_batching" if config.sequence_batching.HasField("oldest") else ""
    return (
        "dynamic_batching" if config.max_batch_size > 1 and not config.HasField("ensemble_scheduling") else ""
    )


def batcher(config: ModelConfig) -> Any:
    """The message that holds `preferred_batch_size` and the queue delay; None where there is none."""
    if scheduler_of(config) == "sequence_batching":
        return config.sequence_batching.oldest
    return config.dynamic_batching if config.HasField("dynamic_batching") else None


def policy_of(config: ModelConfig) -> Policy:
    """What a config says; None, or no groups, for what it leaves out. A count below 1 is taken for 1."""
    written = batcher(config)
    return Policy(
        tuple(Group(max(1, group.count), group.host_policy) for group in config.instance_group),
        _number(config, THREADS_KEY),
        written
        and Batching(tuple(sorted(written.preferred_batch_size)), written.max_queue_delay_microseconds),
        None if (spinning := _number(config, SPINNING_KEY)) is None else bool(spinning),
    )


def apply(policy: Policy, config: ModelConfig) -> ModelConfig:
    """`config` with `policy`; what else a group says (kind, GPUs, rate limiter) is that of the first one."""
    changed = ModelConfig()
    changed.CopyFrom(config)
    if policy_of(config).groups != policy.groups:
        _set_groups(changed, policy.groups)
    for key, value in (
        (THREADS_KEY, None if policy.threads is None else str(policy.threads)),
        (SPINNING_KEY, None if policy.spinning is None else SPINNING[policy.spinning]),
    ):
        if value is None:
            changed.parameters.pop(key, None)
        else:
            changed.parameters[key].string_value = value
    if policy.batching is None:
        changed.ClearField("dynamic_batching")
    else:
        if scheduler_of(changed) == "dynamic_batching":
            changed.dynamic_batching.SetInParent()
        written = batcher(changed)
        if tuple(sorted(written.preferred_batch_size)) != policy.batching.preferred:
            written.preferred_batch_size[:] = policy.batching.preferred
        written.max_queue_delay_microseconds = policy.batching.delay_us
    return changed


def _set_groups(config: ModelConfig, groups: Sequence[Group]) -> None:
    template = ModelInstanceGroup()
    if config.instance_group:
        template.CopyFrom(config.instance_group[0])
        for field in ("name", "count", "host_policy"):
            template.ClearField(field)
    config.ClearField("instance_group")
    for group in groups:
        entry = config.instance_group.add()
        entry.CopyFrom(template)
        entry.count = group.count
        if group.host_policy:
            entry.host_policy = group.host_policy


def _number(config: ModelConfig, key: str) -> int | None:
    """A parameter's number; 0 where it is not a number, which the backend will say itself."""
    if key not in config.parameters:
        return None
    text = config.parameters[key].string_value.strip().lower()
    return {"true": 1, "false": 0}.get(text, int(text) if text.lstrip("-").isdigit() else 0)
