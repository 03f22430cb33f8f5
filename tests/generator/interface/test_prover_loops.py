"""Provers as users write them, around any TacticGenerator, finding real proofs.

LeanDojo, Pantograph and LeanInteract are stood in for: the names, calls and answers are theirs, and the built-in
prover answers.
"""

import asyncio
import heapq
import inspect
import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from generator import CachingGenerator, FixedTacticGenerator, render_state, without_placeholders
from generator.environments import ProofFinished, PropositionalEnvironment, TacticError
from generator.environments.propositional.environment import PropositionalState
from generator.environments.propositional.goals import print_goals
from tests.generator.dojo_fakes import DojoFinished, TacticState
from tests.generator.dojo_fakes import LeanError as DojoError

ENVIRONMENT = PropositionalEnvironment()
TACTICS = [
    "sorry",
    "constructor",
    "intro hp",
    "left",
    "right",
    "rcases h with h | h",
    "exact h",
    "exact h.1",
    "exact h.2",
]
PROVABLE = [
    "(p q : Prop) (h : p ∧ q) : q ∧ p",
    "(p q : Prop) (h : p ∨ q) : q ∨ p",
    "(p q r : Prop) (h : p ∧ q) : (r → q) ∧ (p ∨ r)",
]
UNPROVABLE = "(p q : Prop) (h : p ∨ q) : p ∧ q"


@pytest.fixture
def generator():
    return CachingGenerator(without_placeholders(FixedTacticGenerator(TACTICS)))


def is_proof(signature: str, tactics: list[str]) -> bool:
    state = ENVIRONMENT.start_statement(signature)
    for tactic in tactics[:-1]:
        state = ENVIRONMENT.run_tactic(state, tactic)
        assert isinstance(state, PropositionalState), tactic
    return isinstance(ENVIRONMENT.run_tactic(state, tactics[-1]), ProofFinished)


# ------------------------------------------------------------------- ReProver's prover, on LeanDojo 4


def best_first_search(dojo, state, theorem, theorem_pos, generator, num_samples=64, max_expansions=512):
    """Return a proof, expanding first the state whose tactics so far are the most probable together."""
    from lean_dojo import ProofFinished, TacticState

    generator.initialize()
    queue, seen = [(0.0, 0, state, [])], {state}
    while queue and max_expansions > 0:
        max_expansions -= 1
        cost, _, state, proof = heapq.heappop(queue)
        for tactic, log_prob in generator.generate(
            state=state.pp,
            file_path=theorem.file_path,
            theorem_full_name=theorem.full_name,
            theorem_pos=theorem_pos,
            num_samples=num_samples,
        ):
            result = dojo.run_tac(state, tactic)
            if isinstance(result, ProofFinished):
                return [*proof, tactic]
            if isinstance(result, TacticState) and result not in seen:
                seen.add(result)
                heapq.heappush(queue, (cost - log_prob, len(seen), result, [*proof, tactic]))
    return None


def awaiting(search):
    """The same for provers that await, with what README says they write."""
    source = inspect.getsource(search).replace("generator.", "await generator.")
    assert source.startswith("def ") and source.count("await generator.") == 2
    defined = {}
    exec(f"async {source}", globals(), defined)
    return defined[search.__name__]


class Dojo:
    """LeanDojo's: states have numbers, and a tactic that fails is an answer."""

    def __init__(self, signature):
        self.states = [ENVIRONMENT.start_statement(signature)]

    def __enter__(self):
        return self, TacticState(self.states[0].pp, 0)

    def __exit__(self, *error):
        pass

    def run_tac(self, state, tactic):
        result = ENVIRONMENT.run_tactic(self.states[state.id], tactic)
        if isinstance(result, TacticError):
            return DojoError(result.message)
        self.states.append(result)
        number = len(self.states) - 1
        return DojoFinished(number) if isinstance(result, ProofFinished) else TacticState(result.pp, number)


@pytest.fixture
def lean_dojo(monkeypatch):
    module = ModuleType("lean_dojo")
    module.Dojo, module.TacticState, module.ProofFinished, module.LeanError = Dojo, TacticState, DojoFinished, DojoError
    monkeypatch.setitem(sys.modules, "lean_dojo", module)


THEOREM = SimpleNamespace(file_path=Path("Mathlib/Logic/Basic.lean"), full_name="and_comm'")
POSITION = SimpleNamespace(line_nb=12, column_nb=1)  # LeanDojo's Pos


