"""The longer texts of ``--help``."""

EXAMPLES = """\
examples:
  p2p-controller serve                          on tcp://127.0.0.1:7600
  p2p-controller serve --bind 'tcp://0.0.0.0:7600' --keys-dir /etc/p2p/keys
  p2p-controller status                         sizes, and counts of everything unusual
  p2p-controller instances --json | jq '.instances[].instance'
  p2p-controller clear --instance decode-3      that instance drops its chunks
  p2p-controller drain decode-3 --wait 60       that instance gives its chunks to its peers

environment:
  P2P_CONTROLLER          address of the controller, where --controller is not given
  P2P_CONTROLLER_<KEY>    a setting of `serve`, such as P2P_CONTROLLER_BIND

"""
SERVE = """\
Runs a controller in the foreground until SIGTERM, SIGINT or `p2p-controller shutdown`.
Settings come from --config (table [controller]), then P2P_CONTROLLER_<KEY>, then --set and the
options here; the last wins. One line on stdout tells when the controller is ready, and where.

examples:
  p2p-controller serve --config p2p.toml
  p2p-controller serve --bind 'tcp://127.0.0.1:*' --json      takes a free port and names it
  p2p-controller serve --set silent_after_s=5 --set forget_after_s=120
  p2p-controller serve --http 127.0.0.1:7680                  also HTTP, with /openapi.json
"""
LOCATE = """\
Keys are given as hex words, in a file, or are made from token ids as instances make them.

examples:
  p2p-controller locate --namespace 5c0f… 9f2b… 77aa…
  p2p-controller locate --namespace 5c0f… --keys-file keys.txt --tenant acme
  p2p-controller locate --namespace 5c0f… --tokens-file prompt.json --chunk-tokens 256 --seed 0
`p2p-controller instances` shows the namespaces' ids.
"""
EXPLAIN = """\
Says why chunks of a prompt cannot be had, or why a request that an instance reported was short.
Every reason is recorded evidence, with instance and age. Exit code 1 if no reason is recorded.

examples:
  p2p-controller explain --namespace 5c0f… --keys-file keys.txt
  p2p-controller explain --as-instance decode-1 --tokens-file prompt.json --chunk-tokens 256
  p2p-controller explain --request decode-1.3fa2c1.42
`p2p-controller requests` shows the ids of the last short requests.
"""
REQUESTS = """\
Instances report their last fetches with their heartbeats; the controller keeps the last 4096.

examples:
  p2p-controller requests
  p2p-controller requests --instance decode-1 --all --limit 200 --json
"""
CLEAR = """\
Instances drop chunks, pinned ones too; the directory follows. What is in use is dropped as soon as
it is not, within --wait. With keys, the named chunks go and all that follow on any of them: prompts
that begin in the same way go with them.

examples:
  p2p-controller clear                          everything, everywhere
  p2p-controller clear --namespace 5c0f… --wait 20
  p2p-controller clear --instance decode-3
  p2p-controller clear --namespace 5c0f… --tokens-file system-prompt.json --chunk-tokens 256
"""
PIN = """\
Without --instance every holder is asked for the chunks that it has, by the directory. A pinned
chunk is not evicted, however long it is not used; it can still be lent, and `clear` drops it. An
instance pins at most a share of its pool (its setting pinned_share, by default half), and forgets
its pins with its chunks when it restarts.

examples:
  p2p-controller pin --namespace 5c0f… --tokens-file system-prompt.json --chunk-tokens 256
  p2p-controller pin --namespace 5c0f… --keys-file keys.txt --instance decode-3 --for 3600
  p2p-controller unpin --namespace 5c0f… --keys-file keys.txt
"""
EVICT = """\
Exactly the named chunks go, but for pinned ones; what is in use goes as soon as it is not, within
--wait. Without --instance every holder is asked.

examples:
  p2p-controller evict --namespace 5c0f… --keys-file keys.txt --instance decode-3
"""
REPLICATE = """\
The target fetches the chunks as for an engine, from the first one on. `move` then has them evicted
at --from, or at every other holder, but only if the target has reported all of them, and each only
while the target keeps it; what is pinned there stays.

examples:
  p2p-controller replicate --namespace 5c0f… --keys-file keys.txt --to decode-3
  p2p-controller move --namespace 5c0f… --keys-file keys.txt --from decode-1 --to decode-3
"""
DRAIN = """\
Peers fetch what the instance holds, hottest first, as far as they have room. When they have all,
the instance is shown as leaving and nobody is sent there any more; end its process then. Pins are
not handed over: the report says how many chunks were pinned.

examples:
  p2p-controller drain decode-3 --wait 60
"""
KEYS = """\
With keys every connection is encrypted, and only who has an authorized key gets an answer.

examples:
  p2p-controller keys init /etc/p2p/keys --name prefill-0 --name decode-0
  p2p-controller serve --keys-dir /etc/p2p/keys
  p2p-controller status --keys-dir /etc/p2p/keys --key-name admin
"""
LEASES = """\
Asks every instance that the controller knows; each must be reachable from here.

examples:
  p2p-controller leases
  p2p-controller leases --instance prefill-2 --json | jq '.leases_by_holder'
"""
DOCTOR = """\
Asks every instance that the controller knows what it found on its machine (devices, network,
limits, channels, kernels), and which channel serves each peer that it has read from, with the
latency and the bandwidth that were measured, and why no better channel does. Then says what to
change. Exit code 1 if something is broken. What never ran on the hardware it is for is marked.

examples:
  p2p-controller doctor
  p2p-controller doctor --instance decode-3
  p2p-controller doctor --json | jq '.advice[] | select(.level == "broken")'
"""
