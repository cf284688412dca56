"""The picture of the tree: what stands where, and that no text leaves its box."""

import numpy as np
import pytest
from matplotlib.patches import FancyBboxPatch

from gptlab.show import to_png
from gptlab.show.lineage import FONT_SIZE, GREY, OPERATION_COLORS, WIDTH, new_part, plot_lineage, wrapped


def record(name, parent=None, verdict="kept", instruction="Name it.", op="deepen"):
    round = int(name.partition(".")[2] or 0)
    op = op if parent else None
    return {"id": name, "parent": parent, "instruction": instruction, "verdict": verdict, "op": op, "round": round}


RECORDS = [
    record("0", verdict="given", instruction="Name a fruit."),
    record("1", verdict="given", instruction="Add $1 and $2."),
    record("0.1", "0", "equal"),
    record("1.1", "1", op="breadth"),
    record("0.2", "0", op="complicate"),
    record("1.2", "1.1", "sorry"),
]


def drawn(figure):
    """Return the boxes by id, and all texts."""
    [axis] = figure.axes
    boxes = [patch for patch in axis.patches if isinstance(patch, FancyBboxPatch)]
    texts = [text for text in axis.texts if text.get_text()]

    def name_of(box):
        inside = [text for text in texts if box.get_x() < text.get_position()[0] < box.get_x() + WIDTH]
        inside = [text for text in inside if 0 < text.get_position()[1] - box.get_y() < box.get_height()]
        return min(inside, key=lambda text: text.get_position()[::-1]).get_text().split()[0]

    return {name_of(box): box for box in boxes}, texts


def test_rounds_go_from_left_to_right_and_what_failed_hangs_below():
    boxes, texts = drawn(plot_lineage(RECORDS))
    assert set(boxes) == {"0", "1", "0.1", "1.1", "0.2", "1.2"}
    lefts, tops = (
        {name: get(box) for name, box in boxes.items()} for get in (lambda b: b.get_x(), lambda b: b.get_y())
    )
    assert lefts["0"] == lefts["1"] < lefts["0.1"] == lefts["1.1"] < lefts["0.2"] == lefts["1.2"]
    assert tops["0"] == tops["0.2"] < tops["0.1"] < tops["1"] == tops["1.1"] < tops["1.2"]
    assert {"given", "round 1", "round 2"} <= {text.get_text() for text in texts}


def test_colour_is_the_operation_and_a_cross_stands_with_the_reason():
    figure = plot_lineage(RECORDS)
    boxes, texts = drawn(figure)
    colors = {text.get_text(): text.get_color() for text in texts}
    assert colors["1.1 breadth"] == OPERATION_COLORS["breadth"] != OPERATION_COLORS["complicate"]
    assert colors["0.2 complicate"] == OPERATION_COLORS["complicate"]
    assert len(set(OPERATION_COLORS.values())) == len(OPERATION_COLORS) == 6
    assert {"equal", "sorry"} <= set(colors) and not {"kept", "none"} & set(colors)
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert len(crosses) == 2
    assert [boxes[name].get_linestyle() for name in ("0.1", "0.2")] == [":", "-"]
    assert {text.get_color() for text in texts if text.get_text() == "Name it."} == {"black", GREY}


def test_lines_go_from_the_parent_to_the_child():
    figure = plot_lineage(RECORDS)
    boxes, _ = drawn(figure)

    def middle(name, side):
        return boxes[name].get_x() + side * WIDTH, boxes[name].get_y() + boxes[name].get_height() / 2

    lines = [line.get_xydata() for line in figure.axes[0].lines if line.get_marker() != "x"]
    pairs = [("0", "0.1"), ("1", "1.1"), ("0", "0.2"), ("1.1", "1.2")]
    wanted = [[*middle(one, 1), *middle(other, 0)] for one, other in pairs]
    assert sorted([*line[0], *line[-1]] for line in lines) == pytest.approx(np.array(sorted(wanted)))


@pytest.mark.parametrize(
    "text",
    [
        "Name three fruits that keep. " * 9,
        "<table><tr><td>MMMMMMMMMMMMMMMMWWWWWWWWWWWWWWWWW</td>" * 3,
        "$x$ and {y} and \\alpha in $\\frac{1}{2}$ " * 3,
        "为什么天空是蓝色的？请分三步推理，并说明每一步的理由。" * 4,  # without a font for it, boxes as wide
        "\ue000\U0001f34e fruit \x07",  # no font has the first two
        "",
    ],
)
def test_no_text_leaves_its_box(text):
    figure = plot_lineage([record("0", verdict="given", instruction=text), record("0.1", "0", "answer cut", text)])
    assert to_png(figure).startswith(b"\x89PNG")  # which lays it out
    boxes, texts = drawn(figure)
    frames = [box.get_window_extent() for box in boxes.values()]
    for shown in texts:
        if shown.get_text() not in ("given", "round 1"):
            extent = shown.get_window_extent()
            assert any(
                frame.x0 <= extent.x0 and extent.x1 <= frame.x1 and frame.y0 <= extent.y0 and extent.y1 <= frame.y1
                for frame in frames
            ), shown.get_text()


def test_chinese_is_wrapped_between_characters_but_not_before_a_full_stop():
    ten = 10 * FONT_SIZE / 72 * 1.06  # inches of ten characters
    lines = wrapped("一二三四五六七八九十，一二三四五六七八九。", ten, 3)
    assert lines == ["一二三四五六七八九", "十，一二三四五六七八", "九。"]
    assert wrapped("one two three", 9, 3) == ["one two three"]
    assert wrapped("a " * 99, 1.0, 2)[-1].endswith("a…")
    assert wrapped("", 1.0, 3) == []


def test_a_long_instruction_begins_where_it_is_new():
    text = "Name three fruits that keep through the winter. " * 3
    figure = plot_lineage(
        [record("0", verdict="given", instruction=text), record("0.1", "0", "kept", text + "Say why.")]
    )
    assert "… Say why." in {shown.get_text() for shown in drawn(figure)[1]}
    assert new_part("abc def", "abc dxf") == "… def"
    assert new_part("same", "same") == "same"


def test_only_so_many_roots_are_drawn():
    records = [record(str(number), verdict="given") for number in range(9)]
    assert len(drawn(plot_lineage(records))[0]) == 5
    assert len(drawn(plot_lineage(records, roots=2))[0]) == 2


def test_two_attempts_of_one_round_do_not_lie_on_each_other():
    boxes, _ = drawn(
        plot_lineage([record("0", verdict="given"), record("0.1", "0"), {**record("0.1", "0"), "id": "x"}])
    )
    assert boxes["0.1"].get_y() != boxes["x"].get_y()


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="at least one record, got none"):
        plot_lineage([])
    with pytest.raises(ValueError, match="roots must be >= 1, got 0"):
        plot_lineage(RECORDS, roots=0)
    with pytest.raises(ValueError, match="'0.1' has the parent '0'"):
        plot_lineage([record("0.1", "0")])
