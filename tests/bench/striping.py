"""A fetch from two holders whose links are equally slow: each process a host, NIXL over TCP.

``striped_speedup``: time of fetching 64 chunks of 1 MiB from one holder, over that from two.
``rebalance_to_ideal``: one holder gets four times as slow in the middle of a fetch; time from then
on, over the bytes left by then divided by the rates of both; ``…_early`` after a quarter of the
bytes. ``complete_after_kill``: share of fetches that deliver every chunk, compared byte by byte,
though one holder is killed half-way.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import harness

harness.import_paths()

from tests.net import namespaces
from tests.net.instance_process import LAYOUT, Fetched, InstanceProcess, start_controller
from tests.net.namespaces import Host, Network

NUM_CHUNKS = 64
TOTAL_BYTES = NUM_CHUNKS * LAYOUT.chunk_bytes
RATE_MBIT = 400.0
SLOWDOWN = 4.0
PAYLOAD = 1448 / 1514  # of a full TCP segment's frame
_POLL_S = 0.001


class Cluster:
    """A controller, a reader and two holders of ``both``; one of them has ``one`` as well."""

    def __init__(self, network: Network) -> None:
        hosts = [network.add(name) for name in ("controller", "reader", "a", "b")]
        self._controller = start_controller(hosts[0])
        self.reader = InstanceProcess(hosts[1], self._controller, 2 * NUM_CHUNKS)
        self.holders = hosts[2:]
        self.processes = [self.start_holder(host) for host in self.holders]
        self.processes[0].put("one", NUM_CHUNKS)
        for holder in self.holders:
            holder.limit(RATE_MBIT)
        for prompt in ("one", "both"):  # the first fetch connects
            self.fetch(prompt)

    def start_holder(self, host: Host) -> InstanceProcess:
        """Starts a holder, with what both hold."""
        process = InstanceProcess(host, self._controller, 2 * NUM_CHUNKS)
        process.put("both", NUM_CHUNKS)
        return process

    def fetch(self, prompt: str) -> Fetched:
        """Fetches everything into an empty pool."""
        fetched = self.reader.fetch(prompt, NUM_CHUNKS)
        assert fetched["num_equal"] == NUM_CHUNKS, fetched
        self.reader.clear()
        return fetched

    def sent_bytes(self) -> int:
        """Returns what both holders have sent so far."""
        return sum(holder.sent_bytes for holder in self.holders)


def measure_speed(cluster: Cluster, rounds: int) -> dict[str, list[float]]:
    """Returns seconds of fetches from one holder and from both."""
    prompts = ("one", "both")
    seconds: dict[str, list[float]] = {prompt: [] for prompt in prompts}
    for _ in range(rounds):
        for prompt in prompts:
            seconds[prompt].append(cluster.fetch(prompt)["seconds"])
    return seconds


def measure_rebalance(cluster: Cluster, share: float) -> float:
    """Returns the time that a fetch takes after one holder got slow, over the ideal one.

    Args:
        cluster: the hosts.
        share: of the bytes, that is sent before.
    """
    start_bytes = cluster.sent_bytes()
    cluster.reader.say("fetch", "both", NUM_CHUNKS)
    while cluster.sent_bytes() < start_bytes + share * TOTAL_BYTES:
        time.sleep(_POLL_S)
    cluster.holders[1].limit(RATE_MBIT / SLOWDOWN)
    slowed_s = time.monotonic()
    left_bytes = TOTAL_BYTES - PAYLOAD * (cluster.sent_bytes() - start_bytes)
    fetched = cluster.reader.fetched()
    rest_s = fetched["ended_s"] - slowed_s
    assert fetched["num_equal"] == NUM_CHUNKS, fetched
    cluster.holders[1].limit(RATE_MBIT)
    cluster.reader.clear()
    rate = PAYLOAD * RATE_MBIT * 125_000
    return rest_s / (left_bytes / (rate + rate / SLOWDOWN))


def is_complete_after_kill(cluster: Cluster) -> float:
    """Returns 1.0 if a fetch delivered everything though a holder was killed half-way."""
    cluster.reader.say("fetch", "both", NUM_CHUNKS)
    cluster.reader.hear("half")
    cluster.processes[1].kill()
    fetched = cluster.reader.fetched()
    if fetched["num_equal"] != NUM_CHUNKS:
        print(f"after a kill: {fetched}", file=sys.stderr)
    cluster.processes[1] = cluster.start_holder(cluster.holders[1])
    cluster.reader.clear()
    cluster.fetch("both")
    return float(fetched["num_equal"] == NUM_CHUNKS)


def main() -> None:
    """Measures and prints."""
    options = harness.arguments(__doc__ or "")
    reason = namespaces.is_supported()
    if reason:
        harness.report({"skipped": reason}, options)
        return
    rounds = 20 if options.full else 5
    with Network() as network:
        cluster = Cluster(network)
        seconds = measure_speed(cluster, rounds)
        rebalances = [measure_rebalance(cluster, 0.5) for _ in range(rounds)]
        early = [measure_rebalance(cluster, 0.25) for _ in range(rounds)]
        completions = [is_complete_after_kill(cluster) for _ in range(3)]
    speedups = harness.paired(seconds["one"], seconds["both"])
    harness.report(
        {
            "striped_speedup": harness.spread(speedups)["median"],
            "striped_speedup_spread": harness.spread(speedups),
            "rebalance_to_ideal": harness.spread(rebalances)["median"],
            "rebalance_to_ideal_spread": harness.spread(rebalances),
            "rebalance_to_ideal_early": harness.spread(early)["median"],
            "rebalance_to_ideal_early_spread": harness.spread(early),
            "complete_after_kill": statistics.mean(completions),
            "one_holder_mb_per_s": harness.spread([TOTAL_BYTES / s / 1e6 for s in seconds["one"]]),
            "two_holders_mb_per_s": harness.spread(
                [TOTAL_BYTES / s / 1e6 for s in seconds["both"]]
            ),
            "holder_mb_per_s": RATE_MBIT / 8,
        },
        options,
    )


if __name__ == "__main__":
    main()
