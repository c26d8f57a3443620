"""LMCache's own controller on the same chains: how it is run, and how it is asked."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.bench import directory_fleet as fleet
from tests.bench import harness


class LMCacheLine(fleet.Line):
    """A DEALER that speaks as LMCache's workers do."""

    def pump(self, frames: list[bytes], window: int) -> None:
        """Sends all frames, so many under way at a time, and waits for all answers."""
        for number, frame in enumerate(frames):
            if number >= window:
                self.socket.recv_multipart()
            self.socket.send_multipart((b"", frame))
        for _ in range(min(window, len(frames))):
            self.socket.recv_multipart()


def questions(blobs: list[bytes]) -> list[bytes]:
    """Returns a lookup for each chain, with keys of eight bytes: LMCache's are integers."""
    return [
        msgspec.msgpack.encode(
            {
                "type": "BatchedP2PLookupMsg",
                "hashes": [
                    int.from_bytes(blob[at : at + 8], "big")
                    for at in range(0, len(blob), fleet.KEY_BYTES)
                ],
                "instance_id": "asker",
                "worker_id": 0,
            }
        )
        for blob in blobs
    ]


@contextmanager
def running(python: str, num_instances: int) -> Iterator[LMCacheLine]:
    """Runs LMCache's controller, whose last instance holds all chains; yields a line to it."""
    ports = [harness.free_port(), harness.free_port()]
    num_keys = fleet.NUM_CHAINS * fleet.CHAIN_KEYS
    numbers = [*ports, num_instances, num_keys, fleet.SEED]
    script = Path(__file__).with_name("lmcache_controller.py")
    process = subprocess.Popen(
        [python, str(script), *map(str, numbers)],
        env={"PATH": "/usr/bin:/bin", "LMCACHE_LOG_LEVEL": "ERROR"},
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        said = iter(process.stdout.readline, b"")
        assert any(line == b"ready\n" for line in said), "LMCache's controller did not start"
        line = LMCacheLine(f"tcp://127.0.0.1:{ports[1]}")
        yield line
        line.close()
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()
