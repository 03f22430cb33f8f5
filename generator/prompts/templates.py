"""Prompt templates: how a proof state becomes a prompt, and a completion a tactic.

    template = get_template("ntp-st")
    prompt = template.format(state, max_tokens=1792, count=count_tokens)
    tactic = template.parse(completion)  # None where the model wrote something else

A template is the format that a family of published models was trained on; a model is prompted with the template it was
trained with. Where a prompt would be too long, its template shortens everything but the goal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from common import ConfigError, DataError, Premise
from generator.prompts.fields import FittedPrompt, PromptFields, PromptTooLongError, most_that_fits, num_bytes

_FIELD = re.compile(r"\{(state|context|full_name|proof|heading)\}")
_SHORTENED = ("premises", "context", "proof", "goals", "state", "heading")  # what is shortened, the first one first


@dataclass(frozen=True)
class PromptTemplate:
    """One format of prompts and completions.

    Attributes:
        name: what options and the field `prompt_name` of data call it
        pattern: the prompt, with {state} and other fields where they stand
        begin: what a completion begins with, before the tactic
        end: what a completion ends with, behind the tactic; without it, it is not complete
        stop: strings at which generation stops; `parse` expects them in the completion
        echo: text in front of the tactic where the model repeats its prompt first
        takes_premises: whether premises stand in front of the state
        keeps_state: whether the state is never shortened, since the rest would be another problem
    """

    name: str
    pattern: str
    begin: str = ""
    end: str = ""
    stop: tuple[str, ...] = ()
    echo: str = ""
    takes_premises: bool = False
    keeps_state: bool = False

    @cached_property
    def fields(self) -> frozenset[str]:
        """Names of the fields of PromptFields that it has a place for."""
        return frozenset(_FIELD.findall(self.pattern)) | ({"premises"} if self.takes_premises else set())

    def check_place_for(self, field: str, option: str) -> None:
        """Raise ConfigError, naming the option that needs it, if prompts have no place for a field."""
        if field not in self.fields:
            others = ", ".join(name for name, template in TEMPLATES.items() if field in template.fields)
            raise ConfigError(
                f"{option}: prompts of template {self.name} have no place for {field}; those of {others} have"
            )

    @cached_property
    def _parts(self) -> list[str]:
        """The pattern, cut into text and names of fields by turns; it begins with text, which may be empty."""
        return _FIELD.split(self.pattern)

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        parts = [f"(?P<{part}>.*?)" if i % 2 else re.escape(part) for i, part in enumerate(self._parts)]
        return re.compile("".join(parts), re.DOTALL)

    # ----------------------------------------------------------------------------------------------
    # Prompts

    def format(
        self,
        state: str,
        *,
        premises: Sequence[Premise | str] = (),
        context: str = "",
        full_name: str = "",
        proof: str = "",
        heading: str = "",
        max_tokens: int | None = None,
        count: Callable[[str], int] = num_bytes,
    ) -> str:
        """Return the prompt; see `fit`, which also says what the state lost, and PromptFields for the arguments.

        >>> get_template("llmstep").format("h : p\\n⊢ p")
        '[GOAL]h : p\\n⊢ p[PROOFSTEP]'
        """
        return self.fit(PromptFields(state, premises, context, full_name, proof, heading), max_tokens, count).text

    def fit(
        self, fields: PromptFields, max_tokens: int | None = None, count: Callable[[str], int] = num_bytes
    ) -> FittedPrompt:
        """Write a prompt of at most max_tokens.

        Premises go first, whole, the worst first; then file context and proof, line by line from their beginning;
        then the goals that wait behind the first one and the oldest hypotheses (`common.fit_state`); then the heading,
        which is made short enough to leave the state its room.

        Args:
            fields: what to write
            max_tokens: how many tokens the prompt may take; None for no limit
            count: returns how many tokens a text takes; its bytes if not given

        Raises:
            PromptTooLongError: if the goal alone does not fit
        """
        text = self._write(fields)
        size = 0 if max_tokens is None else count(text)
        if max_tokens is None or size <= max_tokens:
            return FittedPrompt(text)
        fitted = fields
        for part in _SHORTENED:
            if self.keeps_state and part in ("goals", "state"):
                continue
            low, high = fitted.amounts(part)
            if low < high and (part == "goals" or part in self.fields):
                size_with = partial(self._size, count, fitted, part)
                # counting takes milliseconds: the last hundredth of the room is not worth filling with a cut state
                slack = max_tokens // 100 if part == "state" else 0
                size, amount = most_that_fits(size_with, low, high, size, max_tokens, slack)
                fitted = fitted.shorten(part, amount)
                if size <= max_tokens:
                    return FittedPrompt(self._write(fitted), num_bytes(fields.state) - num_bytes(fitted.state))
        raise PromptTooLongError(
            f"template {self.name}: the goal {fitted.state[:80]!r} needs a prompt of {size:,} tokens, but only "
            f"{max_tokens:,} are allowed; raise max_seq_len, or leave out this state"
        )

    def read(self, prompt: str) -> PromptFields | None:
        """Return the fields of a prompt that `format` wrote; None for any other.

        Premises come back as texts: they are the blocks in front of the first goal, which is the first block with a
        line that begins with ⊢. None is returned too where there are several blocks and none has such a line.
        """
        match = self._regex.fullmatch(prompt)
        if match is None:
            return None
        fields = PromptFields(**match.groupdict())
        return _with_premises_apart(fields) if self.takes_premises else fields

    def _write(self, fields: PromptFields) -> str:
        return "".join(self._field(fields, part) if i % 2 else part for i, part in enumerate(self._parts))

    def _field(self, fields: PromptFields, name: str) -> str:
        value: str = getattr(fields, name)
        if name == "state" and self.takes_premises:  # the best premise nearest to the state, as ReProver writes them
            return "\n\n".join([*map(_premise_text, reversed(fields.premises)), value])
        return value

    def _size(self, count: Callable[[str], int], fields: PromptFields, part: str, amount: int) -> int:
        return count(self._write(fields.shorten(part, amount)))

    # ----------------------------------------------------------------------------------------------
    # Completions

    def complete(self, tactic: str) -> str:
        """Return the completion that a model learns to write; EOS follows it.

        Raises:
            DataError: if there is no tactic, or `parse` would return another one
        """
        tactic = tactic.strip()
        completion = f"{self.begin}{tactic}{self.end}"
        if self.parse(completion) != tactic:
            what = "holds text of the template" if tactic else "is empty"
            raise DataError(f"template {self.name} cannot carry tactic {tactic[:200]!r}: it {what}")
        return completion

    def parse(self, completion: str) -> str | None:
        """Return the tactic of a completion without white space at its ends; None if there is none in it.

        A completion without `end` was cut off, and holds no tactic.

        >>> get_template("ntp-st").parse("simp at h\\n[/TAC]")
        'simp at h'
        """
        text = completion
        if self.end:
            text, end, _ = text.partition(self.end.strip())
            if not end:
                return None
        for stop in self.stop:
            text = text.partition(stop)[0]
        if self.echo:
            text = text.rpartition(self.echo)[2]
        text = text.strip()
        if self.begin:
            if not text.startswith(self.begin):
                return None
            text = text.removeprefix(self.begin).strip()
        return text or None


def _with_premises_apart(fields: PromptFields) -> PromptFields | None:
    """Take the premises out of a state that has them in front; None where it is unclear what they are."""
    blocks = fields.state.split("\n\n")
    if len(blocks) == 1:
        return fields
    first = next((i for i, block in enumerate(blocks) if re.search("^⊢", block, re.MULTILINE)), None)
    if first is None:
        return None
    return replace(fields, state="\n\n".join(blocks[first:]), premises=blocks[:first][::-1])


def _premise_text(premise: Premise | str) -> str:
    return premise if isinstance(premise, str) else premise.serialize()


# ------------------------------------------------------------------------------------------------
# The templates

# arXiv:2408.03350 and the tutorial on neural theorem proving that preceded it; ntp-ctx adds the file
_NTP = """/- You are proving a theorem in Lean 4.
You are given the following information:
{given}- The current proof state, inside [STATE]...[/STATE]

