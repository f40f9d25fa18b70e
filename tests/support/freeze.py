"""Holds the threads of one name in a process still until standard input ends: `freeze.py PID NAME`.

ptrace(2) stops single threads, which no signal can: what a hung core looks like from outside.
"""

import ctypes
import os
import sys

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17

pid, name = sys.argv[1:]
library = ctypes.CDLL(None, use_errno=True)
library.ptrace.argtypes = [ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request, thread):
    assert library.ptrace(request, thread, None, None) == 0, os.strerror(ctypes.get_errno())


def name_of(thread):
    with open(f"/proc/{pid}/task/{thread}/comm") as file:
        return file.read().strip()


# The threads that glommio starts beside its own have the same name.
threads = [int(thread) for thread in os.listdir(f"/proc/{pid}/task") if name_of(thread) == name]
assert threads, f"no thread is called {name}"
for thread in threads:
    ptrace(PTRACE_SEIZE, thread)
    ptrace(PTRACE_INTERRUPT, thread)
    os.waitpid(thread, 0x40000000)  # __WALL: threads of others, too
print("frozen", flush=True)
sys.stdin.read()
for thread in threads:
    ptrace(PTRACE_DETACH, thread)
