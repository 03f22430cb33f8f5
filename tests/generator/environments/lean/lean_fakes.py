"""A stand-in for Lean's REPL, which speaks its JSON, and for LeanInteract, which speaks to it.

Requests and answers have the keys that the REPL documents (github.com/leanprover-community/repl) and LeanInteract 0.11
reads, `declarations` among them; the built-in prover says what a tactic does. Run as a program it answers on standard
input, so that the real LeanInteract can talk to it too: `lake env .../repl`.
"""

import json
import re
import sys
from types import ModuleType, SimpleNamespace

from generator.environments import ProofFinished, PropositionalEnvironment, Statement, TacticError
from generator.environments.propositional.environment import PropositionalState
from generator.environments.propositional.goals import print_goals

_THEOREM = re.compile(
    r"(?P<in>(?:(?:set_option|open)[^\n]*\bin\n)*)"
    r"(?P<head>(?:/--.*?-/\s*)?theorem\s+(?P<name>\S+)(?P<signature>.*?))(?P<value>:=\s*by\s+(?P<script>.+?))\s*(?=\n\S|\Z)",
    re.DOTALL,
)
_MENTIONS = re.compile(r"namespace (\S+)")
LEAN_AXIOMS = "propext, Classical.choice, Quot.sound"

SWAP = Statement("(p q : Prop) (h : p ∧ q) : q ∧ p")
FILE = """import Mathlib.Logic.Basic

namespace Foo

theorem first (p : Prop) (h : p) : p := by
  exact h

/-- Both. -/
theorem both (p q : Prop) (h : p ∧ q) : q ∧ p := by
  exact ⟨h.2, h.1⟩

set_option maxHeartbeats 400000 in
open Classical in
theorem last (p q : Prop) (h : p ∨ q) : q ∨ p := by
  rcases h with h | h
  right
  exact h
  left
  exact h
"""


class Death(Exception):
    """The process ends, or never answers."""


class FakeRepl:
    """Answers requests as Lean's REPL does, and dies of the tactics "crash", "loop" and "eat"."""

    def __init__(self):
        self.prover = PropositionalEnvironment()
        self.environments = []  # text so far of each
        self.states = []
        self.axioms = {}

    def answer(self, request):
        if "tactic" in request:
            return self._tactic(request["tactic"], request["proofState"])
        before = "" if request.get("env") is None else self.environments[request["env"]]
        return self._command(request["cmd"], before, request.get("declarations", False))

    def _command(self, text, before, wants_declarations):
        if text == "crash":
            raise Death(text)
        self.environments.append(f"{before}\n{text}")
        answer = {"env": len(self.environments) - 1}
        messages, sorries, declarations = [], [], []
        if printed := re.fullmatch(r"#print axioms (\S+)", text):
            return answer | {"messages": [_message("info", self._axioms_of(printed[1]))]}
        if "import Missing" in text:
            messages.append(_message("error", "unknown module prefix 'Missing'"))
        for theorem in _THEOREM.finditer(text):
            declarations.append(_declaration(text, theorem, before))
            self._declare(theorem, messages, sorries)
        answer |= {"messages": messages} if messages else {}
        answer |= {"sorries": sorries} if sorries else {}
        return answer | ({"declarations": declarations} if wants_declarations else {})

    def _declare(self, theorem, messages, sorries):
        name, script = theorem["name"], theorem["script"]
        try:
            state = self.prover.start_statement(theorem["signature"].strip())
        except Exception as error:
            messages.append(_message("error", str(error)))
            return
        self.axioms[name] = []
        if script.strip() == "sorry":
            self.states.append(state)
            sorries.append({"pos": _HERE, "endPos": _HERE, "goal": state.pp, "proofState": len(self.states) - 1})
            messages.append(_message("warning", "declaration uses 'sorry'"))
            return
        for tactic in re.sub(r"^  ", "", script, flags=re.MULTILINE).split("\n"):
            state = self._apply(state, tactic.strip(), name)
            if not isinstance(state, (PropositionalState, ProofFinished)):
                messages.append(_message("error", state.message))
                return
        if isinstance(state, PropositionalState):
            messages.append(_message("error", f"unsolved goals\n{state.pp}"))

    def _apply(self, state, tactic, name=None):
        """Tactics of no real prover leave traces that only a check of the whole proof finds."""
        if tactic in ("classical", "native"):
            axioms = LEAN_AXIOMS.split(", ") if tactic == "classical" else ["propext", "Lean.ofReduceBool"]
            self.axioms.setdefault(name, []).extend(axioms)
            return state
        if tactic == "cheat":  # repl#44: accepted in tactic mode, and by no file
            return ProofFinished() if name is None else TacticError("unsolved goals")
        return (
            self.prover.run_tactic(state, tactic) if isinstance(state, PropositionalState) else TacticError("no goals")
        )

    def _axioms_of(self, name):
        axioms = self.axioms[name]
        if not axioms:
            return f"'{name}' does not depend on any axioms"
        return f"'{name}' depends on axioms: [{', '.join(axioms)}]".replace(", ", ",\n ", 1)

    def _tactic(self, tactic, number):
        if tactic in ("crash", "loop", "eat"):
            raise Death(tactic)
        if number >= len(self.states):
            return {"message": "Unknown proof state."}
        if tactic == "hole":
            return self._goals([], "Incomplete: contains sorry") | {
                "sorries": [{"pos": _HERE, "endPos": _HERE, "goal": "⊢ p", "proofState": 0}]
            }
        if tactic == "metavariable":
            return self._goals([], "Incomplete: contains metavariable(s)")
        if tactic == "logged":  # an error that Lean recovers from
            return self._goals(["⊢ p"], "Incomplete: open goals remain") | {
                "messages": [_message("error", "a problem")]
            }
        result = self._apply(self.states[number], tactic)
        if isinstance(result, TacticError):
            return {"message": f"Lean error:\n{result.message}"}
        self.states.append(result)
        if isinstance(result, ProofFinished):
            return self._goals([], "Completed")
        return self._goals([print_goals([goal]) for goal in result.goals], "Incomplete: open goals remain")

    def _goals(self, goals, status):
        return {"proofState": len(self.states) - 1, "goals": goals, "traces": [], "proofStatus": status}


