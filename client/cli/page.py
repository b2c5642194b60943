"""`web`: the page, until it is stopped."""

from __future__ import annotations

import argparse
import json

from ..clients.aio import AsyncVisionClient
from ..clients.blocking import VisionClient
from ..common.identity import HOW_TO_INSTALL
from ..errors import InvalidInput
from .batch import OK
from .display import warn
from .server_options import client_options

__all__ = ["run"]


def run(client: VisionClient, options: argparse.Namespace) -> int:
    """The exit code. Raises InvalidInput where it cannot listen, or where what serves it is not installed.

    client: has checked the options and is asked nothing; its sibling for asyncio asks.
    """
    try:
        from ..web import app, serving
    except ModuleNotFoundError as missing:
        needed = (missing.name or "").partition(".")[0]
        raise InvalidInput(f"the page needs {needed}. {HOW_TO_INSTALL}.") from None
    listener = serving.listening(options.host, options.port)
    url = serving.url_of(listener)
    if not serving.is_loopback(listener):
        warn(
            f"warning: whoever reaches this machine at {options.host} may use the page, and through it the "
            "server: it asks nobody for a password. Without --host only this machine gets in."
        )

    def connect() -> AsyncVisionClient:
        return AsyncVisionClient(**client_options(options))

    def started() -> None:
        said = f"The page is {url} and asks {client.url}. Ctrl-C stops it."
        print(json.dumps({"page": url, "server": client.url}) if options.json else said, flush=True)

    serving.serve(app.application(connect, (options.host, *options.allow_host)), listener, started)
    return OK
