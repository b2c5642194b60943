"""What a command of `python -m perf` raises when it cannot go on: told without a traceback, exit code 1."""

__all__ = ["PerfError"]


class PerfError(RuntimeError):
    """A foreseen failure; the message states the fact and what to do next."""
