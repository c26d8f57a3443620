"""What peers may do with memory that a channel lends them."""

from enum import Enum


class Access(Enum):
    """What peers may do with a pool, and what we ask for of theirs."""

    READ = "read"
    WRITE = "read and write"