@pytest.mark.parametrize("signature", PROVABLE)
def test_reprovers_best_first_search_proves(signature, generator, lean_dojo):
    with Dojo(signature) as (dojo, state):
        proof = best_first_search(dojo, state, THEOREM, POSITION, generator)
    assert is_proof(signature, proof)


def test_searches_that_await_share_a_generator(generator, lean_dojo):
    async def prove_all():
        view, search = generator.as_async(), awaiting(best_first_search)
        starts = [Dojo(signature).__enter__() for signature in PROVABLE]
        return await asyncio.gather(*[search(dojo, state, THEOREM, POSITION, view) for dojo, state in starts])

    for signature, proof in zip(PROVABLE, asyncio.run(prove_all()), strict=True):
        assert is_proof(signature, proof)
        with Dojo(signature) as (dojo, state):
            assert best_first_search(dojo, state, THEOREM, POSITION, generator) == proof
    assert generator.hits >= generator.misses > 0


def test_a_search_without_success_ends(generator, lean_dojo):
    with Dojo(UNPROVABLE) as (dojo, state):
        assert best_first_search(dojo, state, THEOREM, POSITION, generator) is None
    with Dojo(PROVABLE[0]) as (dojo, state):
        assert best_first_search(dojo, state, THEOREM, POSITION, generator, max_expansions=1) is None


# ------------------------------------------------------------- LeanDojo-v2's RetrievalProver, on Pantograph


class BaseProver:
    """LeanDojo-v2's and Pantograph's agent: depth first, asking `next_tactic` until it has nothing more to try."""

    def search(self, server, state, max_steps=100):
        stack = [(state, [])]
        for _ in range(max_steps):
            if not stack:
                return None
            state, proof = stack[-1]
            goal_id = len(state.goals) - 1  # any open goal, here the last
            tactic = self.next_tactic(state, goal_id)
            if tactic is None:
                stack.pop()
                continue
            try:
                state = server.goal_tactic(state, tactic, goal_id)
            except TacticFailure:
                continue
            stack.append((state, [*proof, (goal_id, tactic)]))
            if not state.goals:
                return stack[-1][1]
        return None


class RetrievalProver(BaseProver):
    """Tries the tactics of a generator on a goal, the best first."""

    def __init__(self, generator, theorem):
        self.generator, self.theorem = generator, theorem
        self.untried = {}

    def next_tactic(self, state, goal_id):
        text = render_state(state.goals[goal_id:])  # as Lean prints it; str(state) is Pantograph's own text
        if text not in self.untried:
            candidates = self.generator.generate(
                state=text,
                file_path=self.theorem.file_path,
                theorem_full_name=self.theorem.full_name,
                theorem_pos=self.theorem.start,
                num_samples=10,
            )
            self.untried[text] = [tactic for tactic, _ in reversed(candidates)]
        return self.untried[text].pop() if self.untried[text] else None


class TacticFailure(Exception):
    """Pantograph's: the tactic does not apply."""


class PantographServer:
    """Pantograph's: a tactic acts on any goal, and each goal lists its variables one by one."""

    def goal_start(self, signature):
        return self._state(ENVIRONMENT.start_statement(signature))

    def goal_tactic(self, state, tactic, goal_id):
        goals = state.inner.goals
        alone = PropositionalState("", (goals[goal_id],), state.inner.find_constant)
        result = ENVIRONMENT.run_tactic(alone, tactic)
        if isinstance(result, TacticError):
            raise TacticFailure(result.message)
        new = () if isinstance(result, ProofFinished) else result.goals
        goals = goals[:goal_id] + new + goals[goal_id + 1 :]
        return self._state(PropositionalState(print_goals(goals), goals, state.inner.find_constant))

    @staticmethod
    def _state(inner):
        goals = [
            SimpleNamespace(
                id=f"_uniq.{i}",
                name=goal.tag or None,
                target=str(goal.target),
                variables=[SimpleNamespace(name=h.name, t=str(h.type), v=None) for h in goal.hypotheses],
            )
            for i, goal in enumerate(inner.goals)
        ]
        return SimpleNamespace(goals=goals, inner=inner)


@pytest.mark.parametrize("signature", PROVABLE)
def test_leandojo_v2s_prover_proves(signature, generator):
    server, theorem = PantographServer(), SimpleNamespace(file_path="A.lean", full_name="t", start=(1, 1))
    proof = RetrievalProver(generator, theorem).search(server, server.goal_start(signature))
    state = server.goal_start(signature)
    for goal_id, tactic in proof:
        state = server.goal_tactic(state, tactic, goal_id)
    assert state.goals == []


