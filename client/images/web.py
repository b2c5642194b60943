"""Images at http:// and https:// addresses, fetched only where the caller allows it.

The request comes from the machine that the client runs on, with what that may reach: do not allow it for
addresses that strangers give. A public address that leads on to one that is not is not followed: a page could
ask the caller's own network that way. A name that changes its address in between is not noticed.
"""

from __future__ import annotations

import ipaddress
import socket
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPMessage
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from ..errors import InvalidImage, RequestTimeout

__all__ = ["MAX_DOWNLOAD_BYTES", "fetched", "is_web_address"]

MAX_DOWNLOAD_BYTES = 64 * 2**20
CHUNK_BYTES = 256 * 1024
SCHEMES = ("http", "https")
AGENT = "triton-vision-client"


def is_web_address(image: object) -> TypeGuard[str]:
    """Whether it is a str that begins with http:// or https://, in capitals or not."""
    return isinstance(image, str) and urlsplit_scheme(image) in SCHEMES and "://" in image


def urlsplit_scheme(text: str) -> str:
    """What stands before the first colon, in lower case; the whole text where there is none."""
    return text.partition(":")[0].lower()


def fetched(url: str, timeout_s: float) -> bytes:
    """The bytes at `url`, at most 64 MiB, within `timeout_s` in all. Raises InvalidImage, RequestTimeout."""
    end = time.monotonic() + timeout_s
    try:
        request = urllib.request.Request(url, headers={"User-Agent": AGENT, "Accept": "image/*"})
        with _opener(url).open(request, timeout=timeout_s) as answer:
            kind = answer.headers.get_content_type() if "Content-Type" in answer.headers else ""
            if kind.startswith("text/") or kind == "application/json":
                raise InvalidImage(f"the address gives {kind}, not an image.")
            return _read(answer, url, end, timeout_s)
    except urllib.error.HTTPError as error:
        raise InvalidImage(f"cannot be fetched: {error.code} {error.reason}.") from None
    except TimeoutError:
        raise _late(url, timeout_s) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise _late(url, timeout_s) from None
        raise InvalidImage(f"cannot be fetched: {error.reason}.") from None
    except (OSError, HTTPException, ValueError) as error:
        raise InvalidImage(f"cannot be fetched: {error or type(error).__name__}.") from None


def _read(answer: Any, url: str, end: float, timeout_s: float) -> bytes:
    data = bytearray()
    while chunk := answer.read1(CHUNK_BYTES):
        data += chunk
        if len(data) > MAX_DOWNLOAD_BYTES:
            raise InvalidImage(f"longer than {MAX_DOWNLOAD_BYTES:,} bytes, the limit for what is fetched.")
        if time.monotonic() > end:  # byte by byte, each in time
            raise _late(url, timeout_s)
    if (missing := answer.length) not in (None, 0):
        raise InvalidImage(f"the transfer broke off, {missing:,} bytes before its end.")
    return bytes(data)


def _late(url: str, timeout_s: float) -> RequestTimeout:
    return RequestTimeout(
        f"{url} did not give its image within {timeout_s:.0f} s. Allow more with --timeout."
    )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """http and https only, as in the parent, which takes ftp as well; and never from outside to inside."""

    max_redirections = 5

    def __init__(self, url: str) -> None:
        self._began_outside = _is_public(url)

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit_scheme(newurl) not in SCHEMES:
            raise InvalidImage(f"the address leads on to {newurl}; only http and https are followed.")
        if self._began_outside and not _is_public(newurl):
            raise InvalidImage(
                f"a public address leads on to one that is not ({newurl}); that is not followed."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Without urllib's handlers for file:, ftp: and data:."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        _Redirects(url),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _is_public(url: str) -> bool:
    """Whether every address of its host is one of the open internet; a host that is not found is not."""
    try:
        parts = urlsplit(url)
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
        return bool(found) and all(ipaddress.ip_address(entry[4][0]).is_global for entry in found)
    except (OSError, ValueError):
        return False
