"""NVRTC by ctypes: what CuPy compiles with, without a driver. Needs the nvidia-cuda-nvrtc wheel."""

import ctypes
import importlib.util
from pathlib import Path


def folder():
    """Where the wheel's libraries lie, or none."""
    if importlib.util.find_spec("nvidia") is None:
        return None
    spec = importlib.util.find_spec("nvidia.cu13")
    places = [] if spec is None else spec.submodule_search_locations or []
    found = [Path(place) / "lib" for place in places]
    return next((lib for lib in found if (lib / "libnvrtc.so.13").exists()), None)


def compile_cubin(text, options, libraries):
    """Returns the device's code of a source.

    Args:
        text: the source.
        options: the compiler's.
        libraries: see `folder`.
    """
    # Loaded by the other one by its bare name, which the loader then knows.
    ctypes.CDLL(str(next(libraries.glob("libnvrtc-builtins.so*"))), mode=ctypes.RTLD_GLOBAL)
    nvrtc = ctypes.CDLL(str(libraries / "libnvrtc.so.13"))
    program = ctypes.c_void_p()
    source = ctypes.c_char_p(text.encode())
    nothing = (ctypes.byref(program), source, b"kernels.cu", 0, None, None)
    assert nvrtc.nvrtcCreateProgram(*nothing) == 0
    flags = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    status = nvrtc.nvrtcCompileProgram(program, len(options), flags)
    assert status == 0, _text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
    return _text(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)


def _text(size_of, read, program):
    size = ctypes.c_size_t()
    assert size_of(program, ctypes.byref(size)) == 0
    buffer = ctypes.create_string_buffer(size.value)
    assert read(program, buffer) == 0
    return buffer.raw
