"""The client for ordinary, blocking code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, overload

from ..common import defaults
from ..errors import VisionError
from ..images.inputs import ImageLike, Images
from ..results import (
    Explanation,
    ExplanationMethod,
    Health,
    ModelInfo,
    ModelStatistics,
    Prediction,
    Reading,
    TextExplanation,
)
from .base import OnError, Raise, Return, checked, line_of
from .blocking_detection import BlockingDetection
from .text_streams import TextStream
from .upside_down import check_upright, doubtful_lines, turned

__all__ = ["VisionClient"]


class VisionClient(BlockingDetection):
    """Recognises images with a Triton server; for a `with` block, from any number of threads.

        with VisionClient() as client:
            print(client.classify("cat.jpg").best.label)

    `help(VisionClient.__init__)` has the options. Methods raise the errors of `VisionError`'s tree, and
    RuntimeError once the client is closed, or after a fork of the process that it was used in.
    """

    @overload
    def classify(
        self, images: ImageLike, top_k: int = ..., *, model: str = ..., on_error: Raise = ...
    ) -> Prediction: ...
    @overload
    def classify(
        self, images: ImageLike, top_k: int = ..., *, model: str = ..., on_error: Return
    ) -> Prediction | VisionError: ...
    @overload
    def classify(
        self, images: Images, top_k: int = ..., *, model: str = ..., on_error: Raise = ...
    ) -> list[Prediction]: ...
    @overload
    def classify(
        self, images: Images, top_k: int = ..., *, model: str = ..., on_error: Return
    ) -> list[Prediction | VisionError]: ...
    def classify(
        self,
        images: Any,
        top_k: int = defaults.TOP_K,
        *,
        model: str = defaults.CLASSIFIER,
        on_error: OnError = "raise",
    ) -> Any:
        """The `top_k` likeliest classes: one Prediction for one image, a list in order for several.

        An image is a path, bytes, a binary file, a PIL image or a uint8 array [height, width],
        [height, width, 3] (RGB) or [height, width, 4] (RGBA); several are any iterable of those, or an
        array [n, height, width, channels]. Each is sent as a request of its own, `concurrency` at a time,
        for the server to batch. Where a model takes pixels, an array or PIL image of its shape is sent as
        it is, and anything else decoded and resized first, by the server's `image_decoder` if that makes
        pixels of this shape, else by the client.

        on_error: "raise" raises the error of the first image, in order, that failed. "return" puts the
        errors that concern one image (see `VisionError`) in its place in the list; an error that every
        image would meet is raised all the same. Type checkers take an array for one image: pass
        `list(arrays)` for several.

        Raises InvalidImage for an image that cannot be used (the models of this repository take files up to
        32 MiB and 64 million pixels), InvalidInput for a `top_k` below 1 or a model that does not classify.
        """
        return self._ask(images, self._classifying(top_k, model, on_error), on_error)

    @overload
    def classify_iter(
        self, images: Images, top_k: int = ..., *, model: str = ..., on_error: Raise = ...
    ) -> Iterator[Prediction]: ...
    @overload
    def classify_iter(
        self, images: Images, top_k: int = ..., *, model: str = ..., on_error: Return
    ) -> Iterator[Prediction | VisionError]: ...
    def classify_iter(
        self,
        images: Images,
        top_k: int = defaults.TOP_K,
        *,
        model: str = defaults.CLASSIFIER,
        on_error: OnError = "raise",
    ) -> Iterator[Prediction | VisionError]:
        """As `classify`, for any number of images; results come in order, as soon as they are there.

        Images are taken from the iterable a little ahead of the results, never all at once. While the
        next image is not there yet, results wait as well. Raises InvalidInput for an option at once;
        whatever else is raised comes from the iterator, which is over then.
        """
        return self._results(images, self._classifying(top_k, model, on_error), on_error)

    @overload
    def explain(
        self,
        images: ImageLike,
        class_id: int | str | None = ...,
        *,
        method: ExplanationMethod = ...,
        model: str = ...,
        on_error: Raise = ...,
    ) -> Explanation: ...
    @overload
    def explain(
        self,
        images: ImageLike,
        class_id: int | str | None = ...,
        *,
        method: ExplanationMethod = ...,
        model: str = ...,
        on_error: Return,
    ) -> Explanation | VisionError: ...
    @overload
    def explain(
        self,
        images: Images,
        class_id: int | str | None = ...,
        *,
        method: ExplanationMethod = ...,
        model: str = ...,
        on_error: Raise = ...,
    ) -> list[Explanation]: ...
    @overload
    def explain(
        self,
        images: Images,
        class_id: int | str | None = ...,
        *,
        method: ExplanationMethod = ...,
        model: str = ...,
        on_error: Return,
    ) -> list[Explanation | VisionError]: ...
    def explain(
        self,
        images: Any,
        class_id: int | str | None = None,
        *,
        method: ExplanationMethod = "cam",
        model: str = defaults.EXPLAINER,
        on_error: OnError = "raise",
    ) -> Any:
        """Where in the image a class was seen: one Explanation for one image, a list in order for several.

        Images, how they are sent, and on_error are as in `classify`; `overlay` draws what comes back.

        class_id: the class, by its number or its label ("tabby"); None or -1: the likeliest.
        method: "cam", a class activation map, which adds up to the score; "rise" asks the model of 400 copies
        of the image, each with other places blurred: it shows better which pixels the class needs, and takes
        seconds on a CPU.

        Raises InvalidInput for a class that the model has not got, for one that explains nothing, and for
        "rise" of a model that makes no masked copies;
        InvalidImage for an image that cannot be used; and what any question may raise (`client.errors`).
        """
        return self._ask(images, self._explaining(class_id, method, model, on_error), on_error)

    @overload
    def explain_text(
        self, images: ImageLike, beam_width: int | None = ..., *, model: str = ..., on_error: Raise = ...
    ) -> TextExplanation: ...
    @overload
    def explain_text(
        self, images: ImageLike, beam_width: int | None = ..., *, model: str = ..., on_error: Return
    ) -> TextExplanation | VisionError: ...
    @overload
    def explain_text(
        self, images: Images, beam_width: int | None = ..., *, model: str = ..., on_error: Raise = ...
    ) -> list[TextExplanation]: ...
    @overload
    def explain_text(
        self, images: Images, beam_width: int | None = ..., *, model: str = ..., on_error: Return
    ) -> list[TextExplanation | VisionError]: ...
    def explain_text(
        self,
        images: Any,
        beam_width: int | None = defaults.BEAM_WIDTH,
        *,
        model: str = defaults.LINE_READER,
        on_error: OnError = "raise",
    ) -> Any:
        """Which columns made which character: one TextExplanation for an image of one line, or a list.

        Images, beam_width and on_error are as in `read_text`; `text_overlay` draws what comes back.

        Raises InvalidInput for a model that says no columns; InvalidImage for an image that cannot be used,
        or has several lines; and what any question may raise (`client.errors`).
        """
        return self._ask(images, self._explaining_text(beam_width, model, on_error), on_error)

    @overload
    def read_text(
        self, images: ImageLike, beam_width: int | None = ..., *, model: str = ..., on_error: Raise = ...
    ) -> Reading: ...
    @overload
    def read_text(
        self, images: ImageLike, beam_width: int | None = ..., *, model: str = ..., on_error: Return
    ) -> Reading | VisionError: ...
    @overload
    def read_text(
        self, images: Images, beam_width: int | None = ..., *, model: str = ..., on_error: Raise = ...
    ) -> list[Reading]: ...
    @overload
    def read_text(
        self, images: Images, beam_width: int | None = ..., *, model: str = ..., on_error: Return
    ) -> list[Reading | VisionError]: ...
    def read_text(
        self,
        images: Any,
        beam_width: int | None = defaults.BEAM_WIDTH,
        *,
        model: str = defaults.LINE_READER,
        on_error: OnError = "raise",
    ) -> Any:
        """What is written: one Reading for an image of one line of text, a list in order for several.

        Images, how they are sent, and on_error are as in `classify`; any size, dark on light or light on
        dark.

        beam_width: how many beginnings of the text the decoder keeps, 1 to 64; without it, it takes the
        likeliest character of every step, which is faster and hardly worse. Raises InvalidInput for others.
        """
        return self._ask(images, self._reading(beam_width, model, on_error), on_error)

    @overload
    def read_text_iter(
        self, images: Images, beam_width: int | None = ..., *, model: str = ..., on_error: Raise = ...
    ) -> Iterator[Reading]: ...
    @overload
    def read_text_iter(
        self, images: Images, beam_width: int | None = ..., *, model: str = ..., on_error: Return
    ) -> Iterator[Reading | VisionError]: ...
    def read_text_iter(
        self,
        images: Images,
        beam_width: int | None = defaults.BEAM_WIDTH,
        *,
        model: str = defaults.LINE_READER,
        on_error: OnError = "raise",
    ) -> Iterator[Reading | VisionError]:
        """As `read_text`, for any number of images, as `classify_iter`."""
        return self._results(images, self._reading(beam_width, model, on_error), on_error)

    @overload
    def read_lines(
        self, page: ImageLike, beam_width: int | None = ..., *, model: str = ..., on_error: Raise = ...
    ) -> list[Reading]: ...
    @overload
    def read_lines(
        self, page: ImageLike, beam_width: int | None = ..., *, model: str = ..., on_error: Return
    ) -> list[Reading | VisionError]: ...
    def read_lines(
        self,
        page: ImageLike,
        beam_width: int | None = defaults.BEAM_WIDTH,
        *,
        model: str = defaults.LINE_READER,
        on_error: OnError = "raise",
    ) -> Any:
        """What is written on a page: a Reading of each line, in reading order, with its number as `line`.

        For clean pages, in one column or more, upright or a little askew: the client finds the lines
        (`images/pages`), and has each read as `read_text` does. Not for bent pages, forms or tables.

        Raises InvalidImage for a page without lines, for one that lies sideways or upside down, and for a
        line that cannot be read; with on_error="return" the last stands in that line's place.
        """
        question = self._reading(beam_width, model, on_error)
        lines = self._run(self._conversation.lines(page))
        results = list(self._results(lines, question, "return"))
        places = doubtful_lines(results)
        check_upright(page, results, places, list(self._results(turned(lines, places), question, "return")))
        return checked([line_of(page, *pair) for pair in enumerate(results, 1)], on_error)

    def stream_text(self, *, model: str = defaults.STREAM_READER, grpc_stream: bool = False) -> TextStream:
        """A line of text that is read while it passes; see TextStream. Nothing is sent yet.

        grpc_stream: over gRPC, send the strips on a gRPC stream of their own, up to 16 ahead of their
        answers, which Triton 2.51 may not survive (docs/reference/security.md); otherwise, and over HTTP,
        each is a request that waits for the one before. The text is the same.
        """
        return TextStream(self, model, grpc_stream)

    def models(self) -> list[ModelInfo]:
        """Every version of every model in the server's repository, sorted by name.

        Where the server keeps its repository index to itself, the versions that are loaded; raises
        AccessDenied where it keeps those to itself, too.
        """
        return self._run(self._conversation.models())

    def statistics(self, model: str) -> list[ModelStatistics]:
        """What the server has counted of each version of the model that is loaded.

        The difference of two calls is what happened in between. The server counts a request just after it
        has answered, so the latest may still be missing.

        Raises ModelNotFound, ServerUnavailable, RequestTimeout, and AccessDenied where the server keeps its
        statistics to itself.
        """
        return self._run(self._conversation.statistics(model))

    def health(self) -> Health:
        """The server's state as it is now: nothing is asked twice, whatever `retries` says.

        Raises ServerUnavailable at once where nothing answers, RequestTimeout after `timeout_s`.
        """
        return self._run(self._conversation.health())

    def __enter__(self) -> VisionClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
