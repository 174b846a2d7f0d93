"""Laws of the charts: what is counted is what is seen, whatever classes are called."""

import re

import cv2
import numpy as np
import pytest

from satmask import charts, figures
from satmask.errors import SettingError

NAME = r"$house_{1}$ <b> & a very long class name without end 家"


def assert_whole(drawn):
    for name, figure in drawn.items():
        picture = cv2.imdecode(np.frombuffer(figures.png_bytes(figure, dpi=80), np.uint8), cv2.IMREAD_COLOR)
        border = np.concatenate([picture[[0, -1]].reshape(-1, 3), picture[:, [0, -1]].reshape(-1, 3)])
        assert (border == 255).all(), f"{name} is clipped"
        assert picture.std() > 5, f"{name} is blank"


def test_every_chart_is_drawn_whole_for_any_class_name():
    names = (NAME, "_hidden")
    assert_whole(
        {
            "curves": charts.learning_curves(history()),
            "one epoch": charts.learning_curves({"loss": [1.0], "val_loss": [float("nan")]}),
            "confusion": charts.confusion_matrix([[5_000_000, 3], [0, 0]], names),
            "bars": charts.score_bars({NAME: {"IoU": 0.5, "F1": float("nan")}, "_hidden": {"IoU": 1.0}}),
        }
    )


def history(epochs=30):
    steps = np.arange(epochs)
    return {
        "epoch": steps,
        "loss": np.exp(-steps / 9),
        "val_loss": np.exp(-steps / 9) + 0.1,
        "iou": 1 - np.exp(-steps / 9),
        "val_iou": 0.7 - ((steps - 20) / 40) ** 2,
        "learning_rate": np.full(epochs, 1e-3),
    }


def test_best_epoch_has_the_highest_validation_iou():
    pandas = pytest.importorskip("pandas")
    for kind in (dict, pandas.DataFrame):
        figure = charts.learning_curves(kind(history()))
        assert [axis.get_title(loc="right") for axis in figure.axes] == ["", "best 0.700 in epoch 21", ""]


def test_a_history_of_nothing_but_nan_has_no_best_epoch():
    figure = charts.learning_curves({"loss": [float("nan")] * 3})
    assert figure.axes[0].get_title(loc="right") == ""


def test_confusion_is_shared_out_by_truth():
    figure = charts.confusion_matrix([[3, 1], [0, 0]], ["a", "b"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["no pixels", "75.0%\n3", "25.0%\n1"]


def test_svg_follows_the_page_into_the_dark():
    text = figures.svg_bytes(charts.learning_curves(history())).decode()
    assert text.count("prefers-color-scheme:dark") == 1
    assert not re.search(f'style="[^"]*({figures.INK}|{figures.GRID})', text)
    assert "var(--ink)" in text


def test_save_writes_the_kind_that_the_name_asks_for(tmp_path):
    figure = charts.score_bars({"building": 0.7})
    figures.save(figure, tmp_path / "bars.svg")
    figures.save(figure, tmp_path / "bars.png")
    assert b"<svg" in (tmp_path / "bars.svg").read_bytes()
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "draw",
    [
        lambda: charts.learning_curves({"iou": [0.1]}),
        lambda: charts.learning_curves({"loss": []}),
        lambda: charts.confusion_matrix([[1, 2]], ["a"]),
        lambda: charts.score_bars({}),
    ],
)
def test_nothing_to_draw_is_said(draw):
    with pytest.raises(SettingError, match=r"must .*got"):
        draw()
