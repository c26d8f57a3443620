"""Who we are to the other end of a stream, and whom we believe. Thread-safe."""

from p2p.channel.tcp.greeting import NO_KEY
from p2p.channel.tcp.x25519 import KEY_BYTES, x25519
from p2p.wire.curve import CurveKeys, authorized_keys, raw_key


class Identity:
    """Our CURVE keys and those that are authorized; a cluster without keys has none.

    Args:
        keys: None without keys.
    """

    def __init__(self, keys: CurveKeys | None) -> None:
        self._keys = keys
        self._secret = raw_key(keys.secret) if keys else b""
        self._shared_by_key: dict[bytes, bytes] = {}
        self._known: tuple[int, frozenset[bytes]] = (-1, frozenset())
        self.public = raw_key(keys.public) if keys else NO_KEY

    def misfit(self, key: bytes) -> tuple[str, str] | None:
        """Returns what we expect and what a peer's key is, if it is none that we believe."""
        if self._keys is None:
            return ("none", "one") if key else None
        if len(key) != KEY_BYTES:
            return ("one of 32 bytes", f"one of {len(key)}")
        return None if key in self._authorized(self._keys) else ("an authorized one", "another")

    def shared(self, key: bytes) -> bytes:
        """Returns what our key and one that `misfit` let pass agree on; empty without keys.

        Raises:
            ArgumentError: the key is one that hides nothing.
        """
        if self._keys is None:
            return b""
        found = self._shared_by_key.get(key)
        if found is None:
            found = self._shared_by_key[key] = x25519(self._secret, key)
        return found

    def _authorized(self, keys: CurveKeys) -> frozenset[bytes]:
        """Returns the public keys in the folder, read again when it has changed."""
        changed = keys.authorized.stat().st_mtime_ns
        if self._known[0] != changed:
            self._known = (changed, authorized_keys(keys.authorized))
        return self._known[1]
