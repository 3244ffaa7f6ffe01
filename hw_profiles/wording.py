"""Plain messages for what pydantic finds wrong with a value."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_core import ErrorDetails

_WORDS = {
    "missing": "is missing",
    "missing_argument": "is missing",
    "extra_forbidden": "is not known",
    "unexpected_keyword_argument": "is not known",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "finite_number": "must be a finite number",
    "literal_error": "must be {expected}",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
}
_KINDS = {
    "int": "must be a whole number",
    "float": "must be a number",
    "bool": "must be true or false",
    "string": "must be text",
    "path": "must be a path",
    "list": "must be a list",
    "tuple": "must be a list",
    "set": "must be a list",
    "dict": "must be a table",
    "dataclass": "must be a table",
}


def in_words(errors: Sequence[ErrorDetails]) -> str:
    """Join messages any one of which would have been right, as for `float | list[float]`."""
    said = []
    for error in errors:
        kind = error["type"]
        template = _WORDS.get(kind) or _KINDS.get(kind.partition("_")[0], f"is not right ({kind.replace('_', ' ')})")
        said.append(template.format(**error.get("ctx", {})))
    first, *others = dict.fromkeys(said)
    return " or ".join([first, *(other.removeprefix("must be ") for other in others)])
