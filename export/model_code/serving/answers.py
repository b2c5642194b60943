"""Answers that leave while the next image is computed, the last one after `execute` gave the batch back.

Triton looks for an instance's next batch when a request arrives, and in vain while the instance is not
waiting yet (docs/decisions/0013). What `execute` returns is sent before it waits: clients that ask again at
once are often too early, and the instance stands still until somebody else asks (docs/decisions/0059).

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import triton_python_backend_utils as pb_utils
from unforeseen import failure, told

__all__ = ["Answers"]


class Answers:
    """Sends one answer at a time, in a thread of its own. `execute` then returns None."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.last: Future[None] | None = None

    def give(
        self, request: pb_utils.InferenceRequest, respond: Callable[[], pb_utils.InferenceResponse]
    ) -> None:
        """Have what `respond` returns sent to `request`; first waits for the answer before to be gone."""
        sender = request.get_response_sender()  # the request itself may not be kept
        if self.last:
            self.last.result()
        self.last = self.thread.submit(_send, sender, respond)

    def close(self) -> None:
        """Returns once the last answer is gone."""
        self.thread.shutdown()


def _send(
    sender: pb_utils.InferenceResponseSender, respond: Callable[[], pb_utils.InferenceResponse]
) -> None:
    try:
        try:
            response = respond()
        except Exception as error:  # nobody else would answer this request
            response = failure(error)
        sender.send(response, pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
    except Exception as error:  # stands in the server's log: a thread's own errors are not seen
        told(error)
