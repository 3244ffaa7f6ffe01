"""Messages for each kind of mistake."""

from typing import Any, Literal

import pytest
from pydantic import ConfigDict, TypeAdapter, ValidationError

from hw_profiles.wording import in_words


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (int, "three", "must be a whole number"),
        (int, 1.5, "must be a whole number"),
        (float, float("nan"), "must be a finite number"),
        (bool, "maybe", "must be true or false"),
        (str, 3, "must be text"),
        (list[int], 3, "must be a list"),
        (dict[str, int], 3, "must be a table"),
        (tuple[int, int], [1], "is missing"),
        (Literal["two", "all"], "one", "must be 'two' or 'all'"),
        (float | list[float] | None, "x", "must be a number or a list"),
        (bytes, 3, "is not right (bytes type)"),
    ],
)
def test_what_would_have_been_right(kind: Any, value: Any, words: str) -> None:
    with pytest.raises(ValidationError) as error:
        TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False)).validate_python(value)
    assert in_words(error.value.errors()) == words
