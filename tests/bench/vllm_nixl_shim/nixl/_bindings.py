"""What is beneath the Python API."""

from nixl_cu13._bindings import *  # noqa: F403
from nixl_cu13._bindings import nixlXferTelemetry  # noqa: F401
