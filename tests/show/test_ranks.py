from itertools import pairwise

import pytest

from gptlab.show import plot_ranks, to_png


def places(layers, names=("W_query", "W_value")):
    return [f"trf_blocks.{layer}.att.{name}" for layer in range(layers) for name in names]


def record(rows, columns=((0, 4), (10, 3), (30, 2))):
    return [(step, dict.fromkeys(rows, rank)) for step, rank in columns]


def test_a_row_for_each_place_and_a_column_for_each_choice_below_their_sum():
    query, value = places(1)
    figure = plot_ranks([(0, {query: 4, value: 4}), (10, {query: 1, value: 3}), (30, {query: 0, value: 2})])
    above, below, bar = figure.axes
    [line] = above.patches
    assert (list(line.get_data().values), list(line.get_data().edges)) == ([8, 4, 2], [0, 10, 30, 31])
    [heat] = below.collections
    assert heat.get_array().tolist() == [[4, 1, 0], [4, 3, 2]]
    assert heat.get_coordinates()[0, :, 0].tolist() == [0, 10, 30, 31]
    assert heat.get_clim() == (-0.5, 4.5)  # a colour for each rank from 0 to 4
    assert heat.get_cmap().N == 5
    assert [label.get_text() for label in below.get_yticklabels()] == ["0 W_query", "0 W_value"]
    assert below.yaxis_inverted()
    assert below.get_xlim() == (0, 31)
    assert bar.get_ylabel() == "rank"
    assert to_png(figure).startswith(b"\x89PNG")


def test_a_hook_shows_what_it_recorded():
    class Recorded:
        ranks = record(places(2))

    assert plot_ranks(Recorded()).axes[1].collections[0].get_array().shape == (4, 3)


@pytest.mark.parametrize("layers", [6, 36])
def test_no_label_lies_on_another(layers):
    figure = plot_ranks(record(["out_head", *places(layers, ("W_query", "ff.layers.0"))]))
    to_png(figure)  # which lays it out
    boxes = [label.get_window_extent() for label in figure.axes[1].get_yticklabels()]
    assert len(boxes) == 2 * layers + 1
    assert all(upper.y0 > lower.y1 - 1 for upper, lower in pairwise(boxes))
    assert all(figure.bbox.x0 <= box.x0 for box in boxes)


@pytest.mark.parametrize(
    "wrong", [[], [(0, {})], [(5, {"a": 1}), (5, {"a": 2})], [(0, {"a": 1}), (1, {"b": 1})]], ids=str
)
def test_a_record_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match=f"got steps \\{str([step for step, _ in wrong])[:-1]}"):
        plot_ranks(wrong)
