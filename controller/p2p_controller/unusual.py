"""The names of everything unusual that a controller counts. No I/O.

A counter that first appears with its first event has no rate then: who watches must see it at zero
before.
"""

EVENTS = (
    "gaps",
    "batches_not_kept",
    "batches_duplicate",
    "drifts",
    "heartbeats_late",
    "syncs_stalled",
    "turns_stalled",
    "snapshots_too_old",
    "pages_superseded",
    "pages_duplicate",
    "pages_out_of_order",
    "pages_inconsistent",
    "instances_silent",
    "instances_returned",
    "instances_forgotten",
    "incarnations_fenced",
    "stale_incarnation",
    "registered_again",
    "unregistered",
    "other_epoch",
    "malformed",
    "layouts_refused",
    "registrations_refused",
    "http_ended",
    "reports_repeated",
    "orders_reported_again",
    "orders_taken_back",
    "orders_refused",
)
DROPPED = "dropped_"
DROPPED_KINDS = ("frames", "version", "body", "unsent", "too_large", "handshake")
