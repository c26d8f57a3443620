"""The host as a device: a pool of torch tensors, digested by the definition for kernels."""

import numpy as np
import torch

from p2p.backend.device_pool import DevicePool
from p2p.kernels import DeviceName
from p2p.layout import Layout
from p2p_kernels.device_digest import check_leaves
from p2p_kernels.digest_numpy import xxh3_64

CPU = DeviceName.parse("cpu")


class HostDigester:
    """A `LeafDigester` over tensors on the host, apart from the library that hosts digest with."""

    def __init__(self) -> None:
        self.num_calls = 0

    def leaf_digests(self, slots, leaf_bytes: int) -> torch.Tensor:
        self.num_calls += 1
        per_chunk = check_leaves(slots, leaf_bytes, torch.device("cpu"))
        leaves = torch.stack(list(slots)).numpy().reshape(-1, leaf_bytes)
        return torch.from_numpy(xxh3_64(leaves).view(np.int64).reshape(len(slots), per_chunk))


def host_as_device(pool_bytes: int, layout: Layout, digester: object = None) -> DevicePool:
    return DevicePool(pool_bytes, layout, CPU, digester or HostDigester())  # type: ignore[arg-type]
