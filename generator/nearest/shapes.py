"""What a state looks like when it does not matter how its variables are called.

`n + m = m + n` and `a + b = b + a` have one shape. Names of hypotheses and of what the goal binds become one letter;
names of the library stay.
"""

from __future__ import annotations

import re

from generator.nearest.adaptation import WHOLE_NAME, first_goal, hypotheses
from generator.nearest.steps import TURNSTILE
from retrieval.ngram_index import NgramOptions

# the letter of variables stands in most shapes, and so counts nothing where it stands alone
OF_SHAPES = NgramOptions(unit="words", min_n=1, max_n=3, max_share=0.2)

_VARIABLE = "v"
_HYPOTHESES, _CHARACTERS = 12, 1500  # the last of both count
_BOUND = re.compile(r"(?:forall|exists|fun|∀|∃|λ)\s+([^,=]*?)(?:,|=>|↦)")
_TYPE = re.compile(r":[^()]*(?=\)|$)")


def goal_shape(state: str) -> str:
    """Return the shape of what is to be proved first.

    >>> goal_shape("n m : nat\\n⊢ forall k, n + k = plus m k")
    '⊢ forall v, v + v = plus v v'
    """
    goal = first_goal(state)
    target = _target(goal)
    local = {name for name, _ in hypotheses(goal)}
    for binders in _BOUND.findall(target):
        local.update(WHOLE_NAME.findall(_TYPE.sub("", binders)))
    return _without(target, local)


def state_shape(state: str) -> str:
    """Return the shape of the first goal with the types of its last hypotheses; plain types of one word say little.

    >>> state_shape("n : nat\\nH : n = 0\\n⊢ 0 = n")
    'v = 0 ⊢ 0 = v'
    """
    goal = first_goal(state)
    of_goal = hypotheses(goal)
    types = [kind for _, kind in of_goal[-_HYPOTHESES:] if " " in kind]
    return _without("\n".join([*types, _target(goal)]), {name for name, _ in of_goal})[-_CHARACTERS:].replace("\n", " ")


def _target(goal: str) -> str:
    return goal[max(goal.rfind(TURNSTILE), 0) :]


def _without(text: str, local: set[str]) -> str:
    return WHOLE_NAME.sub(lambda match: _VARIABLE if match[1] in local else match[1], text)
