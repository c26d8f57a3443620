"""Exit codes of every command."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a script may rely on; shown by ``--help``."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3


EXIT_CODES_HELP = """\
exit codes:
  0  done
  1  the operation failed, or was done in part (locate: not every key is held;
     explain: no reason is recorded; doctor: something is broken;
     operations: something was left undone, with the reason; the controller refused)
  2  usage or configuration is wrong
  3  no answer from the controller
"""
