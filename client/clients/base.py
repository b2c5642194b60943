"""What the blocking and the asyncio client have in common: their options and the checks on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, TypeAlias

from ..common import defaults
from ..conversation.classifier import ClassifierContract
from ..conversation.explainer import CONTRACTS, ExplainContract, ExplainTextContract
from ..conversation.faces import EmbedderContract, FacesContract, compared, search_parameters
from ..conversation.flows import Conversation, Settings
from ..conversation.objects import ObjectsContract, detection_parameters
from ..conversation.retrying import RetryPolicy
from ..conversation.text import ReadContract
from ..errors import InvalidInput, VisionError
from ..images.inputs import describe
from ..results import ExplanationMethod, FaceComparison, Reading
from ..transport.address import Address
from ..transport.ports import other_port
from ..transport.protocol import Flow, Question

__all__ = [
    "BaseClient",
    "Classes",
    "OnError",
    "Raise",
    "Return",
    "SharedMemory",
    "Thresholds",
    "checked",
    "line_of",
]

# Images read, sent or answered ahead of the one that the caller gets next: enough that a slow one does not
# idle the connections, few enough that a folder of any size fits into memory.
WINDOW_PER_CONNECTION = 2
MOST_INT32 = 2**31 - 1
LIKELIEST = -1  # as a class: the one of the highest score

Raise: TypeAlias = Literal["raise"]
Return: TypeAlias = Literal["return"]
OnError: TypeAlias = Raise | Return
Classes: TypeAlias = Sequence[int | str]
Thresholds: TypeAlias = tuple[float, float, float]
SharedMemory: TypeAlias = bool | Literal["system", "cuda"]


class BaseClient:
    """The options of both clients; see `__init__`."""

    def __init__(
        self,
        url: str | None = None,
        *,
        protocol: Literal["grpc", "http"] | None = None,
        timeout_s: float = defaults.TIMEOUT_S,
        retries: int = defaults.RETRIES,
        patience_s: float | None = defaults.PATIENCE_S,
        concurrency: int = defaults.CONCURRENCY,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        ssl: bool = False,
        root_certificates: str | None = None,
        private_key: str | None = None,
        certificate_chain: str | None = None,
        shared_memory: SharedMemory = False,
        allow_urls: bool = False,
    ) -> None:
        """Nothing is sent before the first question.

        url: "host", "host:port" or "grpc://", "grpcs://", "http://", "https://" and host:port. Without it
            $TRITON_VISION_URL, else localhost at port 8001 (gRPC) or 8000 (HTTP).
        protocol: "grpc" (the default) or "http".
        timeout_s: seconds; bounds one image, or one question, from first attempt to last, waits included.
        retries: how often to try again where nothing answers, the server is overloaded or a model not ready,
            after waits of about 0.1 s, 0.2 s and so on to 2 s; 0: never.
        patience_s: seconds to wait for a server, or model, that answered this client before and is gone, as
            while it restarts; on top of timeout_s, per image. None: as long as timeout_s allows. 0: as
            retries.
        concurrency: images on their way at a time.
        headers: sent with every request, for a gateway or Triton's restricted protocols.
        api_key: for a gateway; sent as `x-api-key`. Without it $TRITON_VISION_API_KEY, if there is one.
        ssl, root_certificates, private_key, certificate_chain: TLS; paths of PEM files; the last two for
            mutual TLS.
        shared_memory: hand inputs over in memory: True or "system" in /dev/shm, where client and server must
            share a host; "cuda" on the GPU, which they must share.
        allow_urls: fetch images that are given as http:// or https:// addresses, from where this client runs.

        Raises InvalidInput for an option that cannot be.
        """
        self._address = Address.parse(
            url,
            protocol,
            use_tls=ssl,
            root_certificates=root_certificates,
            private_key=private_key,
            certificate_chain=certificate_chain,
            headers=headers,
            api_key=api_key,
        )
        retry = RetryPolicy(retries, patience_s=patience_s)
        self._settings = Settings(timeout_s, retry, concurrency, shared_memory, allow_urls)
        identify = partial(other_port, self._address)
        self._conversation = Conversation(self._address.url, self._settings, identify)
        self._window = WINDOW_PER_CONNECTION * concurrency
        self._begin()

    def _begin(self) -> None:
        """What a subclass keeps for its connections."""

    @property
    def url(self) -> str:
        """The address with its protocol, for example "grpc://localhost:8001"."""
        return self._address.url

    @staticmethod
    def _classifying(top_k: int, model: str, on_error: OnError) -> Question[ClassifierContract]:
        _check_on_error(on_error)
        _check_whole_number("top_k", top_k)
        return Question(model, ClassifierContract, top_k)

    @staticmethod
    def _explaining(
        class_id: int | str | None, method: ExplanationMethod, model: str, on_error: OnError
    ) -> Question[ExplainContract]:
        _check_on_error(on_error)
        if method not in CONTRACTS:
            choices = " or ".join(f"'{known}'" for known in CONTRACTS)
            raise InvalidInput(f"method is {method!r}; give {choices}.")
        if isinstance(class_id, bool) or not isinstance(class_id, (int, str, type(None))):
            raise InvalidInput(f"class_id is {class_id!r}; give a class's number, its label, or None.")
        if isinstance(class_id, int) and class_id < LIKELIEST:
            raise InvalidInput(
                f"class_id is {class_id}; classes are counted from 0, and -1 is the likeliest."
            )
        if isinstance(class_id, int) and class_id > MOST_INT32:
            raise InvalidInput(f"class_id is {class_id}; no model has as many classes.")
        if isinstance(class_id, str) and not class_id.strip():
            raise InvalidInput("class_id is an empty label; give one, a class's number, or None.")
        return Question(model, CONTRACTS[method], class_id)

    @staticmethod
    def _explaining_text(
        beam_width: int | None, model: str, on_error: OnError
    ) -> Question[ExplainTextContract]:
        _check_on_error(on_error)
        if beam_width is not None:
            _check_whole_number("beam_width", beam_width)
        return Question(model, ExplainTextContract, beam_width)

    @staticmethod
    def _reading(beam_width: int | None, model: str, on_error: OnError) -> Question[ReadContract]:
        _check_on_error(on_error)
        if beam_width is not None:
            _check_whole_number("beam_width", beam_width)
        return Question(model, ReadContract, beam_width)

    @staticmethod
    def _detecting(
        score_threshold: float | None,
        iou_threshold: float | None,
        classes: Classes | None,
        max_detections: int | None,
        model: str,
        on_error: OnError,
    ) -> Question[ObjectsContract]:
        _check_on_error(on_error)
        parameters = detection_parameters(score_threshold, iou_threshold, classes, max_detections)
        return Question(model, ObjectsContract, parameters)

    @staticmethod
    def _finding_faces(
        min_face_size: float | None,
        thresholds: tuple[float, float, float] | None,
        model: str,
        on_error: OnError,
    ) -> Question[FacesContract]:
        _check_on_error(on_error)
        return Question(model, FacesContract, search_parameters(min_face_size, thresholds))

    def _comparing_faces(
        self,
        images: tuple[object, object],
        face: str,
        min_face_size: float | None,
        detector: str,
        embedder: str,
    ) -> Flow[FaceComparison]:
        searching = self._finding_faces(min_face_size, None, detector, "raise")
        return compared(self._conversation, images, face, searching, Question(embedder, EmbedderContract))


def line_of(page: object, number: int, result: Reading | VisionError) -> Reading | VisionError:
    """What was read of a line, or why not, with the line's place; `number` is counted from 1."""
    source = describe(page, None)
    if isinstance(result, VisionError):
        return result.about(source, None, number)
    return replace(result, source=source, line=number)


def checked(results: list[Reading | VisionError], on_error: OnError) -> list[Reading | VisionError]:
    """The results, unless the first of them that failed is to be raised."""
    for result in results:
        if on_error == "raise" and isinstance(result, VisionError):
            raise result
    return results


def _check_whole_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidInput(f"{name} is {value!r}; it must be a whole number, 1 or more.")


def _check_on_error(on_error: str) -> None:
    if on_error not in ("raise", "return"):
        raise InvalidInput(f"on_error is {on_error!r}; choose 'raise' or 'return'.")
