"""Lines as the first stage of ntp-training-data and ntp-toolkit writes them: a state and the tactic that came next.

    {"state": ..., "nextTactic": ..., "srcUpToTactic": ..., "declUpToTactic": ..., "decl": ..., "declId": ...}

Their second stage makes prompts of them, which a template does here: with as many of the fields as it has places for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common import ConfigError, DataError
from generator.prompts.fields import PromptFields
from generator.prompts.templates import TEMPLATES, PromptTemplate

_BYTES_PER_TOKEN = 8  # no text of a prover has longer tokens on average
_NAME = re.compile(r"\b(?:theorem|lemma|def|abbrev|instance)\s+(?!:)([^\s:({\[⦃]+)")
_BEFORE_PROOF = re.compile(r"\s*:=\s*(?:by\b)?")


class UnusableLine(DataError):
    """A line of which no example can be made, though it is not broken; the message says why, in the plural."""


@dataclass(frozen=True)
class PromptWriter:
    """Makes prompts and completions of such lines.

    Attributes:
        template: how; None refuses such lines
        max_tokens: that prompts may take, so that no more of a file is kept than one may hold
    """

    template: PromptTemplate | None = None
    max_tokens: int = 2048

    def write(self, line: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a line with a prompt and a completion; one that has a prompt, or no state, as it is.

        Raises:
            ConfigError: if there is no template
            DataError: if a field is no text
            UnusableLine: if the template cannot carry the tactic
        """
        if "prompt" in line or not {"state", "nextTactic"} <= line.keys():
            return line
        if self.template is None:
            raise ConfigError(
                "lines with state and nextTactic hold states without prompts; set template to one of "
                f"{', '.join(TEMPLATES)}"
            )
        names = ("state", "nextTactic", "srcUpToTactic", "declUpToTactic", "decl", "declId")
        state, tactic, source, declared, statement, identifier = (_text(line, name) for name in names)
        name = _NAME.search(statement)
        proof = declared.removeprefix(statement) if statement else ""
        fields = PromptFields(
            state=state,
            context=source[-_BYTES_PER_TOKEN * self.max_tokens :],
            full_name=name[1] if name else identifier,
            proof=_BEFORE_PROOF.sub("", proof, count=1).strip() if proof != declared else "",
        )
        try:
            completion = self.template.complete(tactic) if tactic.strip() else ""
        except DataError:
            raise UnusableLine(f"tactics that template {self.template.name} cannot carry") from None
        return {
            "prompt": self.template.fit(fields).text if state.strip() else "",
            "prompt_name": self.template.name,
            "completion": completion,
            "metadata": {"declId": identifier, **_metadata(line)} if identifier else _metadata(line),
        }


def _text(line: Mapping[str, Any], name: str) -> str:
    """A field, "" where it is missing or null."""
    value = line.get(name)
    if value is None and name not in ("state", "nextTactic"):
        return ""
    if not isinstance(value, str):
        raise DataError(f"field {name!r} must be a text")
    return value


def _metadata(line: Mapping[str, Any]) -> dict[str, Any]:
    """Where a step is from, as far as the line says so."""
    return {name: value for name in ("file", "project") if isinstance(value := line.get(name), str)}
