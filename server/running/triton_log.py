"""What tritonserver says of itself in its log: which models load, why others are refused, its last words."""

import os
import re
import threading
from collections import deque

__all__ = ["TritonLog", "in_operators_words"]

SHOWN_LINES = 15
LAST_LINES = 40  # a crash of tritonserver prints its stack
LONGEST_LINE_BYTES = 2**16
ERROR_LINE = re.compile(r"E\d{4} |error|.*unrecognized option", re.IGNORECASE)  # E1231: glog, month and day
LOADING = re.compile(r"\bloading: ([^\s:]+):\d+")
LOADED = re.compile(r"successfully loaded '([^']+)'")
FAILED = re.compile(r"failed to load '([^']+)' version \d+")
REFUSED = re.compile(
    r"(?:Poll failed for model directory|failed to load model) '([^']+)': (.*?)\"?$"
)  # before any version was tried: the repository index has no reason for these
UNREADABLE = "failed to read text proto"  # without a word of what is wrong with it
MISREAD = re.compile(r"Error parsing text-format \S+: (.*)")  # said just before, by the library that reads it
MISSES_STEPS = re.compile(
    r"ensemble '?([^' ]+)'? (contains models that are not available or ambiguous: [^\"]*"
    r"|depends on '[^']+' which has no loaded version)"
)
LEFT_AT_STOP = re.compile(r"Found (\d+) live models and 0 in-flight non-inference requests")
STATUS_CODE = re.compile(r"^(?:Internal|Invalid argument|Unavailable|Unsupported|Not found|Unknown): ")
OUR_ERROR = re.compile(r"^(?:\w+\.)*(?:SettingsError|GraphFileError|TritonModelException): ")
PYTHON_STACK = re.compile(r"\n[^\S\n]*At:\n.*", re.DOTALL)


class TritonLog:
    """Reads the log from the pipe `descriptor`, in a thread, until its other end is closed.

    loading: models whose load has begun and not ended. refused: reasons, by model.
    left_at_stop: how often, in a row, tritonserver has said while it stopped that so many models were left;
        (models, times).
    """

    def __init__(self, descriptor: int):
        self.loading: set[str] = set()
        self.refused: dict[str, str] = {}
        self.left_at_stop = (0, 0)
        self._misread = ""
        self._tail: deque[str] = deque(maxlen=LAST_LINES)
        self._errors: deque[str] = deque(maxlen=SHOWN_LINES)
        self._thread = threading.Thread(target=self._read, args=(descriptor,), daemon=True)
        self._thread.start()

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as pipe:
            while line := pipe.readline(LONGEST_LINE_BYTES):
                self._take(line.decode(errors="replace").rstrip("\n"))

    def _take(self, line: str) -> None:
        self._tail.append(line)
        if ERROR_LINE.match(line):
            self._errors.append(line)
        if found := LOADING.search(line):
            self.loading = self.loading | {
                found[1]
            }  # a new set: another thread may be looking at the old one
            self.refused = {name: reason for name, reason in self.refused.items() if name != found[1]}
        elif found := LOADED.search(line) or FAILED.search(line):
            self.loading = self.loading - {found[1]}
        elif found := MISREAD.search(line):
            self._misread = found[1]
        elif found := REFUSED.search(line) or MISSES_STEPS.search(line):
            reason = in_operators_words(found[2].replace("\\n", "\n"))
            if self._misread and UNREADABLE in reason:
                reason, self._misread = f"{reason}: {self._misread}", ""
            self.refused = {**self.refused, found[1]: reason}
        elif found := LEFT_AT_STOP.search(line):
            models, times = self.left_at_stop
            self.left_at_stop = (int(found[1]), times + 1 if models == int(found[1]) else 1)

    def last_words(self) -> str:
        """The last lines that tell of errors, else the last lines, when the log has ended."""
        self._thread.join(timeout=5)
        return "\n".join(list(self._errors) or list(self._tail)[-SHOWN_LINES:])

    def end(self) -> str:
        """The last lines, when the log has ended."""
        self._thread.join(timeout=5)
        return "\n".join(self._tail)


def in_operators_words(reason: str) -> str:
    """A load error without status code, Python's files and lines, and names of ours for what is wrong.

    The log keeps them.
    """
    return OUR_ERROR.sub("", STATUS_CODE.sub("", PYTHON_STACK.sub("", reason)).strip())
