"""What tests watch of transfers and of processes."""

import os
import time
from pathlib import Path

from p2p.agent.drain import DRAIN
from p2p.channel.base import Transfer, TransferState

TIMEOUT_S = 10.0


def finish_well(transfer: Transfer) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while transfer.poll() is TransferState.PENDING:
        assert time.monotonic() < deadline
    assert transfer.poll() is TransferState.DONE, transfer.error()


def wait_quiesced(transfer: Transfer) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not transfer.quiesced():
        assert time.monotonic() < deadline


def num_open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def num_threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_drained() -> None:
    """Waits until no socket of an agent that was torn down is open any more."""
    deadline = time.monotonic() + TIMEOUT_S
    while len(DRAIN):
        assert time.monotonic() < deadline
        time.sleep(0.05)
