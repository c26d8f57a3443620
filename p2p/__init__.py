"""A peer-to-peer KV cache fabric: instances read each other's KV straight from memory.

Importing this package loads no optional dependency (no torch, no NIXL, no ZMQ).
"""

__version__ = "0.1.0"
