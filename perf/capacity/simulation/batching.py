"""What Triton's dynamic batcher does with the requests that wait, as config.pbtxt states it.

Followed from triton-inference-server/core, src/dynamic_batch_scheduler.cc (`GetDynamicBatch`), as of release
24.10. With a queue policy (max_queue_size, timeouts), as every config here has, a batch is formed when an
instance is free. Without one Triton also fills up to two batches an instance ahead; that is simulated in the
same way, so preferred sizes are reached later than Triton reaches them.
"""

from dataclasses import dataclass, replace

from tritonclient.grpc import model_config_pb2

__all__ = ["Batcher"]


@dataclass(frozen=True)
class Batcher:
    """The policy half of a config that decides who waits for whom.

    instances      over all groups
    max_batch_size 1: nothing is batched
    preferred      batch sizes, ascending
    delay_s        max_queue_delay_microseconds: how long the oldest request may wait for company
    max_queue_size requests that may wait; a further one is rejected; 0: any number
    timeout_s      a request that has waited longer is rejected; 0: never
    """

    instances: int = 1
    max_batch_size: int = 1
    preferred: tuple[int, ...] = ()
    delay_s: float = 0.0
    max_queue_size: int = 0
    timeout_s: float = 0.0

    @classmethod
    def of_config(cls, config: model_config_pb2.ModelConfig) -> "Batcher":
        """Read a model's config. Raises `ValueError` for sequence batching, and for an ensemble."""
        if config.HasField("sequence_batching") or config.HasField("ensemble_scheduling"):
            kind = "sequences" if config.HasField("sequence_batching") else "an ensemble"
            raise ValueError(f"the simulation has no batcher for {kind} ({config.name})")
        instances = sum(group.count or 1 for group in config.instance_group) or 1
        if not config.HasField("dynamic_batching") or config.max_batch_size < 1:
            return cls(instances)
        dynamic = config.dynamic_batching
        policy = dynamic.default_queue_policy
        rejects = policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
        return cls(
            instances,
            config.max_batch_size,
            # without preferred sizes Triton prefers the largest (core, src/model_config_utils.cc)
            tuple(sorted(dynamic.preferred_batch_size)) or (config.max_batch_size,),
            dynamic.max_queue_delay_microseconds / 1e6,
            policy.max_queue_size,
            policy.default_timeout_microseconds / 1e6 if rejects else 0.0,
        )

    def with_instances(self, instances: int) -> "Batcher":
        """The same policy over so many instances, of all groups together."""
        return replace(self, instances=instances)

    def take(self, waiting: int, oldest_waited_s: float) -> int:
        """How many of the waiting requests a free instance takes now; 0: the batcher waits for more."""
        most = min(waiting, self.max_batch_size)
        preferred = max((size for size in self.preferred if size <= most), default=0)
        over = self.delay_s > 0 and oldest_waited_s >= self.delay_s - 1e-9
        if preferred and not over:
            return preferred
        if not self.delay_s or over or waiting > self.max_batch_size:
            return most
        return 0
