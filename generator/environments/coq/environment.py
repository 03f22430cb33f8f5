"""Coq as an environment."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self, TypeVar

from common import check_positive
from generator.environments.base import (
    BrokenEnvironmentError,
    CannotStartError,
    ProofFinished,
    ProofState,
    Statement,
    TacticError,
    TacticResult,
    Theorem,
)
from generator.environments.coq.channel import Channel, DiedError
from generator.environments.coq.confinement import Confinement
from generator.environments.coq.document import Document
from generator.environments.coq.guard import RefusedError, guarded
from generator.environments.coq.programs import find_programs
from generator.environments.coq.session import FailedError, PrefixError, ProofPath, ReplayError, Session
from generator.environments.coq.sources import Context, SourceTree

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


class CoqEnvironment:
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
        check_assumptions: refuse a proof as soon as it is finished if it has more assumptions than allowed; `check`
            does so in any case
        allowed_axioms: names of axioms that a proof may use; if not given, those that were there before the theorem
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
        check_assumptions: bool = False,
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
        self.sources = SourceTree(root, self.programs.library, coq_options or ())
        self._timeout_s = timeout_s
        self._start_timeout_s = start_timeout_s
        self._skip_proofs = skip_proofs
        self._check_assumptions = check_assumptions
        self._allowed_axioms = None if allowed_axioms is None else frozenset(allowed_axioms)
        self._max_nodes = max_nodes
        self._max_processes = max_processes
        self._confinement = Confinement(memory_gb)
        self._sessions: OrderedDict[tuple[str, str], tuple[Session, Channel]] = OrderedDict()

    def start(self, theorem: Theorem | Statement) -> CoqState:
        """Return the state in which a proof begins; see `Environment`."""
        context = self.sources.context_of(theorem)
        name = theorem.name if isinstance(theorem, Statement) else theorem.full_name
        try:
            goals = self._steadily(context, name, lambda session: session.open(context.offset))
        except PrefixError as error:
            self._drop(context)
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

    def close(self) -> None:
        """Stop all processes."""
        for _, channel in self._sessions.values():
            channel.close()
        self._sessions.clear()
        self._confinement.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Of the processes that are kept."""
        return [channel.pid for _, channel in self._sessions.values()]

    def _run(self, state: CoqState, sentence: str) -> TacticResult:
        context = state.context
        try:
            session = self._steadily(context, state.name, lambda session: self._at(session, state))
        except (PrefixError, ReplayError) as error:
            self._drop(context)
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
        session.close_proof(path, None)
        return ProofFinished()

    def _steadily(self, context: Context, name: str, action: Callable[[Session], _T]) -> _T:
        """Do something that is known to work, with a new process if the one that was there died."""
        for attempt in range(_MAX_STARTS + 1):
            try:
                return action(self._session(context))
            except DiedError as death:
                self._drop(context)
                if attempt == _MAX_STARTS or death.kind != "crash":
                    raise BrokenEnvironmentError(f"{name}: {death}") from death
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
