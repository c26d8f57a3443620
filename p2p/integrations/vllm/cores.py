"""Which cores the copying threads of a worker run on."""

import os
from pathlib import Path


def leave_the_engines_cores() -> None:
    """Lets this thread run wherever some thread of this process may.

    An engine on the CPU binds the thread that computes, which also waits actively for its next
    step. What such a thread starts inherits its cores, and would share them with it.
    """
    cores: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        try:
            cores |= os.sched_getaffinity(int(thread.name))
        except ProcessLookupError:  # it has ended
            continue
    os.sched_setaffinity(0, cores)
