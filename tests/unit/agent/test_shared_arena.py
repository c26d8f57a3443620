import os
import subprocess
import sys

import msgspec
import pytest

from p2p.agent.shared_arena import SharedArena, attach
from p2p.errors import MemoryUnavailableError

_CHILD = """
import sys, msgspec
from p2p.agent.shared_arena import ArenaFile, attach
memory = attach(msgspec.json.decode(sys.argv[1], type=ArenaFile))
memory[-1] = memory[0] + 1
"""


@pytest.fixture
def arena():
    arena = SharedArena(3 << 20)
    yield arena
    arena.close()


def test_another_process_writes_the_same_memory(arena):
    arena.view(0, 1)[0] = 41
    file = msgspec.json.encode(arena.file).decode()
    subprocess.run([sys.executable, "-c", _CHILD, file], check=True, timeout=60)
    assert arena.view(arena.num_bytes - 1, 1)[0] == 42


def test_a_mapping_of_our_own_is_the_memory_too(arena):
    mapped = attach(arena.file)
    assert mapped.size == arena.num_bytes
    mapped[7] = 7
    assert arena.view(7, 1)[0] == 7


def test_it_is_aligned_like_any_arena(arena):
    assert arena.address % (2 << 20) == 0


def test_a_file_that_is_gone_is_named(arena):
    gone = msgspec.structs.replace(arena.file, path=f"/proc/{os.getpid()}/fd/987654")
    with pytest.raises(MemoryUnavailableError, match="987654"):
        attach(gone)


def test_a_file_that_is_too_short_is_named(arena):
    longer = msgspec.structs.replace(arena.file, num_bytes=1 << 40)
    with pytest.raises(MemoryUnavailableError, match="bytes"):
        attach(longer)
