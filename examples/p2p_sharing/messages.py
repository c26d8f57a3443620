"""What the demo's driver and an instance say to each other: one JSON object per line.

The driver sends commands, the instance answers each with one event; during `RunShared` it may
send `Paused` first and then waits for `Resume`. Pure values. No I/O.
"""

import msgspec


class Command(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Base of what the driver sends."""


class Prompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text that prompts may share, and the question that follows it."""

    text: str
    question: str


class RunCold(Command, frozen=True):
    """Prefill the whole prompt and answer; share nothing, keep the KV for `Publish`."""

    prompt: Prompt
    num_answer_tokens: int


class RunShared(Command, frozen=True):
    """Fetch what peers hold of the prompt, prefill the rest, and answer.

    Attributes:
        pause_after_chunks: with so many chunks there, stop inside the fetch; 0 never stops.
    """

    prompt: Prompt
    num_answer_tokens: int
    pause_after_chunks: int = 0


class Publish(Command, frozen=True):
    """Store the KV of the last cold run's full chunks and advertise them."""


class AwaitHolders(Command, frozen=True):
    """Wait until so many instances are known to hold a prompt's shared part."""

    prompt: Prompt
    num_holders: int
    timeout_s: float


class Resume(Command, frozen=True):
    """Go on after `Paused`."""


class Quit(Command, frozen=True):
    """Stop and end the process."""


class Event(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Base of what an instance sends."""


class Ready(Event, frozen=True):
    """The model is loaded and the backend runs."""

    load_s: float
    chunk_tokens: int
    chunk_bytes: int


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one holder gave in a fetch.

    Attributes:
        seconds: with at least one read from it under way.
        channel: that moved the bytes.
        transport: read back from the link, such as ``cma``; not what was asked for.
    """

    instance: str
    num_chunks: int
    num_bytes: int
    seconds: float
    channel: str
    transport: str


class Fetched(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fetch's outcome.

    Attributes:
        num_chunks: chunks of the verified prefix.
        seconds: from the call to its return, lookup and verification included.
        reason: why it is not longer, such as ``complete``.
        sources: per holder.
    """

    num_chunks: int
    seconds: float
    reason: str
    sources: tuple[Source, ...]


class Ran(Event, frozen=True):
    """A prompt was answered.

    Attributes:
        num_tokens: of the prompt.
        num_prefix_chunks: full chunks of the part that depends on the text alone.
        num_reused_tokens: of the prompt, not computed here.
        answer: token ids.
        answer_text: the same, for people.
        smallest_margin: smallest distance between the best two logits on the way.
        first_token_s: from the prompt's tokens to the first new token.
        answer_s: to the last one.
        fetched: none for a cold run.
    """

    num_tokens: int
    num_prefix_chunks: int
    num_reused_tokens: int
    answer: tuple[int, ...]
    answer_text: str
    smallest_margin: float
    first_token_s: float
    answer_s: float
    fetched: Fetched | None = None


class Published(Event, frozen=True):
    """Chunks are stored and advertised."""

    num_chunks: int
    seconds: float


class Held(Event, frozen=True):
    """How many holders are known for the whole shared part; fewer than asked after the timeout."""

    num_holders: int
    waited_s: float


class Paused(Event, frozen=True):
    """The fetch stands still in the middle of its transfer."""

    done_chunks: int
    total_chunks: int


class Stopped(Event, frozen=True):
    """The backend is closed and the process ends."""


AnyCommand = RunCold | RunShared | Publish | AwaitHolders | Resume | Quit
AnyEvent = Ready | Ran | Published | Held | Paused | Stopped
