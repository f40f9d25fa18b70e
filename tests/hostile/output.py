"""Runs a program whose standard output is a pipe: `output.py hold|break PROGRAM [ARGUMENT...]`.

Its lines are passed on up to the first that says "Ready". From then on
hold: nobody reads, and the pipe fills up;
break: the reading end is gone.
Ends when the program ends.
"""

import os
import signal
import sys

mode, *command = sys.argv[1:]
reader, writer = os.pipe()
parent = os.getpid()
if os.fork() == 0:
    # The program is the parent, so that signals and exit status are its own; this is the reader.
    os.close(writer)
    with os.fdopen(reader) as lines:
        for line in lines:
            sys.stdout.write(line)
            sys.stdout.flush()
            if '"Ready"' in line:
                break
        if mode == "hold":
            while os.getppid() == parent:
                signal.sigtimedwait([], 0.2)
    os._exit(0)
os.close(reader)
os.dup2(writer, 1)
os.close(writer)
os.execvp(command[0], command)
