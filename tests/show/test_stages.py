from gptlab.show import plot_stages, to_png
from gptlab.training import History, StagesHistory


def two_stages(measured=True):
    first = History(losses=[3.0, 2.0, 1.0], validation=[(0, 2.0), (3, 1.0)] if measured else [])
    second = History(losses=[2.5, 1.5], validation=[(0, 1.0), (2, 1.8)] if measured else [])
    return StagesHistory(["prose", "questions"], [first, second])


def curve(axis, color):
    return [
        (list(line.get_xdata()), list(line.get_ydata()))
        for line in axis.lines
        if line.get_color() == color and line.get_linewidth() > 1
    ]


def test_stages_follow_each_other_above_the_forgetting_curve():
    figure = plot_stages(two_stages())
    losses, forgetting = figure.axes
    first, second = [line.get_color() for line in losses.lines if line.get_label() in ("prose", "questions")]
    assert curve(losses, first) == [([1, 2, 3], [3.0, 2.0, 1.0])]
    assert curve(losses, second) == [([4, 5], [2.5, 1.5])]
    assert curve(forgetting, first) == [([0, 3], [2.0, 1.0])]
    assert curve(forgetting, second) == [([3, 5], [1.0, 1.8])]
    for axis in figure.axes:
        assert [list(line.get_xdata()) for line in axis.lines if line.get_linestyle() == ":"] == [[3, 3]]
        assert axis.get_xlim() == (0, 5)
        assert axis.get_ylim()[0] == 0
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["prose", "questions"]
    assert to_png(figure).startswith(b"\x89PNG")


def test_without_measurements_there_is_one_panel():
    figure = plot_stages(two_stages(measured=False))
    assert [axis.get_title() for axis in figure.axes] == ["Training loss"]


def test_long_names_stay_inside_the_picture():
    names = [f"a stage whose name is rather long, number {number}" for number in range(5)]
    figure = plot_stages(StagesHistory(names, [History(losses=[1.0, 2.0]) for _ in names]))
    to_png(figure)  # which lays it out
    legend, page = figure.legends[0].get_window_extent(), figure.bbox
    assert page.x0 <= legend.x0 < legend.x1 <= page.x1
    assert page.y0 <= legend.y0 < legend.y1 <= page.y1
