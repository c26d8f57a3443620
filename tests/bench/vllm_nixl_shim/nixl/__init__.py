"""NIXL as vLLM's NixlConnector imports it, mended so that it can be measured on few cores.

Two changes, both in favour of that connector: a progress thread that sleeps between looks, where
NIXL's Python API makes it spin on a core; and no binding of the worker to the machine's last core,
where it would compute beside that thread. Without them a prefill takes minutes on two cores.
"""
