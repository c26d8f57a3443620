"""The operations of a client: what people have the instances do."""

from collections.abc import Iterable
from typing import TypeVar

from p2p.errors import ArgumentError
from p2p.keys import ChunkKey, join_keys
from p2p.wire.messages import (
    Clear,
    Cleared,
    ControllerRequest,
    Drain,
    Drained,
    Evict,
    Evicted,
    Message,
    Move,
    Moved,
    Pin,
    Pinned,
    Replicate,
    Replicated,
    Unpin,
    Unpinned,
)

R = TypeVar("R", bound=Message)


class Operations:
    """Asks for operations and waits for what was done; part of `ControllerClient`.

    Keys are those of one prompt, in order. ``wait_s`` is how long the instances have. The replies
    name what was left undone, which is no error here.
    """

    def ask(self, message: ControllerRequest, kind: type[R], extra_s: float = 0.0) -> R:
        """Returns the answer if it is of the expected kind; see `ControllerClient`."""
        raise NotImplementedError

    def pin(
        self,
        namespace: str,
        keys: Iterable[ChunkKey],
        *,
        tenant: str = "",
        instance: str = "",
        pin_s: float = 0.0,
        wait_s: float = 5.0,
    ) -> Pinned:
        """Keeps chunks from being evicted, at an instance or everywhere; 0 s is for good."""
        blob, key_bytes = join_keys(keys)
        question = Pin(
            namespace=namespace,
            keys=blob,
            key_bytes=key_bytes,
            tenant=tenant,
            instance=instance,
            pin_ms=round(pin_s * 1000),
            timeout_ms=round(wait_s * 1000),
        )
        return self.ask(question, Pinned, extra_s=wait_s)

    def unpin(
        self,
        namespace: str,
        keys: Iterable[ChunkKey],
        *,
        tenant: str = "",
        instance: str = "",
        wait_s: float = 5.0,
    ) -> Unpinned:
        """Lets chunks be evicted again, at an instance or everywhere."""
        blob, key_bytes = join_keys(keys)
        question = Unpin(
            namespace=namespace,
            keys=blob,
            key_bytes=key_bytes,
            tenant=tenant,
            instance=instance,
            timeout_ms=round(wait_s * 1000),
        )
        return self.ask(question, Unpinned, extra_s=wait_s)

    def evict(
        self,
        namespace: str,
        keys: Iterable[ChunkKey],
        *,
        tenant: str = "",
        instance: str = "",
        wait_s: float = 5.0,
    ) -> Evicted:
        """Has exactly these chunks dropped, at an instance or everywhere, but for pinned ones."""
        blob, key_bytes = join_keys(keys)
        question = Evict(
            namespace=namespace,
            keys=blob,
            key_bytes=key_bytes,
            tenant=tenant,
            instance=instance,
            timeout_ms=round(wait_s * 1000),
        )
        return self.ask(question, Evicted, extra_s=wait_s)

    def replicate(
        self,
        namespace: str,
        keys: Iterable[ChunkKey],
        target: str,
        *,
        source: str = "",
        tenant: str = "",
        wait_s: float = 30.0,
    ) -> Replicated:
        """Has an instance fetch chunks, from a named one or from whoever is best."""
        blob, key_bytes = join_keys(keys)
        question = Replicate(
            namespace=namespace,
            keys=blob,
            key_bytes=key_bytes,
            target=target,
            source=source,
            tenant=tenant,
            timeout_ms=round(wait_s * 1000),
        )
        return self.ask(question, Replicated, extra_s=wait_s)

    def move(
        self,
        namespace: str,
        keys: Iterable[ChunkKey],
        target: str,
        *,
        source: str = "",
        tenant: str = "",
        wait_s: float = 30.0,
    ) -> Moved:
        """Has an instance fetch chunks, and the source, or all others, drop them after that."""
        blob, key_bytes = join_keys(keys)
        question = Move(
            namespace=namespace,
            keys=blob,
            key_bytes=key_bytes,
            target=target,
            source=source,
            tenant=tenant,
            timeout_ms=round(wait_s * 1000),
        )
        return self.ask(question, Moved, extra_s=wait_s)

    def clear(
        self,
        namespace: str = "",
        instance: str = "",
        wait_s: float = 5.0,
        *,
        keys: Iterable[ChunkKey] | None = None,
        tenant: str = "",
    ) -> Cleared:
        """Makes instances drop their chunks: all, or these keys and what follows on them.

        Raises:
            ArgumentError: there are no keys in ``keys``, which must not clear everything.
        """
        blob, key_bytes = join_keys(keys or ())
        if keys is not None and not blob:
            raise ArgumentError("keys", [], "there are none; without keys, all chunks would go")
        question = Clear(
            namespace=namespace,
            instance=instance,
            keys=blob,
            key_bytes=key_bytes,
            tenant=tenant,
            timeout_ms=round(wait_s * 1000),
        )
        return self.ask(question, Cleared, extra_s=wait_s)

    def drain(self, instance: str, wait_s: float = 30.0) -> Drained:
        """Has an instance give all that it holds to its peers."""
        question = Drain(instance=instance, timeout_ms=round(wait_s * 1000))
        return self.ask(question, Drained, extra_s=wait_s)
