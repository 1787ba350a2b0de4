"""The table and the plot of a training run."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from nas_compress.errors import OutputError
from nas_compress.report.training import plot_training, table, write_training
from nas_compress.training.checkpoint import EpochLog

LOG = [
    EpochLog(1, 1.0986, 33.333, "largest", {"largest": 40.0, "smallest": 30.0}),
    EpochLog(2, 0.5, 70.0, "largest", {"largest": 75.125, "smallest": 31.0}),
    EpochLog(3, 0.4, 72.0, "width, all"),
]


def test_a_row_an_epoch_with_a_column_for_every_network(tmp_path: Path) -> None:
    assert write_training(tmp_path, LOG) == ["training.csv", "training.png"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["training.csv", "training.png"]
    with (tmp_path / "training.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["epoch", "stage", "loss", "accuracy (%)", "largest (%)", "smallest (%)"]
    assert list(rows[1].values()) == ["2", "largest", "0.50000", "70.00", "75.12", "31.00"]
    assert list(rows[2].values()) == ["3", "width, all", "0.40000", "72.00", "", ""]
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")


def test_the_plot_has_a_line_for_every_network_and_marks_the_stages() -> None:
    above, below = plot_training(LOG).axes
    lines = {line.get_label(): list(line.get_ydata()) for line in above.lines if len(line.get_xdata()) == 3}
    assert lines["training, augmented examples"] == [33.333, 70.0, 72.0]
    largest = lines["largest, search-validation examples"]
    assert largest[:2] == [40.0, 75.125] and math.isnan(largest[2])
    assert list(below.lines[0].get_ydata()) == [1.0986, 0.5, 0.4]
    assert [text.get_text() for text in above.texts] == ["largest", "width, all"]
    assert [line.get_xdata()[0] for line in below.lines[1:]] == [0.5, 2.5]


def test_a_run_without_curve_and_stages() -> None:
    log = [EpochLog(1, 1.0, 50.0)]
    assert list(table(log)) == [["epoch", "stage", "loss", "accuracy (%)"], ["1", "", "1.00000", "50.00"]]
    above, _ = plot_training(log).axes
    assert len(above.lines) == 1 and not above.texts


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"training\.csv"):
        write_training(tmp_path / "file", LOG)
