"""What a run is said to have shown."""

import io

import pytest

from generator.environments import Theorem
from generator.search.loop import SearchResult
from generator.search.progress_line import ProgressLine
from generator.search.summary import Summary, reason_of
from retrieval.training.charts import Histogram, Lines


def result(name: str, status: str, **more: object) -> SearchResult:
    """A result of a theorem."""
    return SearchResult(Theorem("A.v", name), status, **more)  # type: ignore[arg-type]


RESULTS = [
    result("a", "proved", proof=("x",), num_expansions=1, total_s=2.0, model_s=1.0, environment_s=0.5),
    result("b", "proved", proof=("x", "y"), num_expansions=4, total_s=2.0, model_s=1.0, environment_s=0.5),
    result("c", "failed", num_expansions=5, errors={"error": 3}),
    result("d", "open", num_expansions=10, num_cache_hits=5, errors={"error": 1, "timeout": 2}),
    result("e", "discarded", reason="A.v declares no theorem e"),
    result("f", "discarded", reason="A.v declares no theorem f"),
    result("g", "discarded", reason="its file is broken\nand more"),
]


def test_pass_at_1_counts_what_was_searched_and_open_as_not_proved() -> None:
    numbers = Summary(RESULTS, wall_s=3.0).to_json()
    assert numbers["pass_at_1"] == 0.5 and numbers["num_theorems"] == 7
    assert numbers["pass_at_1_interval"] == pytest.approx([0.15, 0.85], abs=0.01)
    assert numbers["discarded_by_reason"] == {"... declares no theorem ...": 2, "its file is broken": 1}
    assert numbers["model_share"] == 0.5 and numbers["environment_share"] == 0.25
    assert numbers["cache_hit_rate"] == 0.25 and numbers["tactic_errors"] == {"error": 4, "timeout": 2}
    assert numbers["proof_lengths"] == {"1": 1, "2": 1} and numbers["expansions_to_proof"] == {"1": 1, "4": 1}


def test_the_text_says_it_in_a_few_lines() -> None:
    assert Summary(RESULTS).text().splitlines() == [
        "7 theorems: 2 proved, 1 failed, 1 open, 3 discarded",
        "Pass@1 50.0% (95% interval 15.0 to 85.0, discarded ones left out)",
        "proofs of 1 to 2 tactics (median 1.5), found after 1 to 4 states (median 2.5) tried",
        "4 s of search, 0.57 s a theorem: model 50%, prover 25%, search 25%",
        "discarded 2: ... declares no theorem ...",
        "discarded 1: its file is broken",
    ]


def test_nothing_proved_or_searched_has_no_numbers_that_are_none() -> None:
    numbers = Summary([RESULTS[4]]).to_json()
    assert numbers["pass_at_1"] is None and numbers["model_share"] is None and numbers["wall_s"] is None
    assert numbers["pass_at_1_interval"] == [None, None]
    assert Summary([]).text() == "0 theorems: 0 proved, 0 failed, 0 open, 0 discarded"
    many = [result(f"t{i}", "discarded", reason=f"reason {i}") for i in range(8)]
    assert Summary(many).text().splitlines()[-1] == "discarded 3 for 3 other reasons"


def test_figures_have_those_that_are_proved_and_at_last_the_others() -> None:
    charts = Summary(RESULTS).charts()
    tried, lengths = charts["expansions"], charts["proof_lengths"]
    assert isinstance(tried, Histogram) and isinstance(lengths, Histogram)
    assert tried.labels == ("1", "2", "3", "4", "not\nproved") and tried.counts == (1, 0, 0, 1, 2)
    assert lengths.counts == (1, 1, 2) and lengths.what == "theorems"


def test_the_curve_rises_where_proofs_were_found_and_ends_with_pass_at_1() -> None:
    curve = Summary(RESULTS).charts()["pass_at_1"]
    assert isinstance(curve, Lines) and curve.num == 4, "discarded ones are left out"
    [series] = curve.series
    assert series.x == (1, 3, 4, 10) and series.y == (0.25, 0.25, 0.5, 0.5)
    assert (series.low[-1], series.high[-1]) == pytest.approx((0.15, 0.85), abs=0.01)
    assert Summary([RESULTS[0], RESULTS[4]]).charts()["pass_at_1"].num == 0, "one state is no curve"
    assert Summary([]).charts()["pass_at_1"].num == 0


def test_reasons_are_equal_without_the_names_of_theorems() -> None:
    assert reason_of(RESULTS[4]) == reason_of(RESULTS[5])
    assert len(reason_of(result("x", "discarded", reason="y" * 500))) == 103


def test_progress_is_a_line_now_and_then_where_no_terminal_is() -> None:
    now, stream = [0.0], io.StringIO()
    with ProgressLine(9, RESULTS[:1], stream=stream, clock=lambda: now[0]) as progress:
        for each in RESULTS[1:5]:
            now[0] += 11.0
            progress.add(each)
    assert stream.getvalue() == ("4 of 9 theorems: 2 proved, 1 failed, 1 open, 0 discarded; time left: about 55 s\n")
    assert progress.line() == (
        "5 of 9 theorems: 2 proved, 1 failed, 1 open, 1 discarded (1: ... declares no theorem ...); "
        "time left: about 44 s"
    )


def test_progress_is_a_bar_in_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with ProgressLine(3, stream=stream) as progress:
        progress.add(RESULTS[0])
    assert "prove" in stream.getvalue() and "1/3" in stream.getvalue() and "1 proved" in stream.getvalue()
