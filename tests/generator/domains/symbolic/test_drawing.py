"""Problems of symbolic mathematics: right, canonical, and decided by their numbers alone."""

import json
import random
import time
from collections import Counter
from pathlib import Path

import pytest
import sympy as sp
from sympy.core.random import seed as seed_sympy

from common import ConfigError, DataError
from generator.domains import make_domain
from generator.domains.base import Problem, split_of
from generator.domains.problem_files import read_split, write_problem_files
from generator.domains.symbolic import drawing
from generator.domains.symbolic.drawing import Drawer, DrawingOptions, Outcome, attempt, write_splits
from generator.domains.symbolic.equations import first_order, holds, second_order
from generator.domains.symbolic.forms import Dropped, canonical, drawn_expression, simplified, tidied
from generator.domains.symbolic.integrals import antiderivative, backward, by_parts, forward
from generator.domains.symbolic.numeric import agree, nests_too_deep, values, why_useless
from generator.domains.symbolic.options import TASKS, Task
from generator.domains.symbolic.parts import Known, differentiated, known_integrals
from generator.domains.symbolic.prefix import SYMBOLS, X, expression_of, text_of, to_expression, to_words
from generator.domains.symbolic.trees import draw_tree
from generator.domains.writers import stable_seed

SMALL = DrawingOptions(min_ops=1, max_ops=4)
COEFFICIENTS = {"variable": 0.6, "coefficient": 0.2, "integer": 0.2}


@pytest.fixture(scope="module")
def known() -> Known:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("generator.domains.symbolic.parts._NUM_KNOWN", 1500)
        return known_integrals(SMALL)


def drawn(task: Task, options: DrawingOptions, known: Known, count: int) -> list[tuple[list[str], list[str]]]:
    """Problems of the first tries that give one."""
    makers = {"prim_fwd": forward, "prim_bwd": backward, "ode1": first_order, "ode2": second_order}
    found, number = [], 0
    while len(found) < count:
        number += 1
        rng = random.Random(number)
        seed_sympy(number)
        try:
            found.append(by_parts(rng, options, known) if task == "prim_ibp" else makers[task](rng, options))
        except (Dropped, sp.PolynomialError):
            continue
    return found


# ---------------------------------------------------------------------------------------------------- problems


@pytest.mark.parametrize("task", ["prim_fwd", "prim_bwd", "prim_ibp"])
@pytest.mark.parametrize("options", [{}, {"num_coefficients": 2, "leaf_probabilities": COEFFICIENTS}])
def test_the_derivative_of_an_answer_is_the_integrand_and_both_are_canonical(
    task: Task, options: dict[str, object], known: Known
) -> None:
    options_of = DrawingOptions(min_ops=1, max_ops=4, **options)  # type: ignore[arg-type]
    for problem, answer in drawn(task, options_of, known, 6):
        assert problem[:2] == ["sub", "Y'"]
        integrand, primitive = problem[2:], answer
        assert to_words(to_expression(integrand)) == integrand
        assert to_words(to_expression(primitive)) == primitive
        difference = sp.simplify(to_expression(primitive).diff(X) - to_expression(integrand))
        assert difference == 0 or agree(to_words(to_expression(primitive).diff(X)), integrand)
        expression = to_expression(primitive)
        assert not (expression.is_Add and any(not term.has(X) for term in expression.args))  # no "+ c"


