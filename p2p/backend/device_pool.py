"""A pool in the memory of a device: kernels copy and digest there, and peers read it from there.

Untested on hardware; tests run the same code with the host as the device.
"""

import threading
from typing import TYPE_CHECKING

import numpy as np

from p2p.agent.memory import DeviceArena
from p2p.backend.pool import check_pool_bytes
from p2p.errors import ArgumentError, ConfigError, DeviceError, P2PError, PluginMissingError
from p2p.kernels import (
    MIN_LEAF_BYTES,
    DeviceName,
    LeafDigester,
    open_leaf_digester,
    open_stream,
    root_digest,
)
from p2p.keys import ChunkKey
from p2p.layout import Layout

if TYPE_CHECKING:
    import torch


class DevicePool:
    """Memory of a device cut into slots of one chunk each. Thread-safe.

    Slots are torch tensors. What the digests read was written before: copies are over when they
    are told to be.

    Args:
        pool_bytes: memory to take; what does not fill a slot is not used.
        layout: of the chunks, of one rank.
        device: where.
        digester: digests there; by default the best that is installed.

    Raises:
        ConfigError: less than one chunk, chunks too short for devices, or nothing digests there.
        MemoryUnavailableError: torch is missing, or the device has not as much memory.
    """

    def __init__(
        self,
        pool_bytes: int,
        layout: Layout,
        device: DeviceName,
        digester: LeafDigester | None = None,
    ) -> None:
        self.slot_bytes = layout.chunk_bytes
        check_pool_bytes(pool_bytes, self.slot_bytes)
        if self.slot_bytes < MIN_LEAF_BYTES:
            reason = f"chunks of {self.slot_bytes} bytes; devices take {MIN_LEAF_BYTES} and more"
            raise ConfigError("backend.pool_memory", "device", reason)
        self._digester = digester or _open_digester(device)
        self._stream = open_stream(device)
        self._lock = threading.Lock()
        self.num_slots = pool_bytes // self.slot_bytes
        self._arena = DeviceArena(self.num_slots * self.slot_bytes, device.torch_name)
        self.region = self._arena.region(self.slot_bytes)

    def view(self, slot: int) -> "torch.Tensor":
        """Returns the bytes of a slot, without a copy."""
        return self._arena.view(slot * self.slot_bytes, self.slot_bytes)

    def digest(self, key: ChunkKey, slot: int) -> int:
        """Returns the digest of what lies in a slot, as the chunk of a key; equal to a host's.

        Eight bytes come to the host. Digests have a stream of their own, so that they do not wait
        for what the engine computes.

        Raises:
            DeviceError: the device failed.
        """
        try:
            with self._lock, self._stream.active():
                leaves = self._digester.leaf_digests([self.view(slot)], self.slot_bytes)
                words = leaves.cpu().numpy().view(np.uint64)
        except P2PError:
            raise
        except RuntimeError as error:  # torch's errors of devices
            raise DeviceError(f"the digest of slot {slot}: {error}") from error
        return root_digest(key, words[0])

    def close(self) -> None:
        """Drops nothing: peers may still read the memory, which lives as long as the process."""


def _open_digester(device: DeviceName) -> LeafDigester:
    try:
        return open_leaf_digester(f"{device.kind}:{device.index}")
    except (ArgumentError, PluginMissingError) as error:
        raise ConfigError("backend.pool_memory", "device", str(error)) from error
