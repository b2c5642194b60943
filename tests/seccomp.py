"""Run a command that the kernel refuses some system calls, as a container's seccomp profile does.

    python tests/seccomp.py set_mempolicy,ptrace COMMAND...

They fail with EPERM, in the command and in all that it starts. Needs no rights. x86-64 only.
"""

import ctypes
import errno
import os
import sys

NUMBERS = {"ptrace": 101, "mbind": 237, "set_mempolicy": 238, "get_mempolicy": 239, "pidfd_getfd": 438}
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2  # linux/prctl.h, linux/seccomp.h
BPF_LOAD_WORD, BPF_JUMP_IF_EQUAL, BPF_RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h
SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO = 0x7FFF0000, 0x00050000


class Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(Instruction)))


def refuse(names: list[str]) -> None:
    """Let these calls fail in this process and its children, from now on."""
    code = [Instruction(BPF_LOAD_WORD, 0, 0, 0)]  # seccomp_data begins with the number of the call
    for name in names:
        code += [
            Instruction(BPF_JUMP_IF_EQUAL, 0, 1, NUMBERS[name]),
            Instruction(BPF_RETURN, 0, 0, SECCOMP_RET_ERRNO | errno.EPERM),
        ]
    code.append(Instruction(BPF_RETURN, 0, 0, SECCOMP_RET_ALLOW))
    program = Program(len(code), (Instruction * len(code))(*code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    refuse(sys.argv[1].split(","))
    os.execvp(sys.argv[2], sys.argv[2:])
