"""What the drawing of problems is told, and what each task takes by default."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from common import ConfigError, check_choice, check_positive, check_probability
from generator.domains.base import DomainOptions

Task = Literal["prim_fwd", "prim_bwd", "prim_ibp", "ode1", "ode2"]
TASKS: tuple[Task, ...] = get_args(Task)
Simplification = Literal["fast", "sympy"]

MAX_OPERATORS = 100
OPERATOR_WEIGHTS = {
    **{"add": 10.0, "sub": 3.0, "mul": 10.0, "div": 5.0},
    **{"sqrt": 4.0, "pow2": 4.0, "pow3": 2.0, "pow4": 1.0, "pow5": 1.0},
    **dict.fromkeys(("ln", "exp", "sin", "cos", "tan"), 4.0),
    **dict.fromkeys("asin acos atan sinh cosh tanh asinh acosh atanh".split(), 1.0),
}
LEAF_PROBABILITIES = {"variable": 0.75, "coefficient": 0.0, "integer": 0.25, "constant": 0.0}

_MIN_OPERATORS = {"prim_fwd": 3, "prim_bwd": 4, "prim_ibp": 4, "ode1": 3, "ode2": 5}
_TIMEOUT_S = {"prim_fwd": 3.0, "prim_bwd": 5.0, "prim_ibp": 8.0, "ode1": 8.0, "ode2": 8.0}


@dataclass(frozen=True)
class DrawingOptions(DomainOptions):
    """How problems are drawn; the defaults are those of Lample & Charton.

    Attributes:
        min_ops: least operators of a drawn expression; 3 to 5 by default, as the task says
        max_ops: most operators of a drawn expression
        max_ops_g: most operators of the second function of prim_ibp
        max_int: whole numbers among the leaves are 1 to this
        num_coefficients: how many of a0, a1, ... leaves may be; up to 8, and none by default. Give
            leaf_probabilities.coefficient too
        max_length: most words of a problem, and of an answer, with a beginning and an end
        operators: weights of operators, among those of the same arity; none that is left out is drawn
        leaf_probabilities: of variable, coefficient, integer (whole number) and constant (pi, E)
        simplified: share of derivatives and equations that are simplified
        simplification: "fast" takes the shortest of some cheap rewritings, "sympy" calls its simplify, which the
            published files were made with and which takes ten times as long
        timeout_s: seconds for a try, of wall time; 3 to 8 by default, as the task says
    """

    min_ops: int | None = None
    max_ops: int = 15
    max_ops_g: int = 4
    max_int: int = 5
    num_coefficients: int = 0
    max_length: int = 512
    operators: dict[str, float] = field(default_factory=lambda: dict(OPERATOR_WEIGHTS))
    leaf_probabilities: dict[str, float] = field(default_factory=lambda: dict(LEAF_PROBABILITIES))
    simplified: float = 0.5
    simplification: Simplification = "fast"
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(MAX_OPERATORS, min_ops=self.min_ops, max_ops=self.max_ops, max_ops_g=self.max_ops_g)
        check_positive(max_int=self.max_int, max_length=self.max_length, timeout_s=self.timeout_s)
        check_probability(simplified=self.simplified)
        check_choice("simplification", self.simplification, get_args(Simplification))
        if not 0 <= self.num_coefficients <= 8:
            raise ConfigError(f"num_coefficients is {self.num_coefficients}; it must be from 0 to 8")
        if self.min_ops is not None and self.min_ops > self.max_ops:
            raise ConfigError(f"min_ops is {self.min_ops}; it must be at most max_ops, which is {self.max_ops}")
        self._check_weights()

    def _check_weights(self) -> None:
        for name, given, known in (
            ("operators", self.operators, OPERATOR_WEIGHTS),
            ("leaf_probabilities", self.leaf_probabilities, LEAF_PROBABILITIES),
        ):
            for key, weight in given.items():
                check_choice(f"a name in {name}", key, tuple(known))
                if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
                    raise ConfigError(f"{name}: the weight of {key} is {weight!r}; give a number from 0")
        for arity, names in ((1, UNARY), (2, BINARY)):
            if not any(self.operators.get(name) for name in names):
                raise ConfigError(f"operators has none that takes {arity} operands; give one a weight over 0")
        if not any(self.leaf_probabilities.values()):
            raise ConfigError("leaf_probabilities are all 0; give one over 0")
        if bool(self.leaf_probabilities.get("coefficient")) != bool(self.num_coefficients):
            raise ConfigError(
                f"num_coefficients is {self.num_coefficients}, and leaf_probabilities.coefficient is "
                f"{self.leaf_probabilities.get('coefficient', 0)}; give both, or neither"
            )

    def operator_range(self, task: Task) -> tuple[int, int]:
        """Return the fewest and the most operators that a task draws, most of the time."""
        fewest = _MIN_OPERATORS[task] if self.min_ops is None else self.min_ops
        return min(fewest, self.max_ops), self.max_ops

    def limit_s(self, task: Task) -> float:
        """Return the seconds that a try may take."""
        return _TIMEOUT_S[task] if self.timeout_s is None else self.timeout_s


BINARY = ("add", "sub", "mul", "div")
UNARY = tuple(name for name in OPERATOR_WEIGHTS if name not in BINARY)
