from collections import Counter

import pytest

from gptlab.data import build_reviews
from gptlab.data.reviews import COMPARED, NEGATED, NEGATIVE, PLAIN, POSITIVE

CONTRARY = {POSITIVE: NEGATIVE, NEGATIVE: POSITIVE}
OPINION_OF = dict.fromkeys(("good", "great", "lovely", "pleasant"), POSITIVE)
OPINION_OF |= dict.fromkeys(("bad", "poor", "awful", "dull"), NEGATIVE)
NEGATIONS = {"not", "far", "never", "nobody"}


@pytest.fixture(scope="module")
def reviews():
    return build_reviews(5)


def opinion_by_rule(clause):
    """What a clause says, worked out from its words: one word of opinion, turned around by a negation."""
    words = clause.lower().strip(".").split()
    [opinion] = [OPINION_OF[word] for word in words if word in OPINION_OF]
    return CONTRARY[opinion] if NEGATIONS & set(words) else opinion


def main_and_other(text):
    if ", but " in text:
        return text.split(", but ")[::-1]
    return text.split(", although ") if ", although " in text else [text]


def test_every_label_follows_from_its_text(reviews):
    for entry in reviews.train + reviews.test:
        main, *other = main_and_other(entry["text"])
        assert opinion_by_rule(main) == entry["label"]
        assert [opinion_by_rule(clause) for clause in other] == [CONTRARY[entry["label"]]] * len(other)
        assert (entry["kind"] == COMPARED) == bool(other)
        if not other:
            assert (entry["kind"] == NEGATED) == (
                not any(OPINION_OF.get(w.strip(".")) == entry["label"] for w in main.split())
            )


def test_no_text_is_there_twice(reviews):
    texts = [entry["text"] for entry in reviews.train + reviews.test]
    assert len(set(texts)) == len(texts) == 1500


def test_labels_are_balanced_and_every_kind_is_there(reviews):
    for part in (reviews.train, reviews.test):
        assert len(set(Counter(entry["label"] for entry in part).values())) == 1
        kinds = Counter(entry["kind"] for entry in part)
        assert set(kinds) == {PLAIN, NEGATED, COMPARED}
        assert min(kinds.values()) > len(part) / 6


def test_a_seed_gives_reviews(reviews):
    assert build_reviews(5) == reviews
    assert build_reviews(6).train != reviews.train
    small = build_reviews(5, train=11, test=4)
    assert (len(small.train), len(small.test)) == (11, 4)


@pytest.mark.parametrize(("train", "test"), [(1, 10), (10, 0)])
def test_impossible_numbers(train, test):
    with pytest.raises(ValueError, match=f"must be >= 2, got {train} and {test}"):
        build_reviews(train=train, test=test)


def test_more_than_there_are(monkeypatch):
    monkeypatch.setattr("gptlab.data.reviews._review", lambda label, rng: {"text": label, "label": label})
    with pytest.raises(ValueError, match="no more different reviews: 2 are written"):
        build_reviews(train=2, test=2)
