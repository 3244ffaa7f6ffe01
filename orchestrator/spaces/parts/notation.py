"""Reader of notations, with errors that say where a text goes wrong and what should stand there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn


class Reader:
    """Position in a text that is read from left to right; all errors are ValueErrors.

    Args:
        text: Text to read.
        what: What the text should be, for errors.
        example: Right text, for errors.
        spaces: Whether to skip white space before every token.
    """

    def __init__(self, text: str, what: str, example: str, spaces: bool = False) -> None:
        self.text, self.what, self.example, self.spaces = text, what, example, spaces
        self.position = 0

    def fail(self, expected: str) -> NoReturn:
        raise ValueError(
            f"{self.text!r} is not {self.what}: at position {self.position} there should be {expected}, as in {self.example}"
        )

    def at(self, token: str) -> bool:
        """Read `token` if it comes next, and tell whether it does."""
        while self.spaces and self.text[self.position : self.position + 1].isspace():
            self.position += 1
        if not self.text.startswith(token, self.position):
            return False
        self.position += len(token)
        return True

    def expect(self, *tokens: str) -> None:
        for token in tokens:
            if not self.at(token):
                self.fail(repr(token))

    def one_of(self, words: Sequence[str]) -> int:
        """Read the next word, and return its index."""
        self.at("")
        end = re.compile(r"\w+").match(self.text, self.position)
        word = end.group() if end else ""
        if word not in words:
            self.fail(f"one of {', '.join(words)}")
        self.position += len(word)
        return words.index(word)

    def number(self, below: int) -> int:
        """Read a number in 0..below - 1."""
        self.at("")
        digits = re.compile(r"\d+").match(self.text, self.position)
        if not digits or int(digits.group()) >= below:
            self.fail(f"a number from 0 to {below - 1}")
        self.position = digits.end()
        return int(digits.group())

    def end(self) -> None:
        self.at("")
        if self.position != len(self.text):
            self.fail("the end")


def read_words(text: str, what: str, example: str, words: Sequence[Sequence[str]], between: Sequence[str]) -> tuple[int, ...]:
    """Read words that follow each other, and return their indices.

    Args:
        text: As the two that follow, see `Reader`.
        words: Words to choose from, at each place.
        between: Sign between each place and the next.
    """
    reader = Reader(text, what, example)
    indices: list[int] = []
    for place, options in enumerate(words):
        if place:
            reader.expect(between[place - 1])
        indices.append(reader.one_of(options))
    reader.end()
    return tuple(indices)