@pytest.mark.parametrize(("task", "words"), [("ode1", {"Y'"}), ("ode2", {"Y''"})])
def test_solutions_solve_their_equations_and_have_all_constants(task: Task, words: set[str], known: Known) -> None:
    num_exact = 0
    for problem, answer in drawn(task, DrawingOptions(min_ops=3, max_ops=5), known, 6):
        assert words <= set(problem) and not {"a8", "a9"} & set(problem)
        assert {"a8", "x"} <= set(answer) and ("a9" in answer) == (task == "ode2")
        assert to_words(to_expression(answer)) == answer and to_words(to_expression(problem)) == problem
        equation, solution = to_expression(problem), to_expression(answer)
        assert holds(equation, solution)
        assert not holds(equation, solution + X**3) or "Y" not in problem
        unknown = expression_of("Y")
        num_exact += sp.simplify(equation.subs(unknown, solution).doit()) == 0
    assert num_exact >= 4  # roots and inverses hold on one branch, which `simplify` does not take


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_thousand_targets_are_what_they_are_when_read_and_written_again(task: Task) -> None:
    with_pool, number = Drawer(task, DrawingOptions(max_ops=8), 2), 0
    with with_pool.pool:
        for outcome in with_pool.tries(stable_seed("identity", place) for place in range(2**40)):
            if outcome.reason:
                continue
            number += 1
            assert text_of(expression_of(outcome.program)) == outcome.program
            body = outcome.spec.removeprefix("sub Y' ") if task.startswith("prim") else outcome.spec
            assert text_of(expression_of(body)) == body
            if number == 1000:
                return


def test_what_is_not_worth_a_try_is_seen_without_sympy() -> None:
    assert nests_too_deep("exp sinh cosh exp x".split()) and not nests_too_deep("exp sin cosh exp sin x".split())
    for words, reason in (
        ("exp exp exp exp x", "nested"),
        ("ln mul INT- 1 pow2 x", "no value"),
        ("sub x x", "constant"),
        ("div x x", "constant"),
        ("add INT+ 2 INT+ 3", "constant"),
        ("mul x cos x", ""),
        ("acosh x", ""),
    ):
        assert why_useless(words.split()) == reason
    with pytest.raises(Dropped, match="constant"):
        drawn_expression("mul pow2 sqrt x pow x INT- 1".split())


def test_values_are_those_of_sympy_for_every_operator() -> None:
    for (
        name
    ) in "exp sin cos tan sinh cosh tanh sqrt asin acos atan asinh acosh atanh sec csc cot sech csch coth".split():
        for argument in (0.4, 1.7):
            ours = values([name, "x"], {"x": [argument]}, complex)[0]  # type: ignore[dict-item]
            theirs = complex(to_expression([name, "x"]).subs(X, argument).evalf())
            assert abs(ours - theirs) < 1e-9 or abs(ours - theirs.conjugate()) < 1e-9  # numpy's side of a cut


def test_derivatives_by_values_are_those_of_sympy() -> None:
    rng = random.Random(5)
    for _ in range(40):
        words = draw_tree(rng, 4, DrawingOptions())
        ours = differentiated(words)
        slope = to_expression(words).diff(X)
        for place, point in enumerate((0.37, 0.83, 1.31)):
            theirs = complex(slope.subs(X, point).evalf())
            if abs(ours[1][place]) < 1e6:
                assert ours[1][place] == pytest.approx(theirs.real, rel=1e-6, abs=1e-9)


def test_only_equal_functions_agree() -> None:
    assert agree("mul INT+ 2 x".split(), "add x x".split())
    assert not agree("mul INT+ 2 x".split(), "add x mul x INT+ 2".split())
    assert not agree("ln x".split(), "ln mul INT- 1 x".split())  # nowhere both


@pytest.mark.parametrize(
    ("integrand", "integral"),
    [
        ("x", "mul div INT+ 1 INT+ 2 pow x INT+ 2"),
        ("mul x cos x", "add mul x sin x cos x"),
        ("add exp x ln x", "add exp x add mul x ln x mul INT- 1 x"),
    ],
)
def test_integrals_are_found_term_by_term(integrand: str, integral: str) -> None:
    found = antiderivative(expression_of(integrand))
    assert sp.simplify(found - expression_of(integral)).diff(X) == 0


