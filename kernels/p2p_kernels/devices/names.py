"""Names of devices, parsed by ourselves: torch knows ``npu`` and ``mlu`` only with their plugins.

Pure: no I/O, no torch.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from p2p.errors import ArgumentError


class DeviceKind(StrEnum):
    """What a device is, by whose software drives it. Hygon's DCU is ``ROCM``."""

    CPU = "cpu"
    CUDA = "cuda"
    ROCM = "rocm"
    NPU = "npu"
    MLU = "mlu"


_KIND_BY_NAME = {
    **{kind.value: kind for kind in DeviceKind},
    "hip": DeviceKind.ROCM,
    "dcu": DeviceKind.ROCM,
}
_NAME = re.compile(r"([a-z]+)(?::(\d{1,4}))?")


@dataclass(frozen=True, slots=True)
class DeviceName:
    """One device of this machine.

    Attributes:
        kind: what it is.
        index: its number among its kind; zero for the host.
    """

    kind: DeviceKind
    index: int = 0

    @classmethod
    def parse(cls, text: str) -> "DeviceName":
        """Reads ``kind`` or ``kind:index``; ``hip`` and ``dcu`` are other names of ``rocm``.

        Raises:
            ArgumentError: the text is no such name.
        """
        match = _NAME.fullmatch(text)
        kind = _KIND_BY_NAME.get(match[1]) if match else None
        if match is None or kind is None:
            expected = f"one of {', '.join(_KIND_BY_NAME)}, with :number or without"
            raise ArgumentError("device", text, expected)
        index = int(match[2] or 0)
        if kind is DeviceKind.CPU and index:
            raise ArgumentError("device", text, "the host is one device")
        return cls(kind, index)

    @property
    def torch_type(self) -> str:
        """The type of device in torch, where ROCm is called ``cuda``."""
        return "cuda" if self.kind is DeviceKind.ROCM else self.kind.value

    @property
    def torch_name(self) -> str:
        """The device as torch writes it."""
        return "cpu" if self.kind is DeviceKind.CPU else f"{self.torch_type}:{self.index}"
