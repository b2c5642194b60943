"""The streams that the two clients hand out: a line of text, read while it passes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from ..conversation.flows import Conversation
from ..conversation.strips import HangUp, LineStream, Receive, Send
from ..transport.address import Address
from ..transport.channels import AsyncRequestChannel, AsyncStreamChannel, RequestChannel, StreamChannel
from ..transport.connections import AsyncTransport, BlockingTransport
from ..transport.protocol import Flow, T

__all__ = ["AsyncTextStream", "TextStream"]


class Client(Protocol):
    """What a TextStream needs of its VisionClient."""

    _address: Address
    _conversation: Conversation
    _transport: BlockingTransport | None
    _streams: set[TextStream]

    def _open(self) -> None: ...
    def _drive(self, flow: Flow[T], perform: Callable[[Any], Any] | None = None) -> T: ...
    def _perform(self, step: Any) -> Any: ...


class AsyncClient(Protocol):
    """What an AsyncTextStream needs of its AsyncVisionClient."""

    _address: Address
    _conversation: Conversation
    _transport: AsyncTransport | None
    _streams: set[AsyncTextStream]

    def _open(self) -> None: ...
    async def _drive(self, flow: Flow[T], perform: Callable[[Any], Awaitable[Any]] | None = None) -> T: ...
    async def _perform(self, step: Any) -> Any: ...


class BaseTextStream:
    """What a stream tells of its line, blocking or not; to read it asks the server nothing."""

    def __init__(self, conversation: Conversation, model: str) -> None:
        self._line = LineStream(conversation, model)

    @property
    def text(self) -> str:
        """What was read so far, "" at first; the whole line once the stream is closed."""
        return self._line.text

    @property
    def model(self) -> str:
        """The name that the client was given."""
        return self._line.model

    @property
    def version(self) -> str | None:
        """Of the model that answered; None before it did."""
        return self._line.version

    @property
    def weights(self) -> str | None:
        """As in Prediction; None before the first answer."""
        return self._line.weights

    @property
    def correlation_id(self) -> int:
        """The server's number for this stream, from 1 to 2**62, drawn anew for each one."""
        return self._line.correlation_id


class TextStream(BaseTextStream):
    """A line of text, read while it passes: columns of pixels go in, the text so far comes out.

        with client.stream_text() as stream:
            for columns in camera:
                print(stream.send(columns))
        print(stream.text)

    The server keeps a state for each stream until it is closed; leaving the block closes it, also after an
    error. Nothing is sent twice: after an error the stream is over, and the line has to be sent again from
    its start on another one. The client's `timeout_s` bounds each call, else RequestTimeout. For one thread
    at a time.
    """

    def __init__(self, client: Client, model: str, grpc_stream: bool) -> None:
        super().__init__(client._conversation, model)
        self._client = client
        self._has_grpc_stream = grpc_stream and client._address.protocol == "grpc"
        self._channel: StreamChannel | RequestChannel | None = None

    def send(self, columns: Any) -> str:
        """The text so far, up to a strip behind what was sent.

        columns: UINT8 [32, any width], grey, dark on light, as they pass from left to right;
        `line_columns` makes them from an image. The server gets them in strips of 32.
        Raises InvalidImage for other arrays, InvalidInput for a stream that is over, StreamLost where the
        server has let go of it.
        """
        return self._run(self._line.send(columns))

    def close(self) -> str:
        """Sends the rest, and tells the server that the line is over; the whole text.

        Raises StreamLost where the server has let go of the stream. Once it is over, nothing is sent or
        raised, and the text is what was read until then.
        """
        return self._run(self._line.close())

    def abandon(self) -> None:
        """Tells the server that the line is over, if it can be reached; raises nothing."""
        self._client._drive(self._line.abandon(), self._perform)
        self._forget()

    def __enter__(self) -> TextStream:
        return self

    def __exit__(self, kind: type | None, *exception: object) -> None:
        if kind:
            self.abandon()
        else:
            self.close()

    def _run(self, flow: Flow[T]) -> T:
        if not self._line.over:
            self._client._streams.add(self)  # first, for who closes the client now
            self._client._open()
        try:
            return self._client._drive(flow, self._perform)
        finally:
            self._forget()

    def _forget(self) -> None:
        if self._line.over:
            self._client._streams.discard(self)

    def _perform(self, step: Any) -> Any:
        if not isinstance(step, (Send, Receive, HangUp)):
            return self._client._perform(step)
        if self._channel is None:
            if isinstance(step, HangUp):  # before anything was sent
                return None
            self._channel = self._opened()
            if self._line.over:  # the client was closed meanwhile, by another thread
                self._channel.close()
        if isinstance(step, Send):
            return self._channel.send(step.inference)
        if isinstance(step, Receive):
            return self._channel.receive(step.timeout_s)
        return self._channel.close()

    def _opened(self) -> StreamChannel | RequestChannel:
        if self._has_grpc_stream:
            return StreamChannel(self._client._address)
        assert self._client._transport  # `_run` has opened it
        return RequestChannel(self._client._address, self._client._transport)


class AsyncTextStream(BaseTextStream):
    """TextStream for asyncio: the same, awaited.

    async with client.stream_text() as stream:
        text = await stream.send(columns)
    """

    def __init__(self, client: AsyncClient, model: str, grpc_stream: bool) -> None:
        super().__init__(client._conversation, model)
        self._client = client
        self._has_grpc_stream = grpc_stream and client._address.protocol == "grpc"
        self._channel: AsyncStreamChannel | AsyncRequestChannel | None = None

    async def send(self, columns: Any) -> str:
        """See TextStream.send."""
        return await self._run(self._line.send(columns))

    async def close(self) -> str:
        """See TextStream.close."""
        return await self._run(self._line.close())

    async def abandon(self) -> None:
        """See TextStream.abandon."""
        await self._client._drive(self._line.abandon(), self._perform)
        self._forget()

    async def __aenter__(self) -> AsyncTextStream:
        return self

    async def __aexit__(self, kind: type | None, *exception: object) -> None:
        await (self.abandon() if kind else self.close())

    async def _run(self, flow: Flow[T]) -> T:
        if not self._line.over:
            self._client._streams.add(self)  # first, for who closes the client now
            self._client._open()
        try:
            return await self._client._drive(flow, self._perform)
        finally:
            self._forget()

    def _forget(self) -> None:
        if self._line.over:
            self._client._streams.discard(self)

    async def _perform(self, step: Any) -> Any:
        if not isinstance(step, (Send, Receive, HangUp)):
            return await self._client._perform(step)
        if self._channel is None:
            if isinstance(step, HangUp):  # before anything was sent
                return None
            self._channel = self._opened()
        if isinstance(step, Send):
            return await self._channel.send(step.inference)
        if isinstance(step, Receive):
            return await self._channel.receive(step.timeout_s)
        return await self._channel.close()

    def _opened(self) -> AsyncStreamChannel | AsyncRequestChannel:
        if self._has_grpc_stream:
            return AsyncStreamChannel(self._client._address)
        assert self._client._transport  # `_run` has opened it
        return AsyncRequestChannel(self._client._address, self._client._transport)
