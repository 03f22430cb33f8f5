"""One coqidetop in one file: it moves forward from theorem to theorem, and visits any state of the one it is at."""

from __future__ import annotations

from collections.abc import Iterable

from generator.environments.base import ErrorKind
from generator.environments.coq.channel import DiedError, TimeIsUpError, out_of_memory
from generator.environments.coq.declarations import proof_options
from generator.environments.coq.document import Document, RejectedError
from generator.environments.coq.printing import Goals
from generator.environments.coq.sentences import Sentence, position_of
from generator.environments.coq.sources import Source

ProofPath = tuple[str, ...]
"""Sentences since the statement: enough to come to a state again, here or in another process."""


class PrefixError(Exception):
    """The file is refused before the theorem, or no proof begins there."""


class ReplayError(Exception):
    """A state that was there once cannot be reached again."""


class FailedError(Exception):
    """A tactic does not work, which is an everyday event.

    Attributes:
        kind: as in TacticError
    """

    def __init__(self, message: str, kind: ErrorKind = "error") -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind


class Session:
    """A process that stands in a proof of one file.

    Args:
        document: empty as yet
        source: of the file
        skip_proofs: whether proofs before the theorem are replaced by `Admitted` where that changes nothing else
        max_nodes: of one proof; when there are more, it is begun anew, since going back gets slower with their number
        start_timeout_s: for what stands before a theorem
        timeout_s: for each tactic
    """

    def __init__(
        self,
        document: Document,
        source: Source,
        skip_proofs: bool,
        max_nodes: int,
        start_timeout_s: float,
        timeout_s: float,
    ) -> None:
        self._document = document
        self._source = source
        self._skip_proofs = skip_proofs
        self._max_nodes = max_nodes
        self._start_timeout_s = start_timeout_s
        self._timeout_s = timeout_s
        self._offset = -1  # of the statement whose proof is open
        self._sent: list[Sentence] = []  # one for each node behind the first, up to the statement and its options
        self._known: dict[ProofPath, int] = {}  # where each visited state stands in the document

    def open(self, offset: int) -> Goals:
        """Go to where the proof begins of the statement at `offset`, and return its goals.

        Raises:
            PrefixError: if Coq refuses what stands before it
            DiedError: if the process ended
        """
        wanted = self._sentences_up_to(offset)
        kept = 0
        while kept < min(len(self._sent), len(wanted)) and self._sent[kept] == wanted[kept]:
            kept += 1
        if len(self._document.nodes) > kept + 1:
            self._document.cut(kept + 1)
        self._sent, self._offset, self._known = wanted, -1, {}
        for sentence in wanted[kept:]:
            try:
                self._document.append(sentence.text, self._start_timeout_s)
            except RejectedError as error:
                raise self._prefix_error(sentence, str(error)) from error
            except TimeIsUpError as error:
                raise self._prefix_error(sentence, f"not done in {self._start_timeout_s:g} s") from error
        goals = self._goals_of_statement(wanted[-1])
        self._offset = offset
        self._known[()] = len(self._document.nodes) - 1
        return goals

    def go_to(self, offset: int, path: ProofPath) -> None:
        """Make a state the end of the document, by going back or by running its path again.

        Raises:
            PrefixError, DiedError: as `open` does
            ReplayError: if its path does not run any more
        """
        if self._offset != offset or len(self._document.nodes) - len(self._sent) > self._max_nodes:
            self.open(offset)
        known = next(length for length in range(len(path), -1, -1) if path[:length] in self._known)
        self._document.back_to(self._known[path[:known]])
        self._known[path[:known]] = len(self._document.nodes) - 1
        for length in range(known, len(path)):
            try:
                # time enough for a machine that is busier than when the sentence ran first
                self._run(path[length], 10 * self._timeout_s)
            except FailedError as error:
                raise ReplayError(f"{path[length]} does not run again: {error}") from error
            self._known[path[: length + 1]] = len(self._document.nodes) - 1

    def step(self, path: ProofPath, sentence: str) -> tuple[ProofPath, Goals]:
        """Run a sentence at the state of `path`, where the document ends, and return the new path and its goals.

        When only shelved goals are left, they are put back, which is part of the path.

        Raises:
            FailedError: if Coq refuses it, or it takes too long; the document is as before
            DiedError: if the process ended
        """
        length = len(self._document.nodes)
        goals = self._run(sentence, self._timeout_s)
        path = (*path, sentence)
        if not goals.texts and goals.num_shelved:
            goals = self._run("Unshelve.", self._timeout_s)
            path = (*path, "Unshelve.")
        if goals.num_given_up:
            self._document.cut(length)
            raise FailedError("it leaves a goal unproved (admit, give_up)")
        self._known[path] = len(self._document.nodes) - 1
        return path, goals

    def close_proof(self, path: ProofPath, name: str | None) -> tuple[str, ...]:
        """Have Coq's kernel accept the proof that ends at `path`, where the document ends.

        Args:
            path: of a state without goals
            name: of the theorem, to ask for its assumptions; None asks for none

        Returns:
            What `Print Assumptions` prints, nothing without a name.

        Raises:
            FailedError: if `Qed` is refused; the document is as before
            DiedError: if the process ended
        """
        length = len(self._document.nodes)
        try:
            self._document.append("Qed.", self._timeout_s)
            self._document.status(self._timeout_s)
            return self._document.ask(f"Print Assumptions {name}.", self._start_timeout_s) if name else ()
        except RejectedError as error:
            raise FailedError(f"Qed: {error}", _kind_of(str(error))) from error
        except TimeIsUpError as error:
            raise FailedError(f"Qed: not done in {self._timeout_s:g} s", "timeout") from error
        finally:
            self._close_quietly(length)

    def unknown_before(self, offset: int, names: Iterable[str]) -> list[str]:
        """Return the names that no constant had just before the statement at `offset`, whose proof is open.

        Raises:
            DiedError: if the process ended
        """
        index = next(number for number, each in enumerate(self._sent) if each.start == offset)
        return [name for name in names if not self._is_known(name, index)]

    def _is_known(self, name: str, index: int) -> bool:
        try:
            self._document.ask(f"Check @{name}.", self._start_timeout_s, index)
            return True
        except TimeIsUpError:
            return False
        except RejectedError as error:
            if "Syntax error" not in str(error):
                return False
        try:  # a notation has taken the name for a keyword
            printed = self._document.ask(f'Search "{name}".', self._start_timeout_s, index)
        except (RejectedError, TimeIsUpError):
            return False
        return any(line.startswith(f"{name}:") for each in printed for line in each.splitlines())

    def _close_quietly(self, length: int) -> None:
        try:
            if len(self._document.nodes) > length:
                self._document.cut(length)
        except DiedError:  # the next request says so
            pass

    def _run(self, sentence: str, timeout_s: float) -> Goals:
        length = len(self._document.nodes)
        try:
            self._document.append(sentence, timeout_s)
            goals = self._document.goals(timeout_s)
        except RejectedError as error:
            if len(self._document.nodes) > length:
                self._document.cut(length)
            raise FailedError(str(error), _kind_of(str(error))) from error
        except TimeIsUpError as error:
            self._document.cut(length)
            raise FailedError(f"not done in {timeout_s:g} s", "timeout") from error
        if goals is None:
            self._document.cut(length)
            raise FailedError("it ends the proof, which no tactic does", "refused")
        return goals

    def _sentences_up_to(self, offset: int) -> list[Sentence]:
        """Return the sentences to send until the proof of the statement at `offset` begins."""
        skipped = [self._source.skipped] if self._skip_proofs else []
        for sentences in [*skipped, self._source.sentences]:  # a theorem within a skipped proof is in the second only
            number = next((number for number, each in enumerate(sentences) if each.start == offset), None)
            if number is not None:
                behind = number + (2 if proof_options(sentences, number) else 1)
                return sentences[:behind]
        raise PrefixError(f"{self._source.path}: no sentence begins at {offset}; the file has changed")

    def _goals_of_statement(self, statement: Sentence) -> Goals:
        try:
            goals = self._document.goals(self._start_timeout_s)
        except RejectedError as error:
            number = self._document.nodes.index(error.after) if error.after in self._document.nodes else None
            failed = self._sent[number] if number is not None and number < len(self._sent) else statement
            raise self._prefix_error(failed, str(error)) from error
        except TimeIsUpError as error:
            raise self._prefix_error(statement, f"not done in {self._start_timeout_s:g} s") from error
        if goals is None or not goals.texts:
            raise self._prefix_error(statement, "no proof begins there")
        return goals

    def _prefix_error(self, sentence: Sentence, message: str) -> PrefixError:
        line, column = position_of(self._source.text, sentence.start)
        hint = "; build the project first" if "Cannot find a physical path" in message else ""
        return PrefixError(f"{self._source.path}:{line}:{column}: {message}{hint}")


def _kind_of(message: str) -> ErrorKind:
    return "memory" if out_of_memory(message) else "error"
