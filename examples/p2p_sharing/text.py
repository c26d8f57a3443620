"""The demo's two texts and the questions that are asked about them.

The texts are the first chapters of two novels in the public domain: "Alice's Adventures in
Wonderland" by Lewis Carroll (1865; the chapter's first part) and "The Wonderful Wizard of Oz" by
L. Frank Baum (1900). They ship with the repository, so every run prefills the same tokens.
"""

from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).parent / "texts"


class Topic(NamedTuple):
    """A text that several prompts share, and one question per prompt."""

    name: str
    text: str
    questions: tuple[str, ...]


def alice() -> Topic:
    """Returns the text of round 1; its questions are for A, B and C."""
    questions = (
        "Who is the main person of this story?",
        "What did Alice see pop down the rabbit-hole?",
        "What did Alice find on the little glass table?",
    )
    return Topic("Alice", _read("alice.txt"), questions)


def oz() -> Topic:
    """Returns the text of round 2; its questions are for B and C."""
    questions = (
        "Where does Dorothy live, and with whom?",
        "What lifted the house into the air?",
    )
    return Topic("Oz", _read("oz.txt"), questions)


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
