"""LitServe: requests pass from its HTTP process through queues to worker processes, which batch.

A worker waits at most a millisecond for a batch to fill: a lone request would wait longer for nobody.
"""

import os
from typing import Annotated

import litserve as ls
from fastapi import Body
from work import open_work

MAX_BATCH_SIZE = 8
BATCH_TIMEOUT_S = 0.001


class WorkApi(ls.LitAPI):
    """The job as LitServe's steps, in the order in which a request passes."""

    def setup(self, device):
        """Opens the job, once in each worker process."""
        self.work = open_work()

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/octet-stream")]):
        """Raw bytes to an item of the job."""
        return self.work.prepare(request)

    def batch(self, inputs):
        """The items as a list, where LitServe would stack arrays."""
        return inputs

    def predict(self, x):
        """An answer for each item of a batch."""
        return self.work.infer(x)

    def unbatch(self, output):
        """The answers as they are, a list."""
        return output

    def encode_response(self, output):
        """An answer as it is: LitServe writes it as JSON."""
        return output


if __name__ == "__main__":
    server = ls.LitServer(
        WorkApi(max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_TIMEOUT_S, api_path="/infer"),
        accelerator="cpu",
        devices=1,
        workers_per_device=int(os.environ["PEER_WORKERS"]),
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PEER_PORT"]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
