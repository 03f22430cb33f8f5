"""Pictures of charts."""

import io

import numpy as np
import pytest
from PIL import Image

from retrieval.training.charts import Bins, Chart, Curve, Lines, Series, calibration, rank_histogram, shares_by_group
from retrieval.training.drawing import draw, to_png

pytest.importorskip("matplotlib")

TEXTS = {"title": "What it shows", "what": "states", "xlabel": "number"}
CHARTS: dict[str, Chart] = {
    "ranks": rank_histogram([5, 2, 1, 4], **TEXTS),
    "many_ranks": rank_histogram([3] * 100 + [50], **TEXTS),
    "groups": shares_by_group(
        [[3, 1, 0], [0, 0, 0], [9000, 9000, 5000]], Bins((1, 2)), {"top-1": 1, "top-2": 2}, **TEXTS, ylabel="found"
    ),
    "probabilities": calibration(
        [2, 0, 4], [1, 0, 4], [0.2, 0.0, 4.0], (0, 1), **TEXTS, ylabel="right", is_probability=True
    ),
    "cosines": calibration([0, 3], [0, 1], [0, 1.5], (-1, 1), **TEXTS, ylabel="right", is_probability=False),
    "curve": Curve("What it shows", "states", "k", "Recall@k", (1, 2, 3), (0.1, 0.2, 0.4), 12),
    "lines": Lines(
        **TEXTS,
        ylabel="solved",
        series=(
            Series("a", (1, 2, 100), (0.1, 0.2, 0.4), (0.0, 0.1, 0.3), (0.2, 0.3, 0.5)),
            Series("published", (1, 10), (0.1, 0.3), is_dots=True, like="a"),
        ),
        num=12,
        is_share=True,
        is_log_x=True,
    ),
    "levels": Lines(
        **TEXTS,
        ylabel="nats",
        series=(Series("", (0, 1), (3.0, 4.0), is_dots=True),),
        num=2,
        labels=("a", "b"),
        levels=(("least possible", 2.7),),
    ),
    "diagonal": Lines(
        **TEXTS,
        ylabel="p",
        series=(Series("a", (1e-6, 1.0), (1e-5, 0.5)),),
        num=2,
        is_log_x=True,
        is_log_y=True,
        has_diagonal=True,
    ),
    "no_lines": Lines(**TEXTS, ylabel="p", series=(), num=0, is_log_x=True),
    "one_point": Curve("What it shows", "states", "k", "Recall@k", (1,), (0.1,), 12),
}


@pytest.mark.parametrize("name", CHARTS)
def test_each_kind_of_chart_is_drawn_on_white_and_is_a_small_png(name: str) -> None:
    pixels = draw(CHARTS[name], "val, step 10")
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 255).all() and (pixels < 128).any(axis=2).sum() > 500, "something dark is on it"
    file = to_png(pixels)
    assert len(file) < 60_000 and (np.asarray(Image.open(io.BytesIO(file))) == pixels).all()


def test_the_same_chart_is_the_same_file_and_other_numbers_are_another() -> None:
    chart = rank_histogram([5, 2, 1, 4], **TEXTS)
    assert to_png(draw(chart)) == to_png(draw(CHARTS["ranks"]))
    assert to_png(draw(rank_histogram([4, 3, 1, 4], **TEXTS))) != to_png(draw(chart))


def test_no_global_state_of_matplotlib_is_made_or_changed() -> None:
    pyplot, matplotlib = pytest.importorskip("matplotlib.pyplot"), pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams), pyplot.get_fignums()
    draw(CHARTS["ranks"])
    assert (dict(matplotlib.rcParams), pyplot.get_fignums()) == before


def test_a_long_title_ends_within_the_figure() -> None:
    long = {**TEXTS, "title": "Accuracy of training against samples, of two layers", "what": "states of val " * 6}
    pixels = draw(rank_histogram([5, 2, 1, 4], **long), "split val, step 12,000")
    assert (pixels[:, -3:] == 255).all(), "the last columns are white"
    short = draw(rank_histogram([5, 2, 1, 4], **TEXTS), "")
    assert (pixels[:60] < 100).any() and (short[:60] < 100).any()
