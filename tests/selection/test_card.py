"""A card counts what is there, in every form, and its page shows hostile texts as texts."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from gptlab.selection.card import measure_lengths, report_card, write_card
from gptlab.selection.contamination import contaminated
from gptlab.selection.rules import apply_rules, lima_rules
from gptlab.tokenizer import train_tokenizer

HOSTILE = "</style><script>alert(1)</script>\"'&<b onclick=x>"


def entry(instruction, output="Yes.", given=""):
    return {"instruction": instruction, "input": given, "output": output}


ENTRIES = [
    entry("Write a poem about the sea.", "Waves."),
    entry("write a poem about the sea", "More waves."),
    entry("Write a song.", HOSTILE),
    entry("What is the capital of France?", "Paris."),
    entry("请写一首关于春天的诗。", "春眠不觉晓", "古诗"),
    entry(f"Explain {HOSTILE} {HOSTILE}", ""),
    entry(f"Explain {HOSTILE} {HOSTILE}!", "a"),
]


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data):
        self.text += data


def test_a_card_counts_what_is_there():
    card = report_card(ENTRIES, title="seven")
    assert (card.n, card.n_with_input, card.n_empty, card.unit) == (7, 1, 1, "characters")
    assert card.distinct == {"entries": 7, "prompts": 7, "instructions": 7, "outputs": 7}
    assert (card.near["dropped"], card.near["exact"], card.near["groups"]) == (2, 2, 2)
    assert card.near["shown"][0] == {"indices": [0, 1], "size": 2, "texts": [ENTRIES[0]["instruction"]]}
    assert card.novel_share == pytest.approx(5 / 7)
    assert card.roots.rows[0].verb == "write" and card.roots.rows[0].nouns == [("poem", 2), ("song", 1)]
    assert card.lengths["output"].least == 0 and card.lengths["output"].most == len(HOSTILE)
    assert (card.mean_distance, card.rejected, card.contamination) == (None, None, None)
    assert "7, 1 with an input, 1 EMPTY" in str(card)
    assert json.loads(json.dumps(card.to_dict()))["lengths"]["prompt"]["percentiles"]["50"] > 0


def test_what_can_be_added_is_added():
    tokenizer = train_tokenizer("the sea, the song of the sea", 262)
    rules = apply_rules(ENTRIES, lima_rules(shortest=5))
    test = [entry("Write a poem about the sea!", "Sea."), entry("Bake bread.")]
    embeddings = np.random.default_rng(0).normal(size=(7, 5))
    card = report_card(ENTRIES, tokenizer=tokenizer, test=test, rejected=rules, embeddings=embeddings, near=0.95)
    assert card.unit == "tokens"
    longest = max(len(tokenizer.encode_ordinary(one["output"])) for one in ENTRIES)
    assert card.lengths["output"].most == longest
    assert card.rejected == rules.dropped
    assert (card.contamination["n_contaminated"], card.contamination["n_rows_met"]) == (2, 1)
    assert card.contamination["shown"][0]["row_text"] == "Write a poem about the sea!\nSea."
    assert card.near["by"] == "cosine"
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[~np.eye(7, dtype=bool)]
    assert card.mean_distance == pytest.approx(1 - cosines.mean())
    for words in ("mean distance", "meet the test", "rejected before", "length in tokens"):
        assert words in str(card)


def test_the_surest_matches_with_the_test_are_shown_first():
    test = [entry("Write a poem about the lake."), entry("Write a song!")]
    shown = report_card(ENTRIES, test=test).contamination["shown"]
    assert [match["rule"] for match in shown] == ["exact", "rouge", "rouge"]
    report = contaminated(ENTRIES, test)
    again = report_card(ENTRIES, test=report).contamination
    assert again["n_contaminated"] == 3 and again["shown"][0]["row_text"] is None


def test_rejections_come_in_three_forms():
    for given in ({"too long": 2, "off": 1}, [(4, "too long"), (7, "too long"), (9, "off")]):
        assert report_card(ENTRIES[:1], rejected=given).rejected == {"too long": 2, "off": 1}
    assert report_card(ENTRIES[:1], rejected=[]).rejected == {}


def test_counts_may_be_numpys():
    card = report_card([{"instruction": "a", "output": "b"}], rejected={"short": np.int64(3)})
    assert json.loads(json.dumps(card.to_dict()))["rejected"] == {"short": 3}


def test_the_page_shows_hostile_texts_as_texts(tmp_path):
    hostile = [entry(f"Write {HOSTILE}{number}", HOSTILE) for number in (1, 1)]
    card = report_card(
        [*ENTRIES, *hostile], title=HOSTILE, test=[entry(f"Write {HOSTILE}1", HOSTILE)], rejected={HOSTILE: 3}
    )
    write_card(card, tmp_path / "card.html")
    source = (tmp_path / "card.html").read_text(encoding="utf-8")
    page = Page(source)
    assert not page.tags & {"script", "b", "link", "img"}
    assert not page.attributes & {"onclick", "src", "style", "href"}
    assert page.text.count(HOSTILE) >= 5  # title twice, reason, duplicates, matches
    assert "default-src 'none'" in source and "{{" not in source
    assert "写" in page.text and "诗" in page.text


def test_a_card_of_one_entry_has_a_page(tmp_path):
    write_card(report_card([entry("", "")]), tmp_path / "card.html")
    text = Page((tmp_path / "card.html").read_text(encoding="utf-8")).text
    assert "There are none." in text and "empty" in text


@pytest.mark.parametrize("values", [[0], [7], [0, 1, 1, 2], list(range(500)), [3] * 99 + [10**6], [10**9, 10**9]])
def test_histograms_hold_every_text(values):
    found = measure_lengths(values)
    assert sum(found.counts) == len(values) and len(found.edges) == len(found.counts) <= 21
    for place, (edge, count) in enumerate(zip(found.edges, found.counts)):
        after = found.edges[place + 1] if place + 1 < len(found.edges) else float("inf")
        assert count == sum(edge <= value < after for value in values)
    assert found.percentiles[50] == np.median(values)
    assert re.fullmatch("[125]0*", str(found.edges[1] - found.edges[0])) if len(found.edges) > 1 else True


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="entries must not be empty"):
        report_card([])
    with pytest.raises(ValueError, match="entry 1 has no 'output'"):
        report_card([{"instruction": "a"}])
    with pytest.raises(ValueError, match=r"threshold must be a number in \[0, 1\], got 3"):
        report_card(ENTRIES, near=3)
    with pytest.raises(ValueError, match="embeddings"):
        report_card(ENTRIES, embeddings=[[1.0]])
    with pytest.raises(ValueError, match="about 1 entries, the card about 7"):
        report_card(ENTRIES, test=contaminated(ENTRIES[:1], ENTRIES))
    with pytest.raises(ValueError, match=r"must hold \(index, reason\), got \[3\]"):
        report_card(ENTRIES, rejected=[3])
    with pytest.raises(ValueError, match="must be reason -> how many"):
        report_card(ENTRIES, rejected={"a": "b"})
    with pytest.raises(ValueError, match="no lengths to measure"):
        measure_lengths([])
