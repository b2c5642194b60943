"""A line of text in strips: the conversation with the server, written once for both clients.

As in `flows.py`, a flow yields steps and does no input or output itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidImage, InvalidInput, ModelNotFound, ServerUnavailable, StreamLost, VisionError
from ..transport.protocol import Flow, Inference, ModelAnswer, Question, SequencePlace
from .flows import Conversation
from .retrying import Deadline
from .text import StreamContract

__all__ = ["GreedyText", "HangUp", "LineStream", "Receive", "Send", "Strips"]

WHITE = 255
BLANK = 0
TRAILING_STRIPS = 2  # white ones after the line: the network sees no future, so it answers up to a strip late
UNDER_WAY = 16  # strips that are sent before the first of them is answered
FAREWELL_S = 2.0  # patience with the end of a stream that has failed


@dataclass(frozen=True)
class Send:
    """The request for one strip; its answer comes with a later Receive, in the order of sending."""

    inference: Inference


@dataclass(frozen=True)
class Receive:
    """The answer to the first of the requests that were sent and not answered yet."""

    timeout_s: float


@dataclass(frozen=True)
class HangUp:
    """Nothing more will be sent or received; answers under way are of no interest."""


class GreedyText:
    """Greedy CTC decoding as the time steps come: the text is the same wherever they are cut.

    The likeliest class of every step, equal neighbours joined, blanks dropped; a repeat is joined also with
    the last step of the call before.
    """

    def __init__(self, charset: str) -> None:
        self._charset = charset
        self._last = BLANK
        self.text = ""

    def feed(self, log_probs: NDArray[Any]) -> None:
        """FP [steps, 1 + characters]."""
        for best in log_probs.argmax(1).tolist():
            if best not in (BLANK, self._last):
                self.text += self._charset[best - 1]
            self._last = best


class Strips:
    """Cuts columns that come in any number into strips of `columns` each."""

    def __init__(self, rows: int, columns: int) -> None:
        self._columns = columns
        self._rest = np.zeros((rows, 0), np.uint8)

    def feed(self, columns: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        """The strips that are full now, UINT8 [rows, columns]; the rest waits for more."""
        joined = np.concatenate((self._rest, columns), axis=1)
        full = joined.shape[1] // self._columns * self._columns
        self._rest = joined[:, full:]
        return (
            np.ascontiguousarray(joined[:, start : start + self._columns])
            for start in range(0, full, self._columns)
        )

    @property
    def waiting(self) -> int:
        """Columns that no strip has yet."""
        return self._rest.shape[1]

    def finish(self, white_strips: int) -> Iterator[NDArray[np.uint8]]:
        """The rest, filled up with white, and `white_strips` more: each [rows, columns]."""
        missing = -self.waiting % self._columns + white_strips * self._columns
        return self.feed(np.full((len(self._rest), missing), WHITE, np.uint8))


class _Reader:
    """What a line is read with, once the model has said what it takes."""

    def __init__(self, contract: StreamContract) -> None:
        self.contract = contract
        self.strips = Strips(contract.rows, contract.columns)
        self.decoder = GreedyText(contract.charset)


class LineStream:
    """One line. The server keeps its state under a correlation ID of its own, from START to END.

    No step is retried, as the state would take the same strip twice. After an error the stream is over, and
    the server is told so if it can be reached.
    """

    def __init__(self, conversation: Conversation, model: str) -> None:
        self._conversation = conversation
        self._question = Question(model, StreamContract)
        self._reader: _Reader | None = None
        self._begun = False  # a START may have reached the server
        self._is_broken = False
        self.over = False
        self.correlation_id = 1 + secrets.randbits(62)
        self.model = model
        self.version: str | None = None

    @property
    def text(self) -> str:
        """What was read so far; "" before the first answer."""
        return self._reader.decoder.text if self._reader else ""

    @property
    def weights(self) -> str | None:
        """As in Prediction; None, too, before the model's configuration is known."""
        return self._reader.contract.weights if self._reader else None

    def send(self, columns: Any) -> Flow[str]:
        """The text so far. Raises InvalidImage before anything is sent, or what went wrong."""
        self._check_open()
        deadline = self._conversation.deadline()
        reader = yield from self._prepared(deadline)
        strips = reader.strips.feed(_checked(columns, reader.contract.rows))
        yield from self._exchange(reader, strips, deadline, None)
        return self.text

    def close(self) -> Flow[str]:
        """Sends what is left, white after it, and END; the whole text. Closing twice does no harm."""
        nothing_sent = not self._begun and (self._reader is None or not self._reader.strips.waiting)
        if self.over or self._is_broken or nothing_sent:
            yield from self.abandon()
            return self.text
        deadline = self._conversation.deadline()
        reader = yield from self._prepared(deadline)
        strips = list(reader.strips.finish(TRAILING_STRIPS))
        yield from self._exchange(reader, iter(strips), deadline, len(strips) - 1)
        self.over = True
        yield HangUp()
        return self.text

    def abandon(self) -> Flow[None]:
        """END, without an answer that matters, so that the server frees the state. Raises nothing."""
        if self.over:
            return
        self.over = True
        yield HangUp()
        if self._begun and self._reader:
            contract = self._reader.contract
            white = np.full((contract.rows, contract.columns), WHITE, np.uint8)
            with suppress(VisionError):
                yield contract.inference(white, self._place(False, True), FAREWELL_S)

    def _prepared(self, deadline: Deadline) -> Flow[_Reader]:
        if self._reader is None:
            self._reader = _Reader((yield from self._conversation.contract(self._question, deadline)))
        return self._reader

    def _exchange(
        self, reader: _Reader, strips: Iterator[NDArray[np.uint8]], deadline: Deadline, last: int | None
    ) -> Flow[None]:
        """Strip number `last` is the end of the line."""
        waiting = 0
        try:
            for number, strip in enumerate(strips):
                if waiting == UNDER_WAY:
                    self._take(reader, (yield Receive(deadline.remaining_s())))
                    waiting -= 1
                place = self._place(not self._begun, number == last)
                self._begun = True
                yield Send(reader.contract.inference(strip, place, deadline.remaining_s()))
                waiting += 1
            for _ in range(waiting):
                self._take(reader, (yield Receive(deadline.remaining_s())))
        except VisionError as error:
            yield from self.abandon()
            raise (yield from self._lost(error)) from error.__cause__
        except BaseException:  # interrupted, with answers under way that nobody will take
            self._is_broken = True
            raise

    def _lost(self, error: VisionError) -> Flow[VisionError]:
        """A server or model that went away took the state of this line with it."""
        understood = yield from self._conversation.understood(error)
        if not isinstance(understood, (ServerUnavailable, ModelNotFound)):
            return understood
        self._conversation.forget(self._question)  # the next line waits for the server, if it comes back
        return StreamLost(
            "the server stopped, or the model was unloaded, in the middle of this line: its state is lost "
            f"({getattr(understood, 'detail', '') or understood.message}). Begin another stream, once it is "
            "back, and send the line again from its start."
        )

    def _take(self, reader: _Reader, answer: ModelAnswer) -> None:
        reader.decoder.feed(reader.contract.log_probs(answer))
        self.version = answer.version

    def _place(self, start: bool, end: bool) -> SequencePlace:
        return SequencePlace(self.correlation_id, start, end)

    def _check_open(self) -> None:
        if self.over or self._is_broken:
            raise InvalidInput("this text stream is closed, or has failed. Begin another one for each line.")


_FROM_IMAGE = "`line_columns` makes them from an image of a line."


def _checked(columns: Any, rows: int) -> NDArray[np.uint8]:
    if not isinstance(columns, np.ndarray) or columns.dtype != np.uint8:
        kind = f"a {columns.dtype} array" if isinstance(columns, np.ndarray) else type(columns).__name__
        raise InvalidImage(f"columns are a uint8 array [{rows}, any width], not {kind}. {_FROM_IMAGE}")
    if columns.ndim != 2 or len(columns) != rows:
        raise InvalidImage(
            f"columns are a uint8 array [{rows}, any width], not {list(columns.shape)}. {_FROM_IMAGE}"
        )
    return columns
