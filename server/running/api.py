"""The launcher's own conversation with tritonserver, over HTTP."""

import contextlib
import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from ..errors import NoAnswerError, RepositoryError, ServerError
from .grpc_load import can_load_over_grpc, load_over_grpc
from .triton_log import in_operators_words

__all__ = ["Api", "Batching", "ModelStatus"]

TIMEOUT_S = 10.0
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
UNLOAD_TIMEOUT_S = 60.0  # it is answered at once, but by a machine that may be busy
UNLOADING_S = 2.0  # one whose process died in the middle of a request may be unloaded for ever
POLL_INTERVAL_S = 0.05


@dataclass(frozen=True)
class ModelStatus:
    """One version of one model, as the server's repository index tells it.

    state: "READY", "UNAVAILABLE", "LOADING" or "UNLOADING"; "" for a model that was never loaded.
    reason: why it is not ready; "" where there is nothing to say.
    """

    name: str
    version: str
    state: str
    reason: str

    @property
    def ready(self) -> bool:
        """Whether this version takes requests."""
        return self.state == "READY"

    def because(self, reasons: Mapping[str, str]) -> "ModelStatus":
        """This, with the reason that others know where the index tells none."""
        return self if self.ready or self.reason else replace(self, reason=reasons.get(self.name, ""))


@dataclass(frozen=True)
class Batching:
    """What a model's configuration says of batches and of its queue.

    preferred: the smallest preferred batch size. longest_queue: how many requests may wait. 0: no word of it.
    """

    preferred: int
    longest_queue: int


class Api:
    """Requests to the tritonserver at `url` (host:port), with the headers that open its restricted APIs.

    grpc_url, metadata: the same for gRPC, over which models are loaded; None where it is not to be had.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], grpc_url: str | None, metadata: Mapping[str, str]
    ):
        self.url = url
        self._headers = dict(headers)
        self._grpc_url = grpc_url if can_load_over_grpc() else None
        self._metadata = dict(metadata)

    def request(
        self,
        method: str,
        path: str,
        timeout_s: float = TIMEOUT_S,
        body: str | bytes = b"",
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> tuple[int, bytes]:
        """Status and body of the answer. Raises `NoAnswerError` if there is none."""
        connection = http.client.HTTPConnection(self.url, timeout=timeout_s)
        try:
            sent = body if method == "POST" else None
            connection.request(method, path, body=sent, headers={**self._headers, **headers})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise NoAnswerError(f"tritonserver does not answer on {self.url}: {reason}") from error
        finally:
            connection.close()

    def live(self) -> bool:
        """False, too, where nothing answers."""
        with contextlib.suppress(NoAnswerError):
            return self.request("GET", "/v2/health/live")[0] == 200
        return False

    def ready(self) -> bool:
        """tritonserver's own readiness, which is not all (`TritonServer.ready`). Raises `NoAnswerError`."""
        return self.request("GET", "/v2/health/ready")[0] == 200

    def index(self) -> list[ModelStatus]:
        """By name.

        Raises `RepositoryError` if the repository cannot be read now, though models of it may be served;
        `ServerError` if it is refused, `NoAnswerError` if nothing answers.
        """
        status, body = self.request("POST", "/v2/repository/index")
        if status == 500:
            raise RepositoryError(f"tritonserver cannot read the model repository: {_message(body)}")
        if status != 200:
            raise ServerError(f"tritonserver answered {status} to a repository index: {_message(body)}")
        return [
            ModelStatus(
                entry["name"],
                entry.get("version", ""),
                entry.get("state", ""),
                in_operators_words(entry.get("reason", "")),
            )
            for entry in sorted(_json(body), key=lambda entry: entry["name"])
        ]

    def load(self, model: str, timeout_s: float, config: str = "") -> None:
        """Load a model, with the configuration `config` (JSON) where that is not its own.

        One that is being unloaded is waited for, if that ends soon: as it was loaded meanwhile, Triton 2.51
        ended (SIGSEGV). Raises `ServerError` with tritonserver's reason if it did not, or `NoAnswerError`.
        """
        deadline = time.monotonic() + UNLOADING_S
        while time.monotonic() < deadline and self._is_being_unloaded(model):
            time.sleep(POLL_INTERVAL_S)
        if self._grpc_url:
            load_over_grpc(self._grpc_url, self._metadata, model, timeout_s, config)
        else:
            body = json.dumps({"parameters": {"config": config}}) if config else ""
            self._control(model, "load", timeout_s, body)

    def _is_being_unloaded(self, model: str) -> bool:
        return any(one.name == model and one.state == "UNLOADING" for one in self.index())

    def config(self, model: str) -> str:
        """A model's configuration as it is served, in JSON. Raises `ServerError`, or `NoAnswerError`."""
        status, body = self.request("GET", f"/v2/models/{quote(model, safe='')}/config")
        if status != 200:
            raise ServerError(f"tritonserver does not tell the configuration of {model}: {_message(body)}")
        return body.decode()

    def unload(self, model: str) -> None:
        """Does not wait for its requests in flight. Raises `ServerError` if it is refused."""
        self._control(model, "unload", UNLOAD_TIMEOUT_S)

    def _control(self, model: str, action: str, timeout_s: float, body: str = "") -> None:
        path = f"/v2/repository/models/{quote(model, safe='')}/{action}"
        status, answer = self.request("POST", path, timeout_s, body)
        if status != 200:
            raise ServerError(in_operators_words(_message(answer)) or f"tritonserver answered {status}")

    def loaded(self) -> set[str]:
        """Models that are served, also those that have gone from the repository, which the index leaves out.

        Raises `ServerError`, or `NoAnswerError`.
        """
        status, body = self.request("GET", "/v2/models/stats")
        if status != 200:
            raise ServerError(f"tritonserver does not tell its models: {_message(body)}")
        return {str(model["name"]) for model in _json(body)["model_stats"]}

    def statistics(self, model: str) -> tuple[int, int]:
        """How many inferences a model has answered since it was loaded, and in how many executions.

        All versions together. Raises `ServerError` for a model that is not loaded.
        """
        status, body = self.request("GET", f"/v2/models/{quote(model, safe='')}/stats")
        if status != 200:
            raise ServerError(f"tritonserver has no statistics of {model}: {_message(body)}")
        versions = _json(body)["model_stats"]
        return (
            sum(version["inference_count"] for version in versions),
            sum(version["execution_count"] for version in versions),
        )

    def batching(self, model: str) -> Batching:
        """As the model was loaded. Raises `ServerError` for a model that is not loaded."""
        status, body = self.request("GET", f"/v2/models/{quote(model, safe='')}/config")
        if status != 200:
            raise ServerError(f"tritonserver has no configuration of {model}: {_message(body)}")
        asked = _json(body).get("dynamic_batching", {})
        queue = asked.get("default_queue_policy", {})
        return Batching(min(asked.get("preferred_batch_size", []), default=0), queue.get("max_queue_size", 0))


def _json(body: bytes) -> Any:
    """What it says; tritonserver takes names of folders as they are, which need not be UTF-8."""
    return json.loads(body.decode(errors="replace"))


def _message(body: bytes) -> str:
    try:
        return str(_json(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")
