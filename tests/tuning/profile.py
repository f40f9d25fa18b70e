"""Runs a program under a container engine's seccomp profile: `profile.py FILE PROGRAM [ARGUMENT...]`.

The engine's own library for it, libseccomp, translates the names; apt depends on it, so it is there.
"""

import ctypes
import json
import os
import sys

ERRNO, ALLOW = 0x00050000, 0x7FFF0000

file, *command = sys.argv[1:]
with open(file) as text:
    profile = json.load(text)
library = ctypes.CDLL("libseccomp.so.2")
library.seccomp_init.restype = ctypes.c_void_p
filter_ = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ERRNO | profile["defaultErrnoRet"])))
for entry in profile["syscalls"]:
    for name in entry["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        assert number != -1, f"{name} is no system call"
        # Below -1: another architecture's.
        if number >= 0:
            assert library.seccomp_rule_add(filter_, ctypes.c_uint32(ALLOW), number, 0) == 0, name
assert library.seccomp_load(filter_) == 0
os.execvp(command[0], command)
