"""Pairs of vLLM servers that share: with our connector, with vLLM's over NIXL, with LMCache's."""

import http.client
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from examples.p2p_sharing.cluster import free_port
from examples.p2p_sharing.processes import Process
from examples.p2p_sharing.vllm.client import Completion
from examples.p2p_sharing.vllm.servers import MODEL, Server, Servers, await_ready
from tests.bench import vllm_environment as bench

_SHIM = Path(__file__).with_name("vllm_nixl_shim")
_NUM_ANSWER_TOKENS = 4
_TIMEOUT_S = 240.0
_TRANSFER = "--kv-transfer-config"


def post(port: int, path: str, body: Mapping[str, object]) -> dict[str, object]:
    """Returns the answer of a server on this host to a request that must succeed."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    assert response.status == http.HTTPStatus.OK, (port, path, content)
    return json.loads(content or b"{}")


class OurPair:
    """Two servers with our connector."""

    name: ClassVar[str] = "ours"

    def __init__(self, servers: Servers) -> None:
        self.holder = servers.start("our-a", "0", bench.SHARING)
        self.reader = servers.start("our-b", "1", bench.SHARING)

    def meet(self) -> None:
        """Lets the first contact be over."""
        await_ready(self.holder, self.reader)
        bench.meet(self.holder, self.reader)

    def hold(self, prompt: list[int]) -> None:
        """Lets the holder compute a prompt, and the others know."""
        bench.hold(self.holder, prompt)

    def forget(self) -> None:
        """Lets the reader have nothing."""
        self.reader.client.forget(external=True)

    def hit(self, prompt: list[int]) -> Completion:
        """Returns the reader's answer to a prompt that the holder holds."""
        return self.reader.client.complete(prompt, _NUM_ANSWER_TOKENS)


class NixlPair:
    """vLLM's own connector: a prefill server, and a decode server that reads what the other has.

    Every read wants a request to the prefill server first, which keeps the blocks for it. That one
    hits the prefix cache there, and is not part of the time.
    """

    name: ClassVar[str] = "vllm_nixl"

    def __init__(self, servers: Servers) -> None:
        self.holder = self._start(servers, "nixl-a", "0", "kv_producer")
        self.reader = self._start(servers, "nixl-b", "1", "kv_consumer")

    def meet(self) -> None:
        """See `OurPair`."""
        await_ready(self.holder, self.reader)
        self.hit(bench.prompt_of(2 * bench.CHUNK_TOKENS + 1))

    def hold(self, prompt: list[int]) -> None:
        """See `OurPair`."""
        self.holder.client.complete(prompt, _NUM_ANSWER_TOKENS)

    def forget(self) -> None:
        """See `OurPair`."""
        self.reader.client.forget()

    def hit(self, prompt: list[int]) -> Completion:
        """See `OurPair`."""
        asked = {
            "do_remote_decode": True,
            "do_remote_prefill": False,
            "remote_engine_id": None,
            "remote_block_ids": None,
            "remote_host": None,
            "remote_port": None,
        }
        body = {"model": MODEL, "prompt": prompt, "max_tokens": 1, "temperature": 0}
        body |= {"kv_transfer_params": asked}
        kept = post(self.holder.client.port, "/v1/completions", body)["kv_transfer_params"]
        bench.await_idle()
        more = {"kv_transfer_params": kept}
        return self.reader.client.complete(prompt, _NUM_ANSWER_TOKENS, more=more)

    def _start(self, servers: Servers, name: str, core: str, role: str) -> Server:
        transfer = {
            "kv_connector": "NixlConnector",
            "kv_role": role,
            "kv_buffer_device": "cpu",
            "kv_load_failure_policy": "fail",
        }
        variables = {
            "PYTHONPATH": str(_SHIM),
            "VLLM_NIXL_SIDE_CHANNEL_HOST": "127.0.0.1",
            "VLLM_NIXL_SIDE_CHANNEL_PORT": str(free_port()),
            "UCX_TLS": "tcp,sm,self",
            "UCX_NET_DEVICES": "lo",
        }
        return servers.start_plain(name, core, _TRANSFER, json.dumps(transfer), variables=variables)


class LMCachePair:
    """LMCache 0.5.6 in processes of its own, one beside each vLLM, which read from each other.

    Args:
        servers: to start in.
        lmcache_python: has LMCache.
        vllm_python: has vLLM and LMCache.
    """

    name: ClassVar[str] = "lmcache"

    def __init__(self, servers: Servers, lmcache_python: str, vllm_python: str) -> None:
        self._servers = servers
        self._lmcache = lmcache_python
        self._vllm = vllm_python
        self._coordinator = free_port()
        coordinator = ["lmcache.cli.main", "coordinator", "--port", str(self._coordinator)]
        servers.add(Process("lm-coordinator", coordinator, servers.logs, python=lmcache_python))
        time.sleep(5)  # it says nothing when it is ready
        port, _ = self._cache("1")
        self.holder = self._engine("lm-a", "0", port)
        port, self._http = self._cache("2")
        self.reader = self._engine("lm-b", "1", port)

    def meet(self) -> None:
        """See `OurPair`."""
        await_ready(self.holder, self.reader)
        for _ in range(10):
            prompt = bench.prompt_of(2 * bench.CHUNK_TOKENS + 1)
            self.hold(prompt)
            if self.hit(prompt).num_cached:
                return
        raise AssertionError("LMCache's servers do not read from each other")

    def hold(self, prompt: list[int]) -> None:
        """See `OurPair`."""
        self.holder.client.complete(prompt, _NUM_ANSWER_TOKENS)
        time.sleep(3)  # it stores and reports on its own time

    def forget(self) -> None:
        """See `OurPair`."""
        self.reader.client.forget()
        post(self._http, "/cache/clear", {})

    def hit(self, prompt: list[int]) -> Completion:
        """See `OurPair`."""
        return self.reader.client.complete(prompt, _NUM_ANSWER_TOKENS)

    def _cache(self, number: str) -> tuple[int, int]:
        """Starts a cache server; returns its port for engines, and that for HTTP."""
        port, http_port, peer_port = free_port(), free_port(), free_port()
        words = {
            "--l1-size-gb": "0.5",
            "--eviction-policy": "LRU",
            "--chunk-size": str(bench.CHUNK_TOKENS),
            "--supported-transfer-mode": "engine_driven",
            "--port": str(port),
            "--http-port": str(http_port),
            "--coordinator-url": f"http://127.0.0.1:{self._coordinator}",
            "--coordinator-advertise-ip": "127.0.0.1",
            "--p2p-advertise-url": f"127.0.0.1:{peer_port}",
            "--instance-id": f"i{number}",
        }
        command = ["lmcache.cli.main", "server", "--coordinator-event-reporting"]
        command += [word for pair in words.items() for word in pair]
        logs = self._servers.logs
        self._servers.add(Process(f"lm-cache-{number}", command, logs, python=self._lmcache))
        return port, http_port

    def _engine(self, name: str, core: str, port: int) -> Server:
        extra = {"lmcache.mp.host": "tcp://127.0.0.1", "lmcache.mp.port": port}
        transfer = {
            "kv_connector": "LMCacheMPConnector",
            "kv_role": "kv_both",
            "kv_load_failure_policy": "recompute",
            "kv_connector_extra_config": extra,
        }
        return self._servers.start_plain(
            name, core, _TRANSFER, json.dumps(transfer), python=self._vllm
        )
