import pytest
from conversations import MOSS_TOKENS, TALK, WITH_TOOLS, with_specials

from gptlab.data import LOSS_RULES, encode, render
from gptlab.show import show_loss_rules


def test_each_row_shows_what_a_rule_trains_on_and_counts_it(tokenizer):
    tokenizer = with_specials(tokenizer, MOSS_TOKENS)
    shown = show_loss_rules(WITH_TOOLS, tokenizer)
    for rule, row, line in zip(LOSS_RULES, shown.rows, str(shown).splitlines(), strict=True):
        example = encode(render(WITH_TOOLS, loss_on=rule), tokenizer)
        assert [piece.id for piece in row] == example.ids
        assert [piece.trained for piece in row] == [False, *example.trained[1:]]
        own = ", its own rule" if rule == "moss" else ""
        count = sum(example.trained[1:])
        assert line.startswith(f"moss, loss on {rule}{own} ({count} of {len(example.ids) - 1} trained): ")
    html = shown._repr_html_()
    assert "moss, loss on assistant (" in html
    assert "&lt;eom&gt;" in html


def test_formats_side_by_side(tokenizer):
    shown = show_loss_rules(TALK, tokenizer, ["chatml", "chatglm", "alpaca"], ["assistant"])
    assert len(shown.rows) == 3
    assert "[" in str(shown)
    with pytest.raises(ValueError, match="loss_on must be one of .*got 'x'"):
        show_loss_rules(TALK, tokenizer, rules=["x"])
