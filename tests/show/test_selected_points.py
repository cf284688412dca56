import numpy as np
import pytest
import torch

from gptlab.show.figure import to_png
from gptlab.show.selected_points import plot_selected_points

SQUARE = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]


def drawn(axis):
    """Return the positions of the grey points and of the coloured ones."""
    return [np.asarray(points.get_offsets()) for points in axis.collections]


def test_all_points_and_those_picked_side_by_side():
    figure = plot_selected_points(SQUARE, {"first": [0], "corners": [3, 1]}, captions=["covers 0.5", "covers 1.0"])
    left, right = figure.axes
    assert [axis.get_title() for axis in (left, right)] == ["first: 1 of 4\ncovers 0.5", "corners: 2 of 4\ncovers 1.0"]
    assert drawn(right)[0].tolist() == SQUARE
    assert drawn(right)[1].tolist() == [SQUARE[3], SQUARE[1]]
    colors = {tuple(axis.collections[1].get_facecolor()[0]) for axis in (left, right)}
    assert len(colors) == 2
    assert to_png(figure).startswith(b"\x89PNG")


def test_titles_that_no_font_has_and_formulas_and_tensors():
    points = torch.tensor(SQUARE, dtype=torch.bfloat16, requires_grad=True)
    figure = plot_selected_points(points, {"\U00013000 costs $x_$": [0]}, captions=["$^$"])  # a hieroglyph
    assert figure.axes[0].get_title() == "\ufffd costs \\$x_\\$: 1 of 4\n\\$^\\$"
    assert drawn(figure.axes[0])[0].tolist() == SQUARE
    assert to_png(figure)


def test_many_dimensions_are_drawn_in_the_plane_of_scikit_learns_pca():
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, 5)) * [5, 0.5, 3, 1, 1] + 7
    [axis] = plot_selected_points(rows, {"all": range(40)}).axes
    pca = PCA(2)
    assert np.abs(drawn(axis)[0]) == pytest.approx(np.abs(pca.fit_transform(rows)))
    shares = [f"component {number}: {share:.0%}" for number, share in enumerate(pca.explained_variance_ratio_, start=1)]
    assert [axis.get_xlabel(), axis.get_ylabel()] == shares


def test_rows_of_planes_with_the_last_one_empty():
    figure = plot_selected_points(SQUARE, {str(number): [number] for number in range(4)} | {"none": []})
    assert [axis.axison for axis in figure.axes] == [True] * 5 + [False]
    assert len(drawn(figure.axes[4])[1]) == 0
    assert to_png(figure)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([[1.0]], {"a": [0]}), r"dimensions >= 2\), got shape \(1, 1\)"),
        (([[1.0, np.nan]], {"a": [0]}), "finite"),
        ((SQUARE, {}), "at least one selection, got none"),
        ((SQUARE, {"mine": [4]}), "'mine' picks from 4 entries, got entry 4"),
        ((SQUARE, {"mine": [-1]}), "got entry -1"),
        ((SQUARE, {"a": [0]}, 0), "columns must be >= 1, got 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        plot_selected_points(*arguments[:2], **dict(zip(["columns"], arguments[2:])))


def test_captions_for_each_or_none():
    with pytest.raises(ValueError, match="1 selections need as many captions, got 2"):
        plot_selected_points(SQUARE, {"mine": [0]}, captions=["one", "two"])
