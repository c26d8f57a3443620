"""What an import may load: the base stays small, the controller runs without torch and NIXL."""

import subprocess
import sys

import pytest

from tests.e2e.controller_process import environment

_HEAVY = {"torch", "nixl_cu13", "cupy", "transformers"}
_HTTP = {"starlette", "uvicorn", "prometheus_client"}
_INSTANCES = {"p2p.backend", "p2p.agent", "p2p.channel"}


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("p2p", _HEAVY | {"zmq", "numpy"}),
        ("p2p.backend", _HEAVY),
        (
            "p2p_controller.server",
            _HEAVY | {"p2p.backend", "p2p.agent", "p2p.channel", "rich", *_HTTP},
        ),
    ],
)
def test_an_import_loads_nothing_that_it_does_not_need(module, forbidden):
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) & forbidden == set()
