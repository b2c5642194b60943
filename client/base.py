"""What the blocking and the asyncio client have in common: their options and the checks on them."""

from __future__ import annotations

from collections.abc import Mapping

from .address import Address
from .errors import InvalidInput
from .flows import Conversation, RetryPolicy, Settings

__all__ = ["BaseClient"]

# Images read, sent or answered ahead of the one that the caller gets next: enough that a slow one does not
# idle the connections, few enough that a folder of any size fits into memory.
WINDOW_PER_CONNECTION = 2


class BaseClient:
    """Options of both clients.

    url: "host", "host:port" or "grpc://", "grpcs://", "http://", "https://" and host:port. Without it
        $TRITON_VISION_URL, else localhost at port 8001 (gRPC) or 8000 (HTTP).
    protocol: "grpc" (the default) or "http".
    timeout_s: bounds one image, or one question, from first attempt to last, waits included.
    retries: how often to try again where nothing answers or the server is overloaded.
    concurrency: images on their way at a time.
    headers: sent with every request, for a gateway or Triton's restricted protocols.
    ssl, root_certificates, private_key, certificate_chain: TLS; PEM files; the last two for mutual TLS.
    shared_memory: hand inputs over in /dev/shm; client and server must share a host.

    Raises InvalidInput for an option that cannot be. Nothing is sent before the first question.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        protocol: str | None = None,
        timeout_s: float = 30.0,
        retries: int = 3,
        concurrency: int = 16,
        headers: Mapping[str, str] | None = None,
        ssl: bool = False,
        root_certificates: str | None = None,
        private_key: str | None = None,
        certificate_chain: str | None = None,
        shared_memory: bool = False,
    ) -> None:
        self._address = Address.parse(
            url,
            protocol,
            use_tls=ssl,
            root_certificates=root_certificates,
            private_key=private_key,
            certificate_chain=certificate_chain,
            headers=headers,
        )
        self._settings = Settings(timeout_s, RetryPolicy(retries), concurrency, shared_memory)
        self._conversation = Conversation(self._address.url, self._settings)
        self._window = WINDOW_PER_CONNECTION * concurrency

    @property
    def url(self) -> str:
        """The address with its protocol, for example "grpc://localhost:8001"."""
        return self._address.url

    @staticmethod
    def _check(top_k: int, on_error: str) -> None:
        if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
            raise InvalidInput(f"top_k is {top_k!r}; it must be a whole number, 1 or more.")
        if on_error not in ("raise", "return"):
            raise InvalidInput(f"on_error is {on_error!r}; choose 'raise' or 'return'.")
