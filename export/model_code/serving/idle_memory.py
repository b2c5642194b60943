"""What large images took goes back to the system once this process has nothing to do.

malloc keeps what is freed for the next image, which is right while one follows the other: fresh pages cost up
to half as much as opening an image does. It would keep them for good, though. The launcher has all threads of
a process share one heap (MALLOC_ARENA_MAX), as malloc gives back the end of the first one only.

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

import ctypes
import threading
import time

__all__ = ["give_back_when_idle"]

LOOK_S = 1.0
IDLE_S = 0.01  # of CPU, between two looks: less is nothing


def give_back_when_idle() -> None:
    """From now on, in a thread that ends with the process. Does nothing where malloc is not glibc's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        threading.Thread(target=_look, args=(trim,), daemon=True).start()


def _look(trim: "ctypes._NamedFuncPointer") -> None:
    used, worked = time.process_time(), True
    while True:
        time.sleep(LOOK_S)
        before, used = used, time.process_time()
        if used - before > IDLE_S:
            worked = True
        elif worked:
            trim(0)
            worked, used = False, time.process_time()
