"""What the launcher tells Prometheus: what had to be replaced, and what models were configured to do.

tritonserver's own metrics say how many requests wait and how large batches are, not how many may wait and how
large batches should be; alerts need both.
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from ..errors import ServerError
from ..running.api import Batching

__all__ = ["CONTENT_TYPE", "ModelSettings", "Watched", "metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FRESH_S = 60.0  # a model's configuration changes with a load at most


class Restarted(Protocol):
    """What counts how often it was started again."""

    @property
    def restarts(self) -> int:
        """Since the launcher's start."""


class Watched(Protocol):
    """Whom a page asks: a `Supervisor`, or whoever watches over several servers."""

    starting: bool

    @property
    def server_restarts(self) -> int:
        """Times that tritonserver ended and was started again."""

    @property
    def gateways(self) -> Mapping[str, Restarted]:
        """Other processes that are watched, by their names: "tfserving", "gateway"."""

    def exporters(self) -> dict[str, str]:
        """See `Supervisor.exporters`; so for the others."""

    def troubles(self) -> dict[str, str]:
        """See there."""

    def serves_despite(self, troubles: dict[str, str]) -> bool:
        """See there."""

    def stuck(self) -> str:
        """See there."""

    def no_answer(self, model: str) -> str:
        """See there."""

    def never_exported(self) -> dict[str, str]:
        """See there."""

    def deaths(self) -> Counter[str]:
        """See there."""

    def restarts(self) -> Counter[str]:
        """See there."""

    def batching(self) -> dict[str, Batching]:
        """See there."""


class ModelSettings:
    """The batching of the models that are served, up to `FRESH_S` seconds old; from any thread."""

    def __init__(self, supervisor: Watched):
        self._supervisor = supervisor
        self._lock = threading.Lock()
        self._known: tuple[float, dict[str, Batching]] = (float("-inf"), {})

    def batching(self) -> Mapping[str, Batching]:
        """By model; what was known before where tritonserver does not answer."""
        with self._lock:
            asked, known = self._known
            if time.monotonic() - asked > FRESH_S:
                try:
                    known = self._supervisor.batching()
                except ServerError:
                    return known
                self._known = (time.monotonic(), known)
            return known


def metrics(supervisor: Watched, troubles: Mapping[str, str], settings: Mapping[str, Batching]) -> str:
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
    for name, gateway in supervisor.gateways.items():
        lines += family(
            f"triton_vision_{name}_restarts_total",
            "counter",
            f"Times that the gateway of --{name} ended and was started again",
            {"": gateway.restarts},
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
