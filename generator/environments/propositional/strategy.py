"""The strategy that proves the theorems of the built-in dataset.

One fixed list of rules with fixed priorities and canonical names, so that the next tactic is a function of the first
goal. A rule returns the text of a tactic, which the environment runs.
"""

from generator.environments.propositional import closing_rules as close
from generator.environments.propositional import reducing_rules as reduce
from generator.environments.propositional.goals import Goal
from generator.environments.propositional.lemma_use import LemmaIndex
from generator.environments.propositional.sequents import Rule, Sequent

_RULES: list[Rule] = [
    close.by_hypothesis,
    close.by_contradiction,
    close.by_lemma,
    reduce.simplify_target,
    reduce.introduce,
    close.by_part,
    close.by_application,
    reduce.split_conjunction,
    close.by_constructor,
    reduce.simplify_hypothesis,
    reduce.forward,
    reduce.split_target,
    reduce.split_disjunction,
    reduce.choose_side,
    reduce.apply_hypothesis,
    reduce.leave_target,
    reduce.use_implication,
    close.by_term,
]


def next_tactic(goal: Goal, lemmas: LemmaIndex) -> str | None:
    """Return the tactic for a provable goal; None where the strategy has no short one."""
    sequent = Sequent.of(goal, lemmas)
    tactics = (rule(sequent) for rule in _RULES)
    return next((tactic for tactic in tactics if tactic is not None), None)