_HERE = {"line": 1, "column": 0}


def _message(severity, text):
    return {"severity": severity, "pos": _HERE, "endPos": _HERE, "data": text}


def _declaration(text, theorem, before):
    def position(offset):
        return {"line": text.count("\n", 0, offset) + 1, "column": offset - (text.rfind("\n", 0, offset) + 1)}

    def part(group):
        begin, end = theorem.span(group)
        while text[end - 1].isspace():
            end -= 1
        where = {"synthetic": False, "start": position(begin), "finish": position(end)}
        return {"pp": theorem[group], "constants": [], "range": where}

    namespaces = _MENTIONS.findall(before + text[: theorem.start()])
    namespace = namespaces[-1] if namespaces else "[anonymous]"
    name = theorem["name"]
    head, value = part("head"), part("value")
    return {
        "pp": theorem[0],
        "range": head["range"] | {"finish": value["range"]["finish"]},
        "scope": {
            "varDecls": [],
            "includeVars": [],
            "omitVars": [],
            "levelNames": [],
            "currNamespace": namespace,
            "openDecl": [],
        },
        "name": name,
        "fullName": f"{namespace}.{name}" if namespaces else name,
        "kind": "theorem",
        "modifiers": {},
        "signature": part("signature"),
        "value": value,
    }


# --------------------------------------------------------------------------------------- LeanInteract


class LeanServer:
    """LeanInteract's: an answer, or an error and no process any more."""

    def __init__(self, config):
        config.num_started += 1
        self.config, self.repl = config, FakeRepl()

    def run(self, request, *, timeout=None):
        self.config.requests.append(request)
        if self.repl is None or self.config.is_broken:
            raise ConnectionAbortedError("The Lean server closed unexpectedly.")
        try:
            answer = self.repl.answer(request)
        except Death as death:
            self.repl = None
            if str(death) == "loop":
                raise TimeoutError(f"The Lean server did not respond in time ({timeout=}) and is now killed.") from None
            memory = "INTERNAL PANIC: out of memory" if str(death) == "eat" else ""
            raise ConnectionAbortedError(f"The Lean server closed unexpectedly. {memory}") from None
        if set(answer) == {"message"}:
            return LeanError(answer["message"])
        defaults = {"messages": [], "sorries": []} | ({"declarations": []} if "env" in answer else {})
        return _as_object(defaults | answer)

    def kill(self):
        self.repl = None


class LeanError(SimpleNamespace):
    """LeanInteract's: what the REPL says of a request that it cannot do."""

    def __init__(self, message):
        super().__init__(message=message)


def _as_object(value):
    if isinstance(value, list):
        return [_as_object(each) for each in value]
    if not isinstance(value, dict):
        return value
    return SimpleNamespace(**{re.sub(r"(?<=[a-z])[A-Z]", _lower, key): _as_object(v) for key, v in value.items()})


def _lower(match):
    return "_" + match[0].lower()


def _command(cmd, env=None, declarations=None):
    assert cmd
    return {"cmd": cmd, "declarations": bool(declarations)} | ({} if env is None else {"env": env})


def _proof_step(tactic, proof_state):
    assert tactic
    return {"tactic": tactic, "proofState": proof_state}


def install(monkeypatch):
    """Put the stand-in where `import lean_interact` finds it; return the configurations that it gets."""
    configs = []

    def config(**options):
        if options.get("lake_path") == "no-such-lake":
            raise RuntimeError("Lean 4 build system executable not found at `no-such-lake`")
        configs.append(SimpleNamespace(options=options, num_started=0, requests=[], is_broken=False))
        return configs[-1]

    module, interface = ModuleType("lean_interact"), ModuleType("lean_interact.interface")
    module.LeanServer, module.LeanREPLConfig, module.LocalProject = LeanServer, config, SimpleNamespace
    module.Command, module.ProofStep, interface.LeanError = _command, _proof_step, LeanError
    monkeypatch.setitem(sys.modules, "lean_interact", module)
    monkeypatch.setitem(sys.modules, "lean_interact.interface", interface)
    return configs


def run(environment, state, *tactics):
    for tactic in tactics:
        state = environment.run_tactic(state, tactic)
    return state


def serve():
    """Be `lake`: answer requests on standard input, each ended by a blank line."""
    repl, lines = FakeRepl(), []
    for line in sys.stdin:
        if line.strip():
            lines.append(line)
            continue
        try:
            print(json.dumps(repl.answer(json.loads("".join(lines))), ensure_ascii=False), end="\n\n", flush=True)
        except Death as death:
            if str(death) == "loop":
                sys.stdin.read()
            print("INTERNAL PANIC: out of memory" if str(death) == "eat" else "", file=sys.stderr)
            return
        lines = []


if __name__ == "__main__":
    print("Lake version 5.0.0") if "--version" in sys.argv else serve()
