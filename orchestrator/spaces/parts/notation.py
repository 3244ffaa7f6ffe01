"""Reading notations: a position in a text, and errors that say where it goes wrong and what should stand there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn


class Reader:
    """Reads `text` from left to right; `what` it should be and an `example` of it go into the errors, all ValueErrors.

    spaces: skip white space before every token.
    """

    def __init__(self, text: str, what: str, example: str, spaces: bool = False) -> None:
        self.text, self.what, self.example, self.spaces = text, what, example, spaces
        self.position = 0

    def fail(self, expected: str) -> NoReturn:
        raise ValueError(
            f"{self.text!r} is not {self.what}: at position {self.position} there should be {expected}, as in {self.example}"
        )

    def at(self, token: str) -> bool:
        """Whether `token` comes next; if so, it is read."""
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
        """The index of the word that comes next."""
        self.at("")
        end = re.compile(r"\w+").match(self.text, self.position)
        word = end.group() if end else ""
        if word not in words:
            self.fail(f"one of {', '.join(words)}")
        self.position += len(word)
        return words.index(word)

    def number(self, below: int) -> int:
        """A number in 0..below - 1."""
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
    """The indices of words that follow each other, one of each of `words`, with the signs `between` them."""
    reader = Reader(text, what, example)
    found: list[int] = []
    for place, options in enumerate(words):
        if place:
            reader.expect(between[place - 1])
        found.append(reader.one_of(options))
    reader.end()
    return tuple(found)
