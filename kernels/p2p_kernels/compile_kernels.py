"""torch.compile: the same two calls as `torch_kernels`, as code that Inductor writes.

On the host Inductor writes C++ and needs a compiler; on devices it writes Triton. The first call
compiles, which takes seconds: so this one is measured only when somebody asks for it.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import TypeAlias

import torch
from torch._inductor.cpp_builder import get_cpp_compiler

from p2p.errors import PluginMissingError
from p2p_kernels.memory import PageMemory
from p2p_kernels.torch_kernels import TorchCopier

RowCopy: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]


class CompiledCopier(TorchCopier):
    """Copies on the cache's device; see `TorchCopier`."""

    name = "compile"

    def __init__(self, memory: PageMemory) -> None:
        _check_compiler(memory)
        super().__init__(memory)
        self._compiled_select: RowCopy = torch.compile(_select_rows, dynamic=True)
        self._compiled_put: RowCopy = torch.compile(_put_rows, dynamic=True)

    def _select(self, plane: torch.Tensor, index: torch.Tensor, part: torch.Tensor) -> None:
        _translated(self._compiled_select, plane, index, part)

    def _put(self, plane: torch.Tensor, index: torch.Tensor, part: torch.Tensor) -> None:
        _translated(self._compiled_put, plane, index, part)


def _select_rows(plane: torch.Tensor, index: torch.Tensor, part: torch.Tensor) -> None:
    part.copy_(plane[index])


def _put_rows(plane: torch.Tensor, index: torch.Tensor, part: torch.Tensor) -> None:
    plane[index] = part


def _translated(
    copy: RowCopy, plane: torch.Tensor, index: torch.Tensor, part: torch.Tensor
) -> None:
    try:
        copy(plane, index, part)
    except RuntimeError as error:  # all that Dynamo and Inductor raise
        reason = str(error).partition("\n")[0]
        raise PluginMissingError(f"torch.compile could not compile: {reason}") from error


def _check_compiler(memory: PageMemory) -> None:
    if memory.spec.device != "cpu":
        if find_spec("triton") is None:
            raise PluginMissingError("triton is not installed; compile needs it on devices")
        return
    try:
        get_cpp_compiler()
    except RuntimeError as error:  # InvalidCxxCompiler
        raise PluginMissingError("no C++ compiler; compile needs one on the host") from error
