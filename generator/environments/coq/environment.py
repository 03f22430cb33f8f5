"""Coq as an environment."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from common import check_positive
from generator.environments.base import (
    BrokenEnvironmentError,
    CannotStartError,
    Environment,
    ProofFinished,
    ProofState,
    Statement,
    TacticError,
    TacticResult,
    Theorem,
    Verdict,
)
from generator.environments.coq.assumptions import beyond, read_assumptions
from generator.environments.coq.channel import Channel, DiedError
from generator.environments.coq.checking import Checker, NotAcceptedError
from generator.environments.coq.confinement import Confinement
from generator.environments.coq.declarations import declared_name
from generator.environments.coq.document import Document
from generator.environments.coq.guard import RefusedError, guarded
from generator.environments.coq.programs import find_programs
from generator.environments.coq.session import FailedError, PrefixError, ProofPath, ReplayError, Session
from generator.environments.coq.sources import Context, SourceTree
from generator.environments.coq.writing import file_of_statements, file_with_proofs

_MAX_STARTS = 3  # of a process that dies before it has done anything
_FLAGS = (
    *("-q", "-w", "none", "-main-channel", "stdfds", "--xml_format=Ppcmds"),
    *("-async-proofs", "off", "-async-proofs-never-reopen-branch"),
    *("-async-proofs-tactic-error-resilience", "off", "-async-proofs-command-error-resilience", "off"),
    *("-native-compiler", "no"),  # it starts a compiler, which writes files; vm_compute takes its place
)
_T = TypeVar("_T")


@dataclass(frozen=True)
class CoqState(ProofState):
    """A state of Coq, which any process can reach again: it may be pickled and sent elsewhere.

    Attributes:
        context: where its proof begins
        path: sentences sent since
        name: of its theorem
    """

    context: Context = field(compare=False, repr=False)
    path: ProofPath = field(compare=False, repr=False)
    name: str = field(compare=False, repr=False)


class CoqEnvironment(Environment):
    """Proofs in Coq 8.16 to Rocq 9, by coqidetop.

    A proof is finished when no goal is open, shelved or given up, and the kernel accepts it (`Qed`). Tactics are one
    tactic each: commands, and anything else that could change more than the proof, are refused before Coq sees them.
    Processes have limits of time and memory, no network where that is permitted, and a scratch folder. Not for threads.

    Args:
        root: folder that paths of theorems are relative to, such as a project with a _CoqProject; the standard library
            if not given
        coqidetop: the program, if it is not on PATH
        coq_options: for Coq, beside those of _CoqProject, such as ["-Q", "/path/to/library", "Library"]
        timeout_s: for each tactic
        start_timeout_s: for what stands in the file before a theorem
        memory_gb: address space of a process
        skip_proofs: replace proofs before the theorem by `Admitted` where nothing else depends on them; it starts
            sooner, and the assumptions of a proof are known only to `check`, which skips nothing
        allowed_axioms: names of axioms that a proof may use, [] for none; if not given, those that were there before
            the theorem. With names each finished proof is asked for its axioms, which takes up to seconds in files
            that import many proofs; with `skip_proofs` only `check` asks
        max_nodes: states of one proof that a process keeps before it begins anew
        max_processes: processes that are kept, one for each file
    """

    suffix = ".v"

    def __init__(
        self,
        root: str | None = None,
        coqidetop: str | None = None,
        coq_options: list[str] | None = None,
        timeout_s: float = 10.0,
        start_timeout_s: float = 300.0,
        memory_gb: float = 4.0,
        skip_proofs: bool = False,
        allowed_axioms: list[str] | None = None,
        max_nodes: int = 1000,
        max_processes: int = 1,
    ) -> None:
        check_positive(
            timeout_s=timeout_s,
            start_timeout_s=start_timeout_s,
            memory_gb=memory_gb,
            max_nodes=max_nodes,
            max_processes=max_processes,
        )
        self.programs = find_programs(coqidetop)
        self.sources = SourceTree(root, self.programs.standard_library, coq_options or ())
        self._timeout_s = timeout_s
        self._start_timeout_s = start_timeout_s
        self._skip_proofs = skip_proofs
        self._allowed_axioms = None if allowed_axioms is None else frozenset(allowed_axioms)
        self._max_nodes = max_nodes
        self._max_processes = max_processes
        self._confinement = Confinement(memory_gb)
        self._checker = Checker(self.programs, self._confinement)
        self._finished_path: ProofPath = ()  # of the last proof
        self._sessions: OrderedDict[tuple[str, str], tuple[Session, Channel]] = OrderedDict()

    def start(self, theorem: Theorem | Statement) -> CoqState:
        """Return the state in which a proof begins; see `Environment`."""
        context = self.sources.context_of(theorem)
        name = _name(theorem)
        try:
            goals = self._steadily(context, name, lambda session: session.open(context.offset))
        except PrefixError as error:
            raise CannotStartError(f"{name}: {error}") from error
        return CoqState(goals.pp, context, (), name)

    def run_tactic(self, state: ProofState, tactic: str) -> TacticResult:
        """Run a tactic; see `Environment`. A full stop at its end is allowed."""
        assert isinstance(state, CoqState), "a state of another environment"
        try:
            sentence = guarded(tactic)
        except RefusedError as error:
            return TacticError(str(error), "refused")
        try:
            return self._run(state, sentence)
        except DiedError as death:
            if death.kind != "crash":
                return TacticError(str(death), death.kind)
        try:  # once more: the death may have come from elsewhere
            return self._run(state, sentence)
        except DiedError as death:
            return TacticError(str(death), death.kind)

    def check(self, theorem: Theorem | Statement, script: Sequence[str]) -> Verdict:
        """Prove a theorem in a new coqtop, with all that stands before it; see `Environment`."""
        try:
            context = self.sources.context_of(theorem)
            sentences = [guarded(tactic) for tactic in script]
        except (CannotStartError, RefusedError) as error:
            return Verdict(False, str(error))
        try:
            self._check(context, _name(theorem), sentences)
            return Verdict(True)
        except NotAcceptedError as error:
            refused = Verdict(False, str(error))
        complete = self._with_shelved(theorem, script)
        if complete is None or list(complete) == sentences:
            return refused
        try:
            self._check(context, _name(theorem), complete)
            return Verdict(True)
        except NotAcceptedError as error:
            return Verdict(False, str(error))

    def source(self, proofs: Sequence[tuple[Theorem | Statement, Sequence[str]]]) -> dict[str, str]:
        """Write proofs as .v files: a file of the tree with the proofs in it, and one for all free statements.

        Raises:
            CannotStartError: if there is no such theorem
        """
        by_file: dict[str, dict[int, Sequence[str]]] = {}
        statements: list[tuple[Statement, Sequence[str]]] = []
        placed = [(self.sources.context_of(theorem), theorem, script) for theorem, script in proofs]
        # in the order of the files, so that one process goes through each of them once
        for context, theorem, script in sorted(placed, key=lambda each: _place_in_order(each[0])):
            if isinstance(theorem, Statement):
                statements.append((theorem, self._sentences(theorem, script)))
            else:
                by_file.setdefault(context.file_path, {})[context.offset] = self._sentences(theorem, script)
        files = {path: file_with_proofs(self.sources.source(path), each) for path, each in by_file.items()}
        if statements:
            files["statements.v"] = file_of_statements(statements)
        return files

    def close(self) -> None:
        """Stop all processes."""
        for _, channel in self._sessions.values():
            channel.close()
        self._sessions.clear()
        self._confinement.close()

    @property
    def pids(self) -> list[int]:
        """Of the processes that are kept."""
        return [channel.pid for _, channel in self._sessions.values()]

    def _run(self, state: CoqState, sentence: str) -> TacticResult:
        context = state.context
        try:
            session = self._steadily(context, state.name, lambda session: self._at(session, state))
        except (PrefixError, ReplayError) as error:
            raise BrokenEnvironmentError(f"{state.name}: {error}") from error
        try:
            path, goals = session.step(state.path, sentence)
            if not goals.texts:
                return self._finished(session, path, state)
        except FailedError as error:
            if error.kind == "memory":
                self._drop(context)  # it stays as big as it is
            return TacticError(str(error), error.kind)
        except DiedError:
            self._drop(context)
            raise
        return CoqState(goals.pp, context, path, state.name)

    @staticmethod
    def _at(session: Session, state: CoqState) -> Session:
        session.go_to(state.context.offset, state.path)
        return session

    def _finished(self, session: Session, path: ProofPath, state: CoqState) -> TacticResult:
        """Return the finished proof, if the kernel accepts it and its axioms are allowed."""
        asks = self._allowed_axioms is not None and not self._skip_proofs
        printed = session.close_proof(path, self._constant(state.context, state.name) if asks else None)
        more = beyond(read_assumptions("\n".join(printed)), self._allowed_axioms or ())
        if more:
            return TacticError(f"Qed: axiom {more[0].name} is not allowed")
        self._finished_path = path
        return ProofFinished()

    def _check(self, context: Context, name: str, sentences: Sequence[str]) -> None:
        source = self.sources.source_of(context)
        timeout_s = self._start_timeout_s + 2 * self._timeout_s * (len(sentences) + 1)
        constant = self._constant(context, name)
        found = self._checker.assumptions(source, context.offset, constant, sentences, timeout_s)
        if self._allowed_axioms is not None:
            more = beyond(found, self._allowed_axioms)
            if more:
                raise NotAcceptedError(f"axiom {more[0].name} is not allowed")
        elif names := {each.name for each in beyond(found, ())}:
            self._were_there(context, name, names)

    def _were_there(self, context: Context, name: str, axioms: set[str]) -> None:
        """Raise NotAcceptedError unless axioms were known before the theorem.

        No tactic can add one, as far as anyone knows; this does not rely on it.
        """

        def unknown(session: Session) -> list[str]:
            session.go_to(context.offset, ())
            return session.unknown_before(context.offset, axioms)

        try:
            if new := self._steadily(context, name, unknown):
                raise NotAcceptedError(f"axiom {new[0]} was not there before the theorem")
        except PrefixError as error:
            raise NotAcceptedError(str(error)) from error

    def _constant(self, context: Context, name: str) -> str:
        """Return the name of what a proof defines, as it is known right behind it."""
        source = self.sources.source_of(context)
        sentence = source.sentences[source.number_at(context.offset)].text
        return declared_name(sentence) or name.rsplit(".", 1)[-1]

    def _sentences(self, theorem: Theorem | Statement, script: Sequence[str]) -> Sequence[str]:
        """Return the sentences of a proof: the tactics, and `Unshelve` where only shelved goals are left."""
        sentences = tuple(guarded(tactic) for tactic in script)
        # a proof of one tactic ends with it, and so leaves no goal to put back
        return (self._with_shelved(theorem, script) or sentences) if len(sentences) > 1 else sentences

    def _with_shelved(self, theorem: Theorem | Statement, script: Sequence[str]) -> Sequence[str] | None:
        """Return the sentences of a proof by running it, None if it does not run."""
        try:
            result: TacticResult = self.start(theorem)
            for tactic in script:
                if not isinstance(result, CoqState):
                    return None
                result = self.run_tactic(result, tactic)
        except (CannotStartError, BrokenEnvironmentError):
            return None
        return self._finished_path if isinstance(result, ProofFinished) else None

    def _steadily(self, context: Context, name: str, action: Callable[[Session], _T]) -> _T:
        """Do something that is known to work, with a new process if the one that was there died.

        Raises:
            PrefixError, ReplayError: as `action` does; nobody knows then where its process stands, and it is dropped
            BrokenEnvironmentError: if one process after the other dies
        """
        for attempt in range(_MAX_STARTS + 1):
            try:
                return action(self._session(context))
            except DiedError as death:
                self._drop(context)
                if attempt == _MAX_STARTS or death.kind != "crash":
                    raise BrokenEnvironmentError(f"{name}: {death}") from death
            except (PrefixError, ReplayError):
                self._drop(context)
                raise
        raise AssertionError

    def _session(self, context: Context) -> Session:
        if context.place in self._sessions:
            self._sessions.move_to_end(context.place)
            return self._sessions[context.place][0]
        while len(self._sessions) >= self._max_processes:
            self._sessions.popitem(last=False)[1][1].close()
        source = self.sources.source_of(context)
        command = [self.programs.coqidetop, *_FLAGS, *source.options, "-topfile", str(source.path)]
        channel = Channel(self._confinement, command)
        try:
            document = Document(channel)
        except BaseException:
            channel.close()
            raise
        limits = (self._max_nodes, self._start_timeout_s, self._timeout_s)
        session = Session(document, source, self._skip_proofs, *limits)
        self._sessions[context.place] = (session, channel)
        return session

    def _drop(self, context: Context) -> None:
        if found := self._sessions.pop(context.place, None):
            found[1].close()


def _place_in_order(context: Context) -> tuple[str, int]:
    """By file and place; free statements stay in their order."""
    return context.file_path, 0 if context.text else context.offset


def _name(theorem: Theorem | Statement) -> str:
    return theorem.name if isinstance(theorem, Statement) else theorem.full_name
