"""The command ``p2p-controller``; also ``python -m p2p_controller``."""

import sys
from collections.abc import Sequence

from p2p.errors import LocalError, P2PError, PeerUnreachableError
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.parser import parse
from p2p_controller.cli.run import run


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    arguments = parse(argv)
    try:
        return run(arguments)
    except P2PError as error:
        line = " ".join(str(error).split())
        sys.stderr.write(f"p2p-controller: {line}\n")
        return _code_of(error)
    except (BrokenPipeError, KeyboardInterrupt):  # who reads our output has had enough
        return ExitCode.FAILED


def _code_of(error: P2PError) -> ExitCode:
    if isinstance(error, PeerUnreachableError):
        return ExitCode.UNREACHABLE
    return ExitCode.USAGE if isinstance(error, LocalError) else ExitCode.FAILED


if __name__ == "__main__":
    sys.exit(main())
