"""Memory of a rank and the agents over it.

`memory` holds arenas, `serving` and `reading` are the agents of NIXL, `probe` connects to
strangers. Nothing here is imported with the package: NIXL and torch are optional.
"""
