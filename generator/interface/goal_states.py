"""The goals of other provers as the text that models are trained on: what Lean itself prints.

Lean joins neighbouring hypotheses of one type (`p q : Prop`) and puts a blank line between goals. Pantograph's text of
a state has a line for each variable and no blank lines; the REPL and LeanInteract give a list of goals. A model that
was trained on Lean's text reads such input less well.

Objects are recognised by their attributes, so that none of these libraries is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from common import NO_GOALS, DataError

_WIDTH = 120  # columns at which Lean breaks a line
_MACRO_SCOPES = "._@."  # what follows it in a name is Lean's own, and not printed
_ACCEPTED = (
    "a text; LeanDojo's TacticState; Pantograph's GoalState or Goal, as objects or JSON; LeanInteract's "
    "ProofStepResponse or Sorry; or a list of goals"
)


def render_state(goals: object) -> str:
    """Return a state as Lean prints it.

    >>> variable, other = ({"userName": name, "type": {"pp": "Prop"}} for name in ("p", "q"))
    >>> render_state([{"vars": [variable, other], "target": {"pp": "p → q"}}])
    'p q : Prop\\n⊢ p → q'

    Args:
        goals: a text, which is returned as it is; an object with a text `pp` (LeanDojo's TacticState, states of
            `generator.environments`) or `goal` (LeanInteract's Sorry); one with `goals` (Pantograph's GoalState,
            LeanInteract's ProofStepResponse, the JSON of either); a goal; or a list of goals, the one to work on
            first. A goal is a text, or has `target`, `variables` and a case tag `name`; in Pantograph's JSON
            `target`, `vars` and `userName`

    Returns:
        The goals with blank lines between them; "no goals" if there are none

    Raises:
        DataError: if it is none of these
    """
    if isinstance(goals, str):
        return goals
    text = _get(goals, "pp", "goal")
    if isinstance(text, str):
        return text
    inner = _get(goals, "goals")
    if inner is not None:
        return render_state(inner)
    if isinstance(goals, Sequence) and not isinstance(goals, bytes):
        return "\n\n".join(map(_render_goal, goals)) or NO_GOALS
    return _render_goal(goals)


@dataclass(frozen=True)
class _Variable:
    name: str
    type: str
    value: str | None


def _render_goal(goal: object) -> str:
    if isinstance(goal, str):
        return goal.strip("\n")
    target = _text(_get(goal, "target"))
    if target is None:
        raise DataError(f"a state cannot be read from {_kind(goal)}; give {_ACCEPTED}")
    # in JSON `name` is the number of the metavariable
    tag = _get(goal, "userName" if isinstance(goal, Mapping) else "name")
    variables = _get(goal, "variables", "vars") or ()
    if isinstance(variables, str) or not isinstance(variables, Sequence):
        raise DataError(f"the variables of a goal are {_kind(variables)}; they must be a list")
    lines = [f"case {tag.partition(_MACRO_SCOPES)[0]}"] if isinstance(tag, str) and tag else []
    lines += _context([_variable(each) for each in variables])
    prefix = "|" if _is_conversion(goal) else "⊢"
    return "\n".join([*lines, f"{prefix} {_indented(target)}"])


def _context(variables: list[_Variable]) -> list[str]:
    """One line for neighbours of the same type; one for each variable that has a value."""
    lines = []
    for _, group in groupby(enumerate(variables), lambda item: item[1].type if item[1].value is None else item[0]):
        members = [variable for _, variable in group]
        first = members[0]
        if first.value is None:
            lines.append(_on_lines(f"{' '.join(each.name for each in members)} :", first.type))
        else:
            lines.append(_on_lines(f"{first.name} : {first.type} :=", first.value))
    return lines


def _on_lines(head: str, body: str) -> str:
    """Write head and body on one line if they fit, else the body on lines of its own, indented."""
    line = f"{head} {body}"
    return f"{head}\n  {_indented(body)}" if "\n" in body or len(line) > _WIDTH else line


def _indented(text: str) -> str:
    """Indent all lines but the first."""
    return text.replace("\n", "\n  ")


def _variable(variable: object) -> _Variable:
    """Read Pantograph's Variable (name, t, v), its JSON (userName, type, value), or one with type and value."""
    type_ = _text(_get(variable, "t", "type"))
    if type_ is None:
        raise DataError(f"a variable of a goal is {_kind(variable)}, which has no type in `t` or `type`")
    name = _get(variable, "userName" if isinstance(variable, Mapping) else "name")
    shown = name if isinstance(name, str) and name else "_"
    base, scopes, _ = shown.partition(_MACRO_SCOPES)
    is_inaccessible = bool(scopes) or _get(variable, "isInaccessible") is True
    return _Variable(
        f"{base}✝" if is_inaccessible and "✝" not in base else base, type_, _text(_get(variable, "v", "value"))
    )


def _is_conversion(goal: object) -> bool:
    mode = _get(goal, "mode", "fragment")
    name = getattr(mode, "name", mode)
    return _get(goal, "is_conversion") is True or (isinstance(name, str) and name.lower() == "conv")


def _text(expression: object) -> str | None:
    """Return the text of an expression, which is a text or has one as `pp`; None for anything else, and for ""."""
    text = expression if isinstance(expression, str) else _get(expression, "pp")
    return text if isinstance(text, str) and text else None


def _get(value: object, *names: str) -> object:
    """Return the first of these keys or attributes that is there and not None, else None."""
    for name in names:
        found = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
        if found is not None:
            return found
    return None


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return f"a mapping with the keys {', '.join(map(str, value)) or '(none)'}"
    return f"an object of type {type(value).__module__}.{type(value).__qualname__}"
