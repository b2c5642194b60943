"""Who may use the page: nobody's page but our own, and no request that is larger than a photograph.

Somebody else's page in the same browser could ask a server on this machine, and by a name of its own that it
lets lead here (DNS rebinding) could also read the answers. So a request has to name an address, which is
nobody's name, or a name that was allowed; and where the browser says which page asks, it has to be ours.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["API", "Guard", "body_of"]

API = "/api/"
BODY_TIMEOUT_S = 60
NOT_OURS = ("cross-site", "same-site")  # of Sec-Fetch-Site; "same-origin" is ours, "none" the address bar
HEADERS = {
    # Everything from here, and pictures that the script has made; nothing inline, no frame, no form.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",  # asked whether it has changed
}


class Guard:
    """In front of `app`; names: of hosts, besides localhost and addresses, under which it may be asked."""

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app = app
        self._names = {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._refusal(Headers(scope=scope), scope["method"], scope["path"])
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, headers: Headers, method: str, path: str) -> PlainTextResponse | None:
        host = headers.get("host", "").lower()
        if not self._is_known(host):
            return PlainTextResponse(
                f"This page is not known as '{host}'. Use its address, or start it with --allow-host NAME.\n",
                status_code=421,
            )
        origin = headers.get("origin")
        is_foreign = origin is not None and _host_of(origin) != host
        may_link_here = method in ("GET", "HEAD") and not path.startswith(API)
        if is_foreign or (headers.get("sec-fetch-site") in NOT_OURS and not may_link_here):
            return PlainTextResponse("Only this page itself may ask here.\n", 403)
        return None

    def _is_known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in self._names:
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _host_of(origin: str) -> str | None:
    """As the header Host has it; None where it is not an address."""
    try:
        return urlsplit(origin.lower()).netloc
    except ValueError:
        return None


async def body_of(request: Request, max_bytes: int) -> bytes:
    """All of it. Raises HTTPException 413 as soon as it is known to be longer, 408 where it does not come."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    try:
        with anyio.fail_after(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise _too_large(max_bytes)
    except TimeoutError:
        raise HTTPException(
            408, f"The photograph did not arrive within {BODY_TIMEOUT_S} s.", _HANG_UP
        ) from None
    return bytes(body)


_HANG_UP = {"Connection": "close"}  # what is still to come of the body is not read


def _too_large(max_bytes: int) -> HTTPException:
    return HTTPException(413, f"The file is larger than {max_bytes / 2**20:.0f} MiB, the limit.", _HANG_UP)
