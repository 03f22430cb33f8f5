"""Answers to problems of symbolic mathematics, judged in child processes: the steps of `checker`, with their limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from generator.domains.base import Verdict
from generator.domains.symbolic.checker import STEPS, Evidence, Finding, Question, Step, shown_point
from generator.domains.symbolic.pool import Pool, Result

_LEAST_S = 0.1  # that a step gets, or it is not begun
_NUM_PROVING = 2  # points, see `checker`


@dataclass
class _Case:
    """A question, and what is known of it so far."""

    question: Question
    seconds: float = 0.0
    verdict: Verdict | None = None
    evidence: Evidence = Evidence()
    is_late: bool = False  # whether a step was not done in time
    failure: str = ""  # of a step
    rest: str = ""  # what the last step left

    def take(self, result: Result[Finding]) -> None:
        """Take what a step has found, or what became of it."""
        self.seconds += result.seconds
        finding = result.value
        if finding is None:
            self.is_late |= result.kind == "timeout"
            self.failure = self.failure or (result.message if result.kind != "timeout" else "")
        elif finding.kind is not None:
            message = finding.message
            if finding.is_local and self.evidence.real + self.evidence.complex:
                where = f"holds around {shown_point(self.question.place)}, not everywhere"
                message = f"{where}; {message}" if message else where
            self.verdict = Verdict(finding.kind, message, self.seconds, is_general=finding.is_general)
        else:
            self.rest = finding.message or self.rest
            if finding.evidence != Evidence():
                self.evidence = finding.evidence
                self.question = replace(self.question, place=finding.evidence.place)

    def end(self, limit_s: float) -> Verdict:
        """The verdict of what no step has decided.

        Only what is proven not to hold is rejected: an integral that holds at some points and at others does not. A
        solution of a differential equation may be one on a part of the line.
        """
        if self.verdict is not None:
            return self.verdict
        if self.evidence.real >= _NUM_PROVING and not self.question.is_equation:
            message = f"holds for some values, and not at {self.evidence.example}"
            return Verdict("rejected", message, self.seconds)
        if self.is_late:
            return Verdict("timeout", f"was not decided in {limit_s:g} s", self.seconds)
        if self.failure:
            return Verdict("error", self.failure, self.seconds)
        return Verdict("timeout", f"was not decided: {self.rest}", self.seconds)


def _is_of_use(step: Step, case: _Case) -> bool:
    """Whether a step may say something: a comparison needs a reference, and branches are those of equations."""
    question = case.question
    if step == "compare":
        return bool(question.reference)
    if step == "branch":
        return question.is_equation and bool(question.place)
    return True


def judge_all(
    pool: Pool[tuple[Step, Question], Finding],
    questions: Sequence[Question],
    *,
    limit_s: float,
    step_limit_s: float,
    steps: Sequence[Step] = STEPS,
) -> list[Verdict]:
    """Return the verdicts of answers, all of which go through a step before the next.

    Args:
        pool: of `take_step`
        questions: answers; problems that can be read
        limit_s: seconds for an answer, over all steps
        step_limit_s: seconds for a step
        steps: to do
    """
    cases = [_Case(question) for question in questions]
    for step in steps:
        going = [case for case in cases if case.verdict is None and limit_s - case.seconds >= _LEAST_S]
        going = [case for case in going if _is_of_use(step, case)]
        limits = {id(case.question): min(step_limit_s, limit_s - case.seconds) for case in going}
        tasks = [(step, case.question) for case in going]
        for case, result in zip(going, pool.map(tasks, lambda task, of=limits: of[id(task[1])]), strict=True):  # type: ignore[misc]
            case.take(result)
    for case in cases:
        case.is_late |= case.verdict is None and limit_s - case.seconds < _LEAST_S
    return [case.end(limit_s) for case in cases]