def test_pantographs_goals_reach_the_generator_as_lean_prints_them(generator):
    server, asked = PantographServer(), []
    theorem = SimpleNamespace(file_path="A.lean", full_name="t", start=(1, 1))
    recording = SimpleNamespace(generate=lambda state, **rest: asked.append(state) or generator.generate(state, **rest))
    RetrievalProver(recording, theorem).search(server, server.goal_start(PROVABLE[0]))
    assert asked[0] == "p q : Prop\nh : p ∧ q\n⊢ q ∧ p"
    assert asked[1] == "case right\np q : Prop\nh : p ∧ q\n⊢ p"


# ---------------------------------------------------------------------- any Lean, through LeanInteract


def prove(server, theorem, generator, num_samples=32, max_expansions=512):
    """Return a script that proves `theorem name (binders) : statement`, checked by Lean as a whole."""
    from lean_interact import Command, ProofStep
    from lean_interact.interface import LeanError

    start = server.run(Command(cmd=f"{theorem} := by sorry")).sorries[0]
    queue, seen = [(0.0, start.proof_state, start.goal, [])], {start.goal}
    while queue and max_expansions > 0:
        max_expansions -= 1
        cost, proof_state, state, proof = heapq.heappop(queue)
        for tactic, log_prob in generator.generate(state, "", "", (1, 1), num_samples):
            result = server.run(ProofStep(tactic=tactic, proof_state=proof_state))
            if isinstance(result, LeanError) or result.has_errors():
                continue
            state_after = render_state(result.goals)
            if result.proof_status == "Completed":
                script = f"{theorem} := by\n" + textwrap.indent("\n".join([*proof, tactic]), "  ")
                if server.run(Command(cmd=script)).lean_code_is_valid(allow_sorry=False):
                    return script
            elif state_after not in seen:
                seen.add(state_after)
                heapq.heappush(queue, (cost - log_prob, result.proof_state, state_after, [*proof, tactic]))
    return None


@dataclass(frozen=True)
class Command:
    cmd: str


@dataclass(frozen=True)
class ProofStep:
    tactic: str
    proof_state: int


@dataclass(frozen=True)
class LeanError:
    message: str


class LeanServer:
    """LeanInteract's: commands and proof steps."""

    def __init__(self):
        self.states, self.num_checked = [], 0

    def run(self, request):
        return self._step(request) if isinstance(request, ProofStep) else self._command(request.cmd)

    def _command(self, cmd):
        signature, script = re.fullmatch(r"theorem \w+ (.*?) := by\s(.*)", cmd, re.DOTALL).groups()
        if script == "sorry":
            state = ENVIRONMENT.start_statement(signature)
            self.states.append(state)
            sorry = SimpleNamespace(goal=state.pp, proof_state=len(self.states) - 1)
            return SimpleNamespace(sorries=[sorry], lean_code_is_valid=lambda allow_sorry: allow_sorry)
        self.num_checked += 1
        tactics = [line.removeprefix("  ") for line in script.splitlines()]
        return SimpleNamespace(sorries=[], lean_code_is_valid=lambda allow_sorry: is_proof(signature, tactics))

    def _step(self, step):
        result = ENVIRONMENT.run_tactic(self.states[step.proof_state], step.tactic)
        if isinstance(result, TacticError):
            return LeanError(result.message)
        is_done = isinstance(result, ProofFinished)
        self.states.append(result)
        return SimpleNamespace(
            proof_state=len(self.states) - 1,
            goals=[] if is_done else [print_goals([goal]) for goal in result.goals],
            proof_status="Completed" if is_done else "Incomplete: open goals remain",
            has_errors=lambda: False,
        )


@pytest.fixture
def lean_interact(monkeypatch):
    module, interface = ModuleType("lean_interact"), ModuleType("lean_interact.interface")
    module.Command, module.ProofStep, interface.LeanError = Command, ProofStep, LeanError
    monkeypatch.setitem(sys.modules, "lean_interact", module)
    monkeypatch.setitem(sys.modules, "lean_interact.interface", interface)


@pytest.mark.parametrize("signature", PROVABLE)
def test_a_loop_over_leaninteract_proves(signature, generator, lean_interact):
    server = LeanServer()
    script = prove(server, f"theorem t {signature}", generator)
    first, *tactics = script.splitlines()
    assert first == f"theorem t {signature} := by"
    assert is_proof(signature, [line.removeprefix("  ") for line in tactics]) and server.num_checked == 1


def test_a_loop_over_leaninteract_gives_up(generator, lean_interact):
    assert prove(LeanServer(), f"theorem t {UNPROVABLE}", generator) is None
