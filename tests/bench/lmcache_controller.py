"""LMCache's own cache controller as a process, for comparison. Runs in an interpreter that has it.

``PYTHON lmcache_controller.py PULL_PORT REPLY_PORT NUM_INSTANCES NUM_KEYS SEED``: starts the
controller, registers instances, lets the last one admit the keys over its sockets, and prints
``ready``. The keys are the first eight bytes of ours: LMCache's are integers. Imports nothing of
ours.
"""

import asyncio
import random
import sys
import threading

import msgspec
import zmq
from lmcache.v1.cache_controller import message as lm
from lmcache.v1.cache_controller.controller_manager import LMCacheControllerManager

KEY_BYTES = 32
BATCH_KEYS = 50
_encode = msgspec.msgpack.encode


def fill(pull_port: int, reply_port: int, num_instances: int, keys: list[int]) -> None:
    """Registers instances and admits the keys at the last one, as a worker would."""
    context = zmq.Context()
    push, dealer = context.socket(zmq.PUSH), context.socket(zmq.DEALER)
    push.setsockopt(zmq.SNDHWM, 0)
    push.connect(f"tcp://127.0.0.1:{pull_port}")
    dealer.connect(f"tcp://127.0.0.1:{reply_port}")

    def ask(message: object) -> bytes:
        dealer.send_multipart([b"", _encode(message)])
        return bytes(dealer.recv_multipart()[-1])

    for number in range(num_instances):
        url = f"127.0.0.1:{20_000 + number}"
        ask(lm.RegisterMsg(f"instance-{number:04}", 0, "127.0.0.1", 20_000 + number, url))
    for start in range(0, len(keys), BATCH_KEYS):
        part = enumerate(keys[start : start + BATCH_KEYS], start)
        events = [lm.KVOpEvent(lm.OpType.ADMIT, key, number) for number, key in part]
        last = f"instance-{num_instances - 1:04}"
        push.send(_encode(lm.BatchedKVOperationMsg(last, 0, "LocalCPUBackend", events)))
    question = lm.BatchedP2PLookupMsg(hashes=keys[-1:], instance_id="asker", worker_id=0)
    while b"LocalCPUBackend" not in ask(question):  # pushes are not acknowledged
        threading.Event().wait(0.2)
    print("ready", flush=True)


def main() -> None:
    """Serves until killed."""
    pull_port, reply_port, num_instances, num_keys, seed = map(int, sys.argv[1:6])
    blob = random.Random(seed).randbytes(num_keys * KEY_BYTES)  # noqa: S311
    keys = [int.from_bytes(blob[at : at + 8], "big") for at in range(0, len(blob), KEY_BYTES)]
    urls = {"pull": f"127.0.0.1:{pull_port}", "reply": f"127.0.0.1:{reply_port}"}
    filling = threading.Thread(
        target=fill, args=(pull_port, reply_port, num_instances, keys), daemon=True
    )

    async def serve() -> None:
        controller = LMCacheControllerManager({**urls, "heartbeat": None}, -1, 3600)
        filling.start()
        await controller.start_all()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