@pytest.mark.parametrize("integrand", ["exp pow x INT+ 2", "sin sin x", "div sin x x", "pow cos exp sin x INT+ 3"])
def test_what_has_no_elementary_integral_is_dropped_with_a_reason(integrand: str) -> None:
    with pytest.raises(Dropped, match="integra"):
        antiderivative(expression_of(integrand))


def test_constants_around_coefficients_fold_into_them() -> None:
    for words, expected in (
        ("mul INT+ 2 mul a3 x", "mul a0 x"),
        ("add sin a4 add x exp mul a2 x", "add a0 add x exp mul a1 x"),
        ("mul INT+ 2 x", "mul INT+ 2 x"),
        ("mul add a8 INT+ 3 x", "mul a8 x"),
    ):
        folded = to_words(tidied(expression_of(words)))
        assert folded == to_words(expression_of(expected))
    with pytest.raises(Dropped):
        tidied(expression_of("mul x add a8 a9"))


def test_simplified_forms_say_the_same_in_fewer_words_or_as_many() -> None:
    for words in ("add mul x cos x mul x sin x", "add div INT+ 1 x div INT+ 1 add x INT+ 1"):
        before = canonical(expression_of(words))[1]
        for way in ("fast", "sympy"):
            after = to_words(simplified(to_expression(before), DrawingOptions(simplification=way)))  # type: ignore[arg-type]
            assert agree(before, after) and (way == "sympy" or len(after) <= len(before))


def test_an_equation_that_a_function_does_not_solve_does_not_hold() -> None:
    equation = expression_of("add Y' mul INT- 1 Y")
    assert holds(equation, SYMBOLS["a8"] * sp.exp(X))
    assert not holds(equation, SYMBOLS["a8"] * sp.exp(X) + X)
    assert not holds(expression_of("add Y'' Y"), SYMBOLS["a8"] * sp.sinh(X))


# ------------------------------------------------------------------------------------------------------- folders


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "SHARD_TRIES", 10)


SIZES = {"train": 24, "val": 2, "test": 2}
OPTIONS = {"min_ops": 1, "max_ops": 4}


def made(folder: Path, num_workers: int = 1, seed: int = 3, **options: object) -> dict[str, str]:
    write_problem_files(make_domain("prim_bwd", {**OPTIONS, **options}), folder, SIZES, seed, num_workers)  # type: ignore[arg-type]
    return {path.name: path.read_text() for path in folder.glob("*.jsonl")}


@pytest.mark.usefixtures("small_shards")
def test_folders_do_not_depend_on_workers_or_interruptions_and_say_what_was_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(tmp_path / "whole")
    assert made(tmp_path / "two", num_workers=2) == whole
    real, written = drawing._write, []

    def until_the_third(path: Path, shard: object) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.name)
        real(path, shard)  # type: ignore[arg-type]

    monkeypatch.setattr(drawing, "_write", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "resumed")
    assert {path.name for path in (tmp_path / "resumed").rglob("*")} == {"domain.json", "shards", *written}
    monkeypatch.setattr(drawing, "_write", lambda path, shard: (written.append(path.name), real(path, shard)))
    assert made(tmp_path / "resumed") == whole and len(written) == len(set(written))

    card = json.loads((tmp_path / "whole" / "domain.json").read_text())
    drawn = card["drawn"]
    assert drawn["sympy"] == sp.__version__ and drawn["kept"] == sum(SIZES.values())
    assert drawn["kept"] + sum(drawn["dropped"].values()) == drawn["tries"] and drawn["dropped"]["constant"]
    assert card["leaks"]["test"] == {"same_text": 0.0, "same_meaning": 0.0}
    domain = make_domain("prim_bwd", OPTIONS)
    for split in SIZES:
        problems = read_split(tmp_path / "whole", split, domain)  # type: ignore[arg-type]
        assert {split_of(problem.spec) for problem in problems} == {split}
        assert len({problem.spec for problem in problems}) == SIZES[split]


