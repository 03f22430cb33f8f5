"""The fields of a theorem of LeanDojo Benchmark 4, as JSON has them, checked one by one.

The message of a DataError continues a line that names the theorem or the tactic, so it begins with a colon.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from common import DataError, Pos, remove_marks
from retrieval.leandojo.tactic_text import TacticText, format_tactic, normalize_tactic

Definition = tuple[str, int, int]  # where a premise is defined: path, line, column

_MAX_INT = np.iinfo(np.int32).max


def as_object(value: object, what: str) -> dict[str, Any]:
    """Return a JSON object; `what` says what it should be."""
    if isinstance(value, dict):
        return value
    raise DataError(f": it is {_excerpt(value)}, not an object with the fields of {what}")


def text_field(record: Mapping[str, Any], name: str) -> str:
    """Return a field that must be a text."""
    value = record.get(name)
    if isinstance(value, str):
        return value
    raise DataError(f": field {name!r} must be a text, but {_found(record, name)}")


def list_field(record: Mapping[str, Any], name: str) -> list[Any]:
    """Return a field that must be a list."""
    value = record.get(name)
    if isinstance(value, list):
        return value
    raise DataError(f": field {name!r} must be a list, but {_found(record, name)}")


def position_field(record: Mapping[str, Any], name: str) -> tuple[int, int]:
    """Return line and column of a field that must be a position; see `Pos.of` for the forms it may have."""
    value = record.get(name)
    if value is None:
        raise DataError(f": field {name!r} must be a position, but {_found(record, name)}")
    if type(value) is list and len(value) == 2:  # the form in most files, read without making a Pos for each
        line_nb, column_nb = value
        if type(line_nb) is type(column_nb) is int and 0 < line_nb < _MAX_INT and 0 < column_nb < _MAX_INT:
            return line_nb, column_nb
    try:
        pos = Pos.of(value)
    except DataError as error:
        raise DataError(f": field {name!r}: {error}") from None
    if max(pos) > _MAX_INT:
        raise DataError(f": field {name!r} is {pos}, which is beyond any file")
    return pos.line_nb, pos.column_nb


def marked_tactic(step: Mapping[str, Any], text: TacticText) -> tuple[str, list[Definition]]:
    """Return the tactic of a step with its premises between marks, and where each premise is defined.

    Args:
        step: one of a theorem's traced tactics
        text: names as written are those of the field `tactic`, with the marks of the annotated tactic (none where the
            two differ in more than marks); full names take their places in the annotated tactic
    """
    annotated, premises = _annotation(step)
    full_names, definitions = [], []
    for premise in premises:
        if not isinstance(premise, dict):
            raise DataError(f": a premise of field 'annotated_tactic' is {_excerpt(premise)}, not an object")
        full_names.append(text_field(premise, "full_name"))
        definitions.append((text_field(premise, "def_path"), *position_field(premise, "def_pos")))
    if text.tactic_names == "written":
        written = text_field(step, "tactic") if "tactic" in step else remove_marks(annotated)
        marked = annotated if remove_marks(annotated) == written else written
        return normalize_tactic(marked) if text.normalize_tactics else marked, definitions
    try:
        return format_tactic(annotated, full_names, text.normalize_tactics), definitions
    except DataError as error:
        raise DataError(f": {error}") from None


def _annotation(step: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Return the tactic as the file has it, with its premises; without an annotation it has none."""
    annotation = step.get("annotated_tactic")
    if annotation is None:
        return text_field(step, "tactic"), []
    if not (isinstance(annotation, list) and len(annotation) == 2 and isinstance(annotation[1], list)):
        raise DataError(f": field 'annotated_tactic' must be [text, list of premises], but is {_excerpt(annotation)}")
    text, premises = annotation
    if not isinstance(text, str):
        raise DataError(f": the text of field 'annotated_tactic' is {_excerpt(text)}")
    return text, premises


def _found(record: Mapping[str, Any], name: str) -> str:
    return f"is {_excerpt(record[name])}" if name in record else f"there are only {', '.join(record) or 'none'}"


def _excerpt(value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError:
        text = "something nested too deep"
    return text if len(text) <= 60 else f"{text[:60]}..."
