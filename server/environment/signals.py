"""The signals that stop a launcher: the first of them ends what it is at, wherever that is."""

import signal
import threading

__all__ = ["stop_at_signals", "stop_if_told"]

told = threading.Event()


def stop_at_signals() -> None:
    """Ctrl-C, SIGTERM and the end of a terminal raise `KeyboardInterrupt`, but the first of them alone.

    A stop that has begun comes to its end by itself; broken off it would leave something behind.
    """
    ignored = {n for n in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_IGN}  # nohup
    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} - ignored

    def stop(*_: object) -> None:
        for number in numbers:
            signal.signal(number, lambda *_: None)
        told.set()
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, stop)


def stop_if_told() -> None:
    """For what goes on until a signal: raises `KeyboardInterrupt` if one came and its own was lost.

    Python drops what is raised while an object is finalised or a generator closed. In other threads than the
    main one, where no signal is taken, this does nothing.
    """
    if told.is_set() and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt
