"""Fixtures for tests with real engines, where vLLM is installed (`make test-vllm`)."""

import importlib.util
import os

if importlib.util.find_spec("vllm") is not None:
    os.environ |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from tests.e2e.vllm.fixtures import (  # noqa: F401  vLLM reads its environment when imported
        a,
        b,
        controller,
        engines,
        model,
        own_controller,
        plain,
    )