Your task is to generate the next tactic in the proof.
Put the next tactic inside [TAC]...[/TAC]
-/
{context}[STATE]
{state}
[/STATE]
[TAC]
"""
_NTP_ST = _NTP.replace("{given}", "").replace("{context}", "")
_NTP_CTX = _NTP.replace("{given}", "- The file contents up to the current tactic, inside [CTX]...[/CTX]\n").replace(
    "{context}", "[CTX]\n{context}\n[/CTX]\n"
)
_IM_END = "<|im_end|>"
_CHAT = f"<|im_start|>user\n%s{_IM_END}\n<|im_start|>assistant\n"  # InternLM2's turns
_INTERNLM2_5 = "---\nNAME: {full_name}\n\n---\nPROOF_BEFORE: {proof}\n\n---\nSTATE_BEFORE: {state}\n\n---\nTACTIC: "

TEMPLATES: dict[str, PromptTemplate] = {
    template.name: template
    for template in (
        # for encoder-decoders: nothing marks where the state ends and the tactic begins
        PromptTemplate("reprover", "{state}", takes_premises=True),
        PromptTemplate("llmstep", "[GOAL]{state}[PROOFSTEP]"),
        # this project's, for states with a heading; the rest is llmstep's
        PromptTemplate("nextstep", "{heading}[GOAL]{state}[PROOFSTEP]"),
        PromptTemplate("spec-program", "[SPEC]{state}[PROGRAM]"),  # this project's, for domains of programs
        # for the words of tokenizer symbolic, with the one that parts problem and answer
        PromptTemplate("symbolic", "{state} <SPECIAL_5> ", keeps_state=True),
        PromptTemplate("vllm-reprover", "[GOAL]\n{state}\n[PROOFSTEP]\n", takes_premises=True),
        PromptTemplate("ntp-st", _NTP_ST, end="\n[/TAC]", stop=("[/TAC]",)),
        PromptTemplate("ntp-ctx", _NTP_CTX, end="\n[/TAC]", stop=("[/TAC]",)),
        PromptTemplate("bfs-prover", "{state}:::", echo=":::"),
        PromptTemplate(
            "internlm2-step", _CHAT % "DECL {full_name}\nGOAL {state}\n", begin="PROOFSTEP ", stop=(_IM_END,)
        ),
        PromptTemplate(
            "internlm2.5-step",
            _CHAT % _INTERNLM2_5,
            stop=(_IM_END,),
        ),
    )
}

_ALIASES = {"state_tactic": "ntp-st", "context_state_tactic": "ntp-ctx"}  # what ntp-toolkit calls them


def get_template(name: str) -> PromptTemplate:
    """Return a template by its name, or by the one that ntp-toolkit gives it.

    >>> get_template("state_tactic").name
    'ntp-st'

    Raises:
        ConfigError: if there is none of that name
    """
    template = TEMPLATES.get(_ALIASES.get(name, name))
    if template is None:
        raise ConfigError(f"template is {name!r}; choose one of {', '.join(TEMPLATES)}")
    return template


def find_template(prompt_name: str, prompt: str) -> PromptTemplate | None:
    """Return the template that an example names, else the one whose format its prompt has; None for any other."""
    name = _ALIASES.get(prompt_name, prompt_name)
    if name in TEMPLATES:
        return TEMPLATES[name]
    # every text has the format of reprover, so a match would say nothing
    return next((t for t in TEMPLATES.values() if t.name != "reprover" and t.read(prompt)), None)
