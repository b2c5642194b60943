"""How a gateway refuses, in the form of the interface that was asked: JSON over HTTP, trailers over gRPC."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ..settings import Settings
from .names import ERRORS_FOLDER

__all__ = ["ERROR_FILES", "GRPC_ERRORS", "HTTP_ERRORS", "Refusal", "error_files"]

RETRY_AFTER_S = 1
PUSHBACK = "grpc-retry-pushback-ms"  # what gRPC's own retries go by, as in its proposal A6


@dataclass(frozen=True)
class Refusal:
    """status: of HTTP; grpc: the status code of gRPC. message: plain ASCII, without quotes and percent signs.

    retry: say when to ask again.
    """

    status: int
    grpc: int
    message: str
    retry: bool = False

    @property
    def body(self) -> str:
        """In JSON."""
        return json.dumps({"error": self.message})

    def rules(self, condition: str = "") -> list[str]:
        """Rules of HAProxy that give this answer where `condition` holds. They need the ACL `is_grpc`."""
        return [self.grpc_rule(condition), self.http_rule(condition)]

    def grpc_rule(self, condition: str = "") -> str:
        """For requests of gRPC alone."""
        message = self.message.replace(" ", "\\ ")
        answer = f"hdr grpc-status {self.grpc} hdr grpc-message {message}"
        answer += f" hdr {PUSHBACK} {RETRY_AFTER_S * 1000}" if self.retry else ""
        return f"http-request return status 200 {answer} if is_grpc {condition}".rstrip()

    def http_rule(self, condition: str = "") -> str:
        """For all others."""
        headers = f" hdr retry-after {RETRY_AFTER_S}" if self.retry else ""
        headers += " hdr www-authenticate Bearer" if self.status == 401 else ""
        answer = f"status {self.status} content-type application/json string '{self.body}'{headers}"
        return f"http-request return {answer} if !is_grpc {condition}".rstrip()

    def http_file(self) -> str:
        """The same as a file for HAProxy's own errors."""
        headers = ["content-type: application/json", f"content-length: {len(self.body)}"]
        headers += [f"retry-after: {RETRY_AFTER_S}"] if self.retry else []
        return _response(f"{self.status} Refused", [*headers, "cache-control: no-cache"], self.body)

    def grpc_file(self) -> str:
        """As `http_file`, over gRPC."""
        headers = ["content-type: application/grpc", f"grpc-status: {self.grpc}"]
        headers += [f"{PUSHBACK}: {RETRY_AFTER_S * 1000}"] if self.retry else []
        return _response("200 OK", [*headers, f"grpc-message: {self.message}", "content-length: 0"], "")


def _response(status: str, headers: list[str], body: str) -> str:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", body])


ERRORS = {  # those that HAProxy finds by itself, by its status
    400: Refusal(400, 3, "the request is malformed"),
    408: Refusal(408, 4, "the request did not arrive in time"),
    500: Refusal(500, 13, "the gateway failed"),
    502: Refusal(502, 14, "the server hung up before it had answered"),
    503: Refusal(503, 8, "the servers are busy, so the request was refused; ask again later", retry=True),
    504: Refusal(504, 4, "the server did not answer in time"),
}
HTTP_ERRORS = {status: f"http-{status}.http" for status in ERRORS}
GRPC_ERRORS = {status: f"grpc-{status}.http" for status in ERRORS}
ERROR_FILES = {
    **{HTTP_ERRORS[status]: refusal.http_file() for status, refusal in ERRORS.items()},
    **{GRPC_ERRORS[status]: refusal.grpc_file() for status, refusal in ERRORS.items()},
}


def error_files(settings: Settings, files: Mapping[int, str]) -> list[str]:
    """Lines that name them, by status, in the folder that HAProxy reads."""
    folder = settings.folder / ERRORS_FOLDER
    return [f"errorfile {status} {folder / name}" for status, name in files.items()]
