"""Runs a program under a system call filter: `launch.py stock|no-io-uring PROGRAM [ARGUMENT...]`.

stock: kills on what Mastodon's unit forbids (@resources with new limits, @memlock).
no-io-uring: refuses io_uring with EPERM, as container engines do.
"""

import ctypes
import os
import struct
import sys

LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, KILL, EPERM = 0x7FFF0000, 0x80000000, 0x00050001
# System call numbers of x86-64.
PRLIMIT64 = 302
KILLED = {"setrlimit": 160, "sched_setaffinity": 203, "mlock": 149, "munlock": 150,
          "mlockall": 151, "munlockall": 152, "mlock2": 325}
IO_URING = (425, 426, 427)


def op(code, value, on_true=0, on_false=0):
    return struct.pack("HBBI", code, on_true, on_false, value)


def refuse(numbers, answer):
    return b"".join(op(JUMP_EQUAL, number, 0, 1) + op(RETURN, answer) for number in numbers)


mode, *command = sys.argv[1:]
program = op(LOAD, 0)
if mode == "stock":
    program += refuse(KILLED.values(), KILL)
    # prlimit64 may ask (its third argument is null) but not set.
    program += op(JUMP_EQUAL, PRLIMIT64, 0, 5)
    program += op(LOAD, 32) + op(JUMP_EQUAL, 0, 0, 2)
    program += op(LOAD, 36) + op(JUMP_EQUAL, 0, 1, 0) + op(RETURN, KILL)
else:
    program += refuse(IO_URING, EPERM)
program += op(RETURN, ALLOW)

libc = ctypes.CDLL(None, use_errno=True)
code = ctypes.create_string_buffer(program, len(program))
filter_ = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, filter_, 0, 0) == 0, os.strerror(ctypes.get_errno())  # PR_SET_SECCOMP
os.execvp(command[0], command)