class Scripted:
    """A drawer whose tries give what it is told."""

    def __init__(self, specs: list[str], splits: str = "disjoint") -> None:
        self.task, self.options = "prim_bwd", DrawingOptions(splits=splits)  # type: ignore[arg-type]
        self.specs, self.pool = specs, self

    def tries(self, seeds: object) -> object:
        return (Outcome(spec, "x") if spec else Outcome(reason="dull") for spec in self.specs * 100)

    def close(self) -> None: ...


def test_repeated_problems_are_dropped_and_barren_tries_end(tmp_path: Path, small_shards: None) -> None:
    with pytest.raises(ConfigError, match="gave nothing new for val"):
        write_splits(Scripted(["a", "", "a", "b", "c"] * 30), str, tmp_path, {"train": 1, "val": 9}, 0)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*.jsonl"))  # whole, or not there


def test_independent_splits_are_drawn_from_all(tmp_path: Path, small_shards: None) -> None:
    drawer = Scripted(["a", "b", "", "b"] * 10, "independent")
    card = write_splits(drawer, str, tmp_path, {"train": 12, "val": 3}, 0)  # type: ignore[arg-type]
    lines = (tmp_path / "train.jsonl").read_text().splitlines()
    assert len(lines) == 12 and len(set(lines)) == 2
    assert card["leaks"]["val"]["same_text"] == 1.0


def test_shards_that_are_broken_or_of_another_sympy_are_refused(tmp_path: Path, small_shards: None) -> None:
    (tmp_path / "shards").mkdir()
    shard = {"sympy": "1.0", "numpy": "2", "problems": [], "dropped": {}, "num_tries": 10, "seconds": 1.0}
    (tmp_path / "shards" / "all-000000.json").write_text(json.dumps(shard))
    with pytest.raises(ConfigError, match=r"sympy 1\.0"):
        write_splits(Scripted(["a"]), str, tmp_path, {"train": 1}, 0)  # type: ignore[arg-type]
    for broken in ({"sympy": sp.__version__}, shard | {"sympy": sp.__version__}, "no JSON"):
        (tmp_path / "shards" / "all-000000.json").write_text(json.dumps(broken)[: None if broken != "no JSON" else 3])
        with pytest.raises(DataError, match="all-000000.json.*remove it"):
            write_splits(Scripted(["a"]), str, tmp_path, {"train": 1}, 0)  # type: ignore[arg-type]


def slow_half(task: Task, options: DrawingOptions, known: Known | None, seed: int) -> Outcome:
    if seed % 2:
        time.sleep(60)
    return Outcome(f"x{seed}", "x")


def test_tries_that_hang_are_killed_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "attempt", slow_half)
    drawer = Drawer("prim_bwd", DrawingOptions(timeout_s=0.3))
    with drawer.pool:
        outcomes = list(drawer.tries(iter([2, 3, 4])))
    assert [outcome.spec for outcome in outcomes] == ["x2", "", "x4"]
    assert Counter(outcome.reason for outcome in outcomes) == {"": 2, "timed out": 1}


def test_a_try_is_decided_by_its_number_and_its_failures_have_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(seed: int) -> tuple[str, str, str]:
        outcome = attempt("prim_bwd", SMALL, None, seed)
        return outcome.spec, outcome.program, outcome.reason

    first = [of(seed) for seed in range(30)]
    assert [of(seed) for seed in reversed(range(30))] == first[::-1] and len(set(first)) > 10

    def fails(*_: object) -> None:
        raise sp.PolynomialError("no")

    monkeypatch.setitem(drawing._MAKERS, "prim_bwd", fails)
    assert of(1) == ("", "", "sympy failed (PolynomialError)")


def test_single_problems_are_drawn_too() -> None:
    drawer = Drawer("prim_bwd", SMALL)
    with drawer.pool:
        one, same = drawer.draw(random.Random(1)), drawer.draw(random.Random(1))
    assert one == same and isinstance(one, Problem) and one.spec.startswith("sub Y' ")
