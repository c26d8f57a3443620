"""Chunk keys and namespaces: what makes a piece of KV cache identifiable across instances.

A chunk key is the chained hash at the chunk's last token block, so it stands for the chunk's
content and its whole prefix. Engines bring their own (vLLM's block hashes); `chunk_keys` makes
them where the engine has none. Pure functions, but `weights_digest`, which reads a model folder.
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, NamedTuple, NewType

import msgspec
import numpy as np

from p2p.errors import ArgumentError

ChunkKey = NewType("ChunkKey", bytes)
InstanceId = NewType("InstanceId", str)
NamespaceId = NewType("NamespaceId", str)

MIN_KEY_BYTES = 8
MAX_KEY_BYTES = 64
KEY_SCHEME = "p2p-blake2b-256"
_KEY_BYTES = 32
_CONFIG_FILES = ("config.json", "quantize_config.json", "hf_quant_config.json")
_WEIGHT_SUFFIXES = (".safetensors", ".gguf", ".bin", ".pt", ".pth")
_HEADER_BYTES_MAX = 64 << 20
_PROBE_BYTES = 1 << 20
_FEW_KEYS = 256

ShortText = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Chain(NamedTuple):
    """Keys of one length, one behind the other, as they travel.

    Attributes:
        blob: a whole number of keys.
        key_bytes: length of each.
    """

    blob: bytes
    key_bytes: int


class Namespace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must be equal for two chunk keys to mean the same content.

    Attributes:
        model: the model's name, for people; the digest decides.
        weights_digest: of the weights (see `weights_digest`), or a hub commit; never a path.
        kv_dtype: element type of the KV cache, such as ``bfloat16``.
        key_scheme: how keys are made, such as ``p2p-blake2b-256`` or ``vllm-sha256_cbor``.
        key_seed: the hash chain's seed (vLLM: PYTHONHASHSEED).
    """

    model: ShortText
    weights_digest: ShortText
    kv_dtype: ShortText
    key_scheme: ShortText = KEY_SCHEME
    key_seed: Annotated[str, msgspec.Meta(max_length=256)] = ""

    @property
    def id(self) -> NamespaceId:
        """32 hex digits over all fields: equal namespaces have equal ids."""
        content = msgspec.msgpack.encode(self, order="deterministic")
        return NamespaceId(hashlib.blake2b(content, digest_size=16).hexdigest())

    def differing(self, other: "Namespace") -> list[str]:
        """Returns the names of the fields in which two namespaces differ."""
        fields = self.__struct_fields__
        return [name for name in fields if getattr(self, name) != getattr(other, name)]


def chunk_keys(
    tokens: Sequence[int], chunk_tokens: int, *, seed: str = "", salt: str = ""
) -> list[ChunkKey]:
    """Returns the key of every full chunk of a prompt; a last, short chunk has none.

    Args:
        tokens: token ids, each below 2**32.
        chunk_tokens: tokens per chunk.
        seed: the namespace's ``key_seed``.
        salt: isolates callers from each other: keys of two salts never meet.

    Returns:
        ``len(tokens) // chunk_tokens`` keys of 32 bytes; each depends on all tokens before it.

    Raises:
        ArgumentError: if ``chunk_tokens`` is not positive or a token does not fit.
    """
    if chunk_tokens < 1:
        raise ArgumentError("chunk_tokens", chunk_tokens, "at least 1")
    try:
        content = np.asarray(tokens)
    except (ValueError, OverflowError, TypeError) as error:
        raise ArgumentError("tokens", type(tokens).__name__, str(error)) from error
    if content.ndim != 1 or (content.size and content.dtype.kind not in "iu"):
        found = f"{content.dtype} {content.shape}"
        raise ArgumentError("tokens", found, "token ids are one row of whole numbers")
    for extreme in (content.min(), content.max()) if content.size else ():
        if not 0 <= int(extreme) < 1 << 32:
            raise ArgumentError("tokens", int(extreme), "token ids are 0 to 2**32 - 1")
    little_endian = content.astype("<u4")
    parent = _root_key(seed, salt)
    keys: list[ChunkKey] = []
    for start in range(0, len(little_endian) - chunk_tokens + 1, chunk_tokens):
        chunk = little_endian[start : start + chunk_tokens]
        parent = hashlib.blake2b(chunk.tobytes(), digest_size=_KEY_BYTES, key=parent).digest()
        keys.append(ChunkKey(parent))
    return keys


