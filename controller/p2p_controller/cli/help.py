"""The longer texts of ``--help``."""

EXAMPLES = """\
examples:
  p2p-controller serve                          on tcp://127.0.0.1:7600
  p2p-controller serve --bind 'tcp://0.0.0.0:7600' --keys-dir /etc/p2p/keys
  p2p-controller status                         sizes, and counts of everything unusual
  p2p-controller instances --json | jq '.instances[].instance'
  p2p-controller clear --instance decode-3      that instance drops its chunks

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
Instances drop every chunk that they do not lend at that moment; the directory follows.

examples:
  p2p-controller clear                          everything, everywhere
  p2p-controller clear --namespace 5c0f… --wait 20
  p2p-controller clear --instance decode-3
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
