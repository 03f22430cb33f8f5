"""The matrix of training and test domains and the curve over sizes of training, from result files made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common import ConfigError, DataError
from generator.domains.__main__ import main
from generator.domains.base import PublishedCurve
from generator.domains.results import Result, read_results
from generator.domains.symbolic import published
from generator.domains.training_sizes import matrix_charts, published_charts, train_size_chart
from retrieval.training.charts import Matrix


def written(folder: Path, domain: str, shares: tuple[float, ...], writer: str = "model", **options: Any) -> Path:
    """A result file with these shares at 1, 2, ..."""
    curve = {part: list(shares) for part in ("share", "low", "high")}
    metrics = {"format_version": 1, "domain": domain, "writer": writer, "options": options, "curve": curve}
    path = folder / f"{writer}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**metrics, "num_problems": 50, "budget": len(shares)}))
    path.with_suffix(".jsonl").touch()
    return path


def four(folder: Path) -> list[Path]:
    ten = (0.5,) * 9
    return [
        written(folder / "ff", "prim_fwd", (0.9, *ten), trained_on="prim_fwd", beam=10),
        written(folder / "fb", "prim_bwd", (0.1, *ten), trained_on="prim_fwd", beam=10),
        written(folder / "bf", "prim_fwd", (0.2, *ten), trained_on="prim_bwd", beam=10),
        written(folder / "bb", "prim_bwd", (0.8, *ten), trained_on="prim_bwd", beam=10),
    ]


ACROSS = {task: published.across(task) for task in ("prim_fwd", "prim_bwd")}


def test_the_matrix_of_four_runs(tmp_path: Path) -> None:
    charts = matrix_charts(read_results(four(tmp_path), None), ACROSS)
    assert set(charts) == {"matrix_1", "matrix_10"}, "none reaches 50"
    chart = charts["matrix_1"]
    assert isinstance(chart, Matrix) and chart.num == 50
    cells = {
        (row, column): chart.values[i][j] for i, row in enumerate(chart.rows) for j, column in enumerate(chart.columns)
    }
    assert cells["prim_fwd", "prim_fwd"] == 0.9 and cells["prim_fwd", "prim_bwd"] == 0.1
    assert cells["prim_bwd", "prim_fwd"] == 0.2 and cells["prim_bwd", "prim_bwd"] == 0.8
    assert chart.rows == chart.columns, "the diagonal is where both are the same"
    i, j = chart.rows.index("prim_bwd"), chart.columns.index("prim_fwd")
    assert chart.others[i][j] == pytest.approx(0.189)
    charts = matrix_charts(read_results(four(tmp_path), None), {})
    assert isinstance(charts["matrix_1"], Matrix) and charts["matrix_1"].others == ()


def test_a_pair_that_nobody_measured_stays_empty(tmp_path: Path) -> None:
    chart = matrix_charts(read_results(four(tmp_path)[:3], None), ACROSS)["matrix_1"]
    assert isinstance(chart, Matrix) and [each for row in chart.values for each in row].count(None) == 1


def test_two_results_of_one_pair_are_refused(tmp_path: Path) -> None:
    again = written(tmp_path / "again", "prim_bwd", (0.3,), trained_on="prim_bwd")
    with pytest.raises(DataError, match="another result is of a model trained on prim_bwd and tested on prim_bwd too"):
        matrix_charts(read_results([*four(tmp_path), again], None), {})


def test_of_beams_of_several_widths_each_budget_has_its_own(tmp_path: Path) -> None:
    options = {"trained_on": "prim_fwd", "train_size": 1000}
    for width, share in ((1, 0.25), (10, 0.75)):
        shares = (0.2,) * (width - 1) + (share,)
        written(tmp_path, "prim_fwd", shares, f"m_beam{width}", beam=width, **options)
    charts = matrix_charts(read_results([tmp_path], None), {})
    assert [charts[name].values for name in ("matrix_1", "matrix_10")] == [((0.25,),), ((0.75,),)]  # type: ignore[union-attr]


def results_of_sizes(folder: Path, domain: str = "ode1") -> list[Result]:
    paths = [
        written(folder / domain / str(size), domain, (share, share + 0.1), trained_on=domain, train_size=size)
        for size, share in ((100_000, 0.5), (10_000, 0.25), (1_000_000, 0.75))
    ]
    return read_results(paths, None)


def test_a_curve_over_training_sizes_rises_by_size_with_what_is_published(tmp_path: Path) -> None:
    chart = train_size_chart(results_of_sizes(tmp_path), published.sizes("ode1"))
    assert chart is not None and chart.is_log_x
    own, *others = chart.series
    assert (own.name, own.x, own.y) == ("solved@1", (10_000, 100_000, 1_000_000), (0.25, 0.5, 0.75))
    assert [each.is_dots and not each.is_filled for each in others] == [True, True]
    assert others[0].name == "mBART, Noorbakhsh et al., beam 1" and others[0].y == (0.042, 0.339, 0.622)


def test_domains_have_a_curve_each(tmp_path: Path) -> None:
    both = results_of_sizes(tmp_path) + results_of_sizes(tmp_path, "ode2")
    chart = train_size_chart(both, [PublishedCurve("model", "x", {1: 0.5})])
    assert chart is not None and [each.name for each in chart.series] == ["ode1", "ode2"]


def test_no_curve_without_two_sizes(tmp_path: Path) -> None:
    results = results_of_sizes(tmp_path)
    assert train_size_chart(results[:1], published.sizes("ode1")) is None
    assert train_size_chart(read_results(four(tmp_path), None)) is None
    again = written(tmp_path, "ode1", (0.3,), trained_on="ode1", train_size=10_000)
    with pytest.raises(DataError, match="two results are of models trained on 10,000 problems"):
        train_size_chart([*results, *read_results([again], None)])


def test_published_numbers_are_those_of_the_papers() -> None:
    """Corners of the tables; the rest was read off with them."""
    assert published.curves("prim_fwd")[0].points == {1: 0.936, 10: 0.956, 50: 0.962}
    assert published.across("prim_fwd")["prim_bwd"] == {1: 0.189, 10: 0.246, 50: 0.275}
    assert published.across("prim_fwd")["prim_bwd+prim_fwd+prim_ibp"][50] == 0.943
    assert published.sizes("ode1")[1].points[100_000] == 0.1435
    charts = published_charts(ACROSS)
    assert set(charts) == {f"matrix_published_{b}" for b in (1, 10, 50)}


def test_plot_draws_them_across_domains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    paths = [str(path) for path in four(tmp_path)]
    main(["plot", "--across", "--results", *paths, "--output_dir", str(tmp_path / "f")])
    assert {path.stem for path in (tmp_path / "f").glob("*.png")} >= {"matrix_1", "matrix_10"}
    assert list((tmp_path / "f").glob("events.out.tfevents.*")) and "matrix_1.png" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="run is of one domain, and across of several"):
        main(["plot", "--across", "--results", *paths, "--run", ".", "--output_dir", str(tmp_path / "g")])
