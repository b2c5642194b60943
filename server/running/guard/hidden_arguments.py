"""Start a program with arguments that other users of the machine cannot read.

Everybody may read /proc/PID/cmdline, but only the process's own user /proc/PID/environ. So a secret argument
travels in the environment, and a word stands for it in the argument list. Before the program's first
instruction, while the kernel holds it for us at the end of execve, the pointer to the word is turned to the
secret.
"""

import ctypes
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence

PTRACE_TRACEME, PTRACE_DETACH = 0, 17  # linux/ptrace.h
VARIABLE = "TRITON_VISION_ARGUMENT_%d"
PLACEHOLDER = "--hidden-argument-%d"
OTHER_STACK_BYTES = 2**15  # on a new program's stack below its arguments: auxiliary vector, random gap
ARGUMENTS_FIELD = 45  # of /proc/PID/stat after the name: arg_start, arg_end, env_start, env_end

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


def start(
    command: Sequence[str], secret: Sequence[str], *, stdout: int, preexec: Callable[[], object]
) -> subprocess.Popen[bytes]:
    """`command` and then the `secret` arguments, with both outputs to `stdout`.

    Where processes cannot be traced the secret arguments are plain ones, and a line says so.
    """

    def run(
        arguments: Sequence[str], environment: dict[str, str], before: Callable[[], object]
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            preexec_fn=before,
        )

    def held() -> None:
        preexec()
        if libc.ptrace(PTRACE_TRACEME, 0, None, None) != 0:
            os._exit(1)

    if not secret:
        return run([], {}, preexec)
    placeholders = [PLACEHOLDER % number for number in range(len(secret))]
    variables = {VARIABLE % number: argument for number, argument in enumerate(secret)}
    child = run(placeholders, variables, held)
    try:
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            raise OSError("it cannot be traced")
        _turn_pointers(child.pid, dict(zip(placeholders, variables, strict=True)))
        if libc.ptrace(PTRACE_DETACH, child.pid, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")
        return child
    except (OSError, ValueError) as error:
        child.kill()
        child.wait()
        told = f"triton-vision: other users of this machine can read the key to model control: {error}\n"
        os.write(sys.stdout.fileno(), told.encode())
        return run(secret, {}, preexec)


def _turn_pointers(pid: int, variables: dict[str, str]) -> None:
    """Let each argument that is a key of `variables` be the value of that environment variable."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    arg_start, arg_end, env_start, env_end = map(int, fields[ARGUMENTS_FIELD : ARGUMENTS_FIELD + 4])
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:

        def read(start: int, end: int) -> bytes:
            memory.seek(start)
            return memory.read(end - start)

        arguments, environment = read(arg_start, arg_end), b"\0" + read(env_start, env_end)
        count = arguments.count(b"\0")
        pointers = struct.calcsize("@P") * (count + environment.count(b"\0"))
        below = pointers + OTHER_STACK_BYTES
        stack = read(arg_start - below, arg_start)
        vector = stack.rindex(struct.pack("@nP", count, arg_start)) + struct.calcsize("@n")
        for number in range(count):
            (address,) = struct.unpack_from("@P", stack, vector + number * struct.calcsize("@P"))
            word = arguments[address - arg_start :].partition(b"\0")[0].decode(errors="replace")
            if word in variables:
                name = b"\0" + variables.pop(word).encode() + b"="
                value = env_start + environment.index(name) + len(name) - 1
                memory.seek(arg_start - below + vector + number * struct.calcsize("@P"))
                memory.write(struct.pack("@P", value))
    if variables:
        raise ValueError("the argument vector was not found")
