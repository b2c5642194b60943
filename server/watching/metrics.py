"""What the launcher tells Prometheus: what had to be replaced, and what models were configured to do.

tritonserver's own metrics say how many requests wait and how large batches are, not how many may wait and how
large batches should be; alerts need both.
"""

import threading
import time
from collections.abc import Mapping

from ..errors import ServerError
from ..running.api import Batching
from .supervisor import Supervisor

__all__ = ["CONTENT_TYPE", "ModelSettings", "metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FRESH_S = 60.0  # a model's configuration changes with a load at most


class ModelSettings:
    """The batching of the models that are served, up to `FRESH_S` seconds old; from any thread."""

    def __init__(self, supervisor: Supervisor):
        self._supervisor = supervisor
        self._lock = threading.Lock()
        self._known: tuple[float, dict[str, Batching]] = (float("-inf"), {})

    def batching(self) -> Mapping[str, Batching]:
        """By model; what was known before where tritonserver does not answer."""
        with self._lock:
            asked, known = self._known
            if time.monotonic() - asked > FRESH_S:
                try:
                    api = self._supervisor.server.run.api
                    served = sorted({model.name for model in api.index() if model.ready})
                    known = {name: api.batching(name) for name in served}
                except ServerError:
                    return known
                self._known = (time.monotonic(), known)
            return known


def metrics(supervisor: Supervisor, troubles: Mapping[str, str], settings: Mapping[str, Batching]) -> str:
    """In Prometheus's text format, version 0.0.4."""

    def family(name: str, kind: str, about: str, values: dict[str, int]) -> list[str]:
        lines = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
        return lines + [f"{name}{labels} {value}" for labels, value in values.items()]

    def by_model(counts: Mapping[str, int]) -> dict[str, int]:
        return {f'{{model="{_label(name)}"}}': count for name, count in sorted(counts.items())}

    lines = family("triton_vision_ready", "gauge", "1 if every model is served", {"": int(not troubles)})
    lines += family(
        "triton_vision_tritonserver_restarts_total",
        "counter",
        "Times that tritonserver ended and was started again",
        {"": supervisor.server_restarts},
    )
    if supervisor.gateway:
        lines += family(
            "triton_vision_tfserving_restarts_total",
            "counter",
            "Times that the gateway of --tfserving ended and was started again",
            {"": supervisor.gateway.restarts},
        )
    lines += family(
        "triton_vision_model_process_deaths_total",
        "counter",
        "Python processes of a model that died",
        by_model(supervisor.deaths()),
    )
    lines += family(
        "triton_vision_model_restarts_total",
        "counter",
        "Times that a model was loaded again because one of its processes had died",
        by_model(supervisor.restarts()),
    )
    lines += family(
        "triton_vision_preferred_batch_size",
        "gauge",
        "Smallest preferred_batch_size of a model that has some",
        by_model({name: asked.preferred for name, asked in settings.items() if asked.preferred}),
    )
    lines += family(
        "triton_vision_max_queue_size",
        "gauge",
        "Requests that may wait for a model whose queue is bounded",
        by_model({name: asked.longest_queue for name, asked in settings.items() if asked.longest_queue}),
    )
    return "\n".join(lines) + "\n"


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
