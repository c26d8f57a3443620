"""Six readers want one long prompt at once; then its holder leaves. Equal links, NIXL over TCP.

``busiest_share`` is what the busiest holder served, over an equal share of all who served;
``last_to_single`` the slowest of six fetches over one alone. Both with one holder in the beginning,
and with three. ``drained_share`` is the part of a drained instance's chunks that its peers kept.
"""

from collections import Counter

from tests.bench import harness
from tests.net import namespaces
from tests.net.instance_process import LAYOUT, Fetched, InstanceProcess, start_controller
from tests.net.namespaces import Network

NUM_CHUNKS = 160
NUM_READERS = 6
RATE_MBIT = 200.0
_BUDGET_S = 55.0


class Crowd:
    """A controller, three holders (``one`` is on the first, ``three`` on all), and readers."""

    def __init__(self, network: Network) -> None:
        names = [f"h{number}" for number in range(3)] + [f"r{n}" for n in range(NUM_READERS)]
        controller, *hosts = [network.add(name) for name in ("controller", *names)]
        self._controller = start_controller(controller)
        processes = [InstanceProcess(host, self._controller, 2 * NUM_CHUNKS) for host in hosts]
        self.holders, self.readers = processes[:3], processes[3:]
        self.holders[0].put("one", NUM_CHUNKS)
        for holder in self.holders:
            holder.put("three", NUM_CHUNKS)
        for host in hosts:
            host.limit(RATE_MBIT)

    def alone(self, prompt: str) -> float:
        """Returns the seconds of one fetch."""
        fetched = self.readers[0].fetch(prompt, NUM_CHUNKS, _BUDGET_S)
        _check(fetched)
        self.readers[0].clear()
        return fetched["seconds"]

    def together(self, prompt: str) -> list[Fetched]:
        """Lets all readers fetch at once."""
        for reader in self.readers:
            reader.say("fetch", prompt, NUM_CHUNKS, _BUDGET_S)
        fetched = [reader.fetched() for reader in self.readers]
        for one in fetched:
            _check(one)
        for reader in self.readers:
            reader.clear()
        return fetched

    def drained(self, prompt: str) -> float:
        """Drains the first holder; returns the share of its chunks that is found afterwards."""
        self.holders[0].say("drain", budget_s=_BUDGET_S)
        self.holders[0].hear("done")
        self.holders[0].end()
        for holder in self.holders[1:]:
            assert holder.process.poll() is None
        fetched = self.readers[0].fetch(prompt, NUM_CHUNKS, _BUDGET_S)
        return fetched["num_equal"] / NUM_CHUNKS


def busiest_share(fetched: list[Fetched]) -> float:
    """Returns what the busiest holder served over an equal share of those who served."""
    served: Counter[str] = Counter()
    for one in fetched:
        served.update(one["chunks_by_holder"])
    return max(served.values()) * len(served) / served.total()


def _check(fetched: Fetched) -> None:
    assert fetched["num_equal"] == NUM_CHUNKS, fetched


def main() -> None:
    """Measures and prints."""
    options = harness.arguments(__doc__ or "")
    reason = namespaces.is_supported()
    if reason:
        harness.report({"skipped": reason}, options)
        return
    rounds = 5 if options.full else 3
    figures: dict[str, object] = {"holder_mb_per_s": RATE_MBIT / 8, "num_readers": NUM_READERS}
    figures["prompt_mb"] = NUM_CHUNKS * LAYOUT.chunk_bytes / 1e6
    with Network() as network:
        crowd = Crowd(network)
        for prompt in ("one", "three"):
            crowd.alone(prompt)  # the first fetch connects
            single_s = crowd.alone(prompt)
            together = [crowd.together(prompt) for _ in range(rounds)]
            shares = harness.spread([busiest_share(fetched) for fetched in together])
            last_s = [max(one["seconds"] for one in fetched) for fetched in together]
            lasts = harness.spread([seconds / single_s for seconds in last_s])
            figures |= {f"busiest_share_{prompt}": shares["median"]}
            figures |= {f"busiest_share_{prompt}_spread": shares}
            figures |= {f"last_to_single_{prompt}": lasts["median"]}
            figures |= {f"last_to_single_{prompt}_spread": lasts}
        figures["drained_share"] = crowd.drained("one")
    harness.report(figures, options)


if __name__ == "__main__":
    main()
