"""What is wrong with a model's file, in plain words: the key, its value, and what is allowed."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def problems_of(error: ValidationError, whole: type[BaseModel], below: tuple[str, ...] = ()) -> list[str]:
    """Every violation in plain words. `whole` is the model of the whole file; `below` names the section of it that the
    values are in."""
    return [_problem({**item, "loc": (*below, *item["loc"])}, whole) for item in error.errors(include_url=False)]


def _problem(item: Any, whole: type[BaseModel]) -> str:
    """One violation in plain words: key, value, what is allowed."""
    path = [str(part) for part in item["loc"] if not str(part).startswith(("constrained-", "literal["))]
    key, value = ".".join(path), item["input"]
    if item["type"] == "extra_forbidden":
        allowed = sorted(field.alias or name for name, field in _section(whole, path[:-1]).model_fields.items())
        close = difflib.get_close_matches(path[-1], allowed, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"{key} = {value!r}: unknown key; {hint}Allowed: {', '.join(allowed)}"
    if item["type"] == "missing":
        fields = {field.alias or name: field for name, field in _section(whole, path[:-1]).model_fields.items()}
        return f"{key}: missing; {fields[path[-1]].description or 'it is required'}"
    message = item["msg"].removeprefix("Value error, ")
    message = message.replace("Input should be", "must be").replace("String should match pattern", "must match")
    if item["type"] == "value_error" and isinstance(value, dict):  # about a whole section: the message has its values
        return f"{key}: {message}" if key else message
    return f"{key} = {value!r}: {message}" if key else message


def _section(whole: type[BaseModel], path: list[str]) -> type[BaseModel]:
    section = whole
    for name in path:
        if name.isdecimal():  # the place in a list of sections
            continue
        annotation = section.model_fields[name].annotation
        annotation = next(iter(get_args(annotation)), annotation)
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        section = annotation
    return section
