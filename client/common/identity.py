"""Under which names this package runs: `client` in its repository, `triton_vision` where it is installed."""

from __future__ import annotations

import logging

__all__ = ["COMMAND", "HOW_TO_INSTALL", "HOW_TO_START", "LOGGER", "SERVER_COMMAND", "log"]

PACKAGE = __name__.partition(".")[0]
IS_INSTALLED = PACKAGE == "triton_vision"
COMMAND = "triton-vision" if IS_INSTALLED else f"python -m {PACKAGE}"
SERVER_COMMAND = "triton-vision-server" if IS_INSTALLED else "python -m server"
HOW_TO_START = "" if IS_INSTALLED else "Start it with `make serve` or `python -m server`, or say"
HOW_TO_INSTALL = (
    "Install it: pip install 'triton-vision-client[web]'"
    if IS_INSTALLED
    else "`make setup` installs it; without make, pip install --group web"
)

LOGGER = "triton_vision"  # of the whole package, under either name
log = logging.getLogger(LOGGER)
