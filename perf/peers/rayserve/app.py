"""Ray Serve: an HTTP proxy in front of replicas, each batching with @serve.batch.

A batch waits at most a millisecond to fill. Ray's own processes (GCS, raylet, dashboard agent) share the
machine, as they do wherever Ray runs on one node.
"""

import os
import signal

import ray
from ray import serve
from work import open_work

MAX_BATCH_SIZE = 8
BATCH_WAIT_S = 0.001
WORKERS = int(os.environ["PEER_WORKERS"])


@serve.deployment(
    num_replicas=WORKERS,
    max_ongoing_requests=64,
    ray_actor_options={"num_cpus": 1},
    logging_config={"enable_access_log": False},  # nobody else writes a line for each request
)
class ReplicatedWork:
    """One replica, which opens the job once; a request is answered by calling it."""

    def __init__(self):
        self.work = open_work()

    @serve.batch(max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=BATCH_WAIT_S)
    async def infer(self, bodies: list[bytes]) -> list:
        """Takes the bytes of one request each time; Ray calls it with the batch of them."""
        return self.work.infer([self.work.prepare(body) for body in bodies])

    async def __call__(self, request):
        """Takes one HTTP request, raw bytes; Ray writes the answer as JSON."""
        return await self.infer(await request.body())


if __name__ == "__main__":
    names = [name for name in os.environ if name.startswith("PEER_")]
    variables = {name: os.environ[name] for name in [*names, "PYTHONPATH", "OMP_NUM_THREADS"]}
    ray.init(
        num_cpus=WORKERS,
        include_dashboard=False,
        _temp_dir=os.environ["PEER_SCRATCH"],
        runtime_env={"env_vars": variables},
    )
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(os.environ["PEER_PORT"])},
        logging_config={"enable_access_log": False},
    )
    serve.run(ReplicatedWork.bind(), route_prefix="/infer")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
