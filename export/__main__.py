"""`python -m export`: runs a command line, and ends with its exit code."""

import signal
import sys

from export.cli.commands import run

signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: servers and scratch folders go, too
sys.exit(run(sys.argv[1:]))