def _root_key(seed: str, salt: str) -> bytes:
    seed_bytes, salt_bytes = seed.encode(), salt.encode()
    content = struct.pack("<II", len(seed_bytes), len(salt_bytes)) + seed_bytes + salt_bytes
    return hashlib.blake2b(content, digest_size=_KEY_BYTES, person=b"p2p-kv-root").digest()


def check_keys(keys: Sequence[ChunkKey]) -> None:
    """Raises `ArgumentError` if lengths differ or are outside 8 to 64 bytes."""
    if not keys:
        return
    key_bytes = len(keys[0])
    if not MIN_KEY_BYTES <= key_bytes <= MAX_KEY_BYTES:
        raise ArgumentError("keys", keys[0], f"{key_bytes} bytes; 8 to 64 are allowed")
    if any(len(key) != key_bytes for key in keys):
        raise ArgumentError("keys", len(keys), "all keys of a request have the same length")


def join_keys(keys: Iterable[ChunkKey]) -> Chain:
    """Returns keys as one blob and the length of each.

    Raises:
        ArgumentError: if lengths differ or are outside 8 to 64 bytes.
    """
    listed = list(keys)
    check_keys(listed)
    return Chain(b"".join(listed), len(listed[0]) if listed else _KEY_BYTES)


def check_chain(chain: Chain) -> None:
    """Raises `ArgumentError` if a blob is no whole number of keys, or their length not allowed."""
    blob, key_bytes = chain
    if not MIN_KEY_BYTES <= key_bytes <= MAX_KEY_BYTES:
        raise ArgumentError("key_bytes", key_bytes, "8 to 64 are allowed")
    if len(blob) % key_bytes:
        raise ArgumentError("keys", len(blob), f"no multiple of key_bytes = {key_bytes}")


def split_keys(blob: bytes, key_bytes: int) -> list[ChunkKey]:
    """Returns the keys in a blob.

    Raises:
        ArgumentError: if the blob is no whole number of keys, or the key length is not allowed.
    """
    check_chain(Chain(blob, key_bytes))
    num_keys = len(blob) // key_bytes
    if num_keys <= _FEW_KEYS:  # both ways take a third of the time of slicing
        return list(_unpacker(key_bytes, num_keys).unpack(blob))
    return np.frombuffer(blob, f"V{key_bytes}").tolist()  # type: ignore[no-any-return]


@lru_cache(maxsize=512)
def _unpacker(key_bytes: int, num_keys: int) -> struct.Struct:
    return struct.Struct(f"{key_bytes}s" * num_keys)


def weights_digest(folder: str | Path) -> str:
    """Returns a digest that tells one set of weights from another without reading all of it.

    Covered are the configuration files, every weight file's name and size, and its header (for
    safetensors: names, dtypes, shapes and offsets of all tensors), plus its first and last MiB.

    Args:
        folder: a model folder, or one weight file.

    Raises:
        ArgumentError: if there are no weights.
    """
    root = Path(folder)
    weights = _weight_files(root)
    if not weights:
        raise ArgumentError(
            "folder", str(folder), f"no weight files ({', '.join(_WEIGHT_SUFFIXES)})"
        )
    state = hashlib.blake2b(digest_size=16, person=b"p2p-kv-weights")
    configs = sorted({*_CONFIG_FILES, *(path.name for path in root.glob("*.index.json"))})
    for config in (root / name for name in configs if root.is_dir()):
        if config.is_file():
            _update(state, config.name.encode(), config.read_bytes())
    for path in weights:
        _update(state, path.name.encode(), str(path.stat().st_size).encode())
        _update(state, b"content", _header_and_ends(path))
    return state.hexdigest()


def _weight_files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    return sorted(path for path in root.glob("*") if path.suffix in _WEIGHT_SUFFIXES)


def _update(state: "hashlib.blake2b", name: bytes, content: bytes) -> None:
    state.update(struct.pack("<IQ", len(name), len(content)))
    state.update(name)
    state.update(content)


def _header_and_ends(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        parts = []
        if path.suffix == ".safetensors" and size >= 8:
            header_bytes = int.from_bytes(file.read(8), "little")
            parts.append(file.read(min(header_bytes, _HEADER_BYTES_MAX)))
            file.seek(0)
        parts.append(file.read(_PROBE_BYTES))
        file.seek(max(0, size - _PROBE_BYTES))
        parts.append(file.read(_PROBE_BYTES))
    return b"".join(parts)
