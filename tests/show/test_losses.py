from gptlab.show import can_draw, plot_losses, to_png
from gptlab.training import History

PNG = b"\x89PNG"


def test_losses_become_panels_with_a_curve_for_each_model():
    history = History(losses=[3.0, 2.0, 1.0], validation=[(0, 3.1), (3, 1.2)])
    figure = plot_losses({"first": {"a": history}, "second": {"a": history, "b": History(losses=[1.0])}})
    first, second = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["first", "second"]
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["a", "a, validation"]
    thick = next(line for line in first.lines if line.get_label() == "a")
    assert list(thick.get_ydata()) == [3.0, 2.0, 1.0]  # too short for a mean that lags
    assert {line.get_label() for line in second.lines} >= {"a", "b"}
    assert to_png(figure).startswith(PNG)


def test_the_thick_line_is_a_running_mean():
    history = History(losses=[float(step % 2) for step in range(200)])
    [axis] = plot_losses({"x": {"y": history}}).axes
    thick = next(line for line in axis.lines if line.get_label() == "y")
    assert list(thick.get_ydata()) == history.smoothed(10)
    assert history.smoothed(10)[9:] == [0.5] * 191
    assert History(losses=[3.0, 2.0, 1.0]).smoothed(2) == [3.0, 2.5, 1.5]


def test_a_notebook_shows_the_figure():
    """IPython asks the object that ends a cell for its PNG."""
    assert can_draw()
    assert plot_losses({"x": {"y": History(losses=[1.0])}})._repr_png_().startswith(PNG)
