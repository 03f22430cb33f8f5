"""Candidates that are left out, first of all those that give a goal up and let it count as proved."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from common import Candidate, Context
from generator.interface.tactic_generator import TacticGenerator
from generator.interface.wrappers import GeneratorWrapper


class FilteredGenerator(GeneratorWrapper):
    """Leaves out candidates; there may then be fewer than num_samples.

    Attributes:
        num_dropped: how many were left out
    """

    def __init__(self, generator: TacticGenerator, keep: Callable[[str], bool]) -> None:
        """Wrap a generator; `keep` tells of a tactic whether it stays."""
        super().__init__(generator)
        self.keep = keep
        self.num_dropped = 0

    def propose(self, contexts: Sequence[Context], num_candidates: int) -> list[list[Candidate]]:
        """Return the candidates that stay, in their order."""
        found = super().propose(contexts, num_candidates)
        kept = [[candidate for candidate in candidates if self.keep(candidate[0])] for candidates in found]
        self.num_dropped += sum(map(len, found)) - sum(map(len, kept))
        return kept


# By prover: what closes a goal without a proof, ends a proof before its end, or only asks for suggestions
PLACEHOLDERS: dict[str, tuple[str, ...]] = {
    # sorryAx is the axiom behind sorry and admit; stop leaves out the rest; searches close their goal with sorry
    "lean": ("sorry", "admit", "sorryAx", "stop", "apply?", "exact?", "rw?", "hint"),
    "coq": ("admit", "give_up", "Admitted"),
    "isabelle": ("sorry", "oops"),
}
ALL_PLACEHOLDERS = tuple(dict.fromkeys(word for words in PLACEHOLDERS.values() for word in words))


def without_placeholders(generator: TacticGenerator, words: Sequence[str] = ALL_PLACEHOLDERS) -> FilteredGenerator:
    """Return the generator without candidates that give a goal up, see `has_placeholder`."""
    return FilteredGenerator(generator, lambda tactic: not has_placeholder(tactic, words))


# a string, a character, a line's comment, a quoted name, or where a block comment of Lean or Coq begins
_QUOTED = re.compile(r""""(?:\\.|[^"\\])*"|(?<![\w'!?])'(?:\\[^']+|[^'\\])'|--[^\n]*|«[^»\n]*»|/-|\(\*""", re.DOTALL)
# Coq's bullets, of which -- must not be taken for Lean's comment: at the beginning, or behind the end of a sentence
_BULLET = re.compile(r"(^|\n|\.\s)(\s*)(?:-+|\++|\*+)(?=\s)")
_COMMENT_EDGE = {"/-": re.compile(r"/-|-/"), "(*": re.compile(r"\(\*|\*\)")}


def has_placeholder(tactic: str, words: Sequence[str] = ALL_PLACEHOLDERS) -> bool:
    """Tell whether one of the words stands in a tactic as a word, not in a name, text or comment.

    By default words of all provers count: that of one is hardly ever a name in another.

    >>> has_placeholder("exact sorry"), has_placeholder("exact sorry_free -- no sorry")
    (True, False)
    """
    if not any(word in tactic for word in words):
        return False
    any_word = "|".join(map(re.escape, words))
    # `sorry.1` is a part of sorry, `sorry.intro` a name
    pattern = rf"(?<![\w.'!?»])(?:{any_word})(?![\w'!?]|\.[^\W\d]|\.«)"
    return re.search(pattern, _code_of(tactic)) is not None


def _code_of(tactic: str) -> str:
    """Blank out strings, characters, comments and the inside of «»; what does not end stays."""
    tactic = _BULLET.sub(r"\1\2", tactic)
    parts, place = [], 0
    while match := _QUOTED.search(tactic, place):
        end = _end_of_comment(tactic, match.end(), match[0]) if match[0] in _COMMENT_EDGE else match.end()
        parts += [tactic[place : match.start()], "«»" if match[0][0] == "«" else " "]
        place = end
    return "".join([*parts, tactic[place:]])


def _end_of_comment(tactic: str, place: int, opening: str) -> int:
    """Where the block comment ends whose inside begins at place; comments nest."""
    start, depth = place, 1
    while depth and (match := _COMMENT_EDGE[opening].search(tactic, place)):
        depth += 1 if match[0] == opening else -1
        place = match.end()
    return start if depth else place
