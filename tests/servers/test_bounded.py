import threading

import pytest
from judge_server import JudgeServer

from gptlab.servers import Bounded, BudgetSpent, Cached, OllamaServer, Scripted, ServerError, with_options

QUESTION = [{"role": "user", "content": "x" * 400}]  # a hundred tokens by the estimate


def test_the_call_beyond_the_bound_is_not_made():
    script = Scripted(lambda asked: "Yes.")
    bounded = Bounded(script, calls=2)
    assert [bounded(QUESTION), bounded(QUESTION)] == ["Yes.", "Yes."]
    with pytest.raises(BudgetSpent, match="asked 2 times, which is the bound") as error:
        bounded(QUESTION)
    assert error.value.fatal and script.calls == bounded.calls == 2


def test_a_failed_call_counts():
    bounded = Bounded(Scripted([ServerError("busy")]), calls=1)
    with pytest.raises(ServerError, match="busy"):
        bounded(QUESTION)
    with pytest.raises(BudgetSpent):
        bounded(QUESTION)


def test_what_is_spent_is_price_times_tokens():
    bounded = Bounded(Scripted(lambda asked: "y" * 200), price=(2.0, 8.0))
    bounded(QUESTION)
    assert bounded.spent == pytest.approx((100 * 2 + 50 * 8) / 1_000_000)
    words = Bounded(
        Scripted(lambda asked: "a b c"), price=(0.0, 1_000_000), count_tokens=lambda text: len(text.split())
    )
    words(QUESTION)
    assert words.spent == 3


def test_the_cost_ends_it_before_the_call_that_goes_beyond():
    bounded = Bounded(Scripted(lambda asked: "y" * 4), cost=0.00025, price=(1.0, 1.0))
    assert bounded(QUESTION) and bounded(QUESTION)
    with pytest.raises(BudgetSpent, match="0.000202 of 0.00025 is spent"):
        bounded(QUESTION)


def test_what_is_spent_to_the_last_penny_buys_no_free_question():
    script = Scripted(lambda asked: "y" * 4)
    with pytest.raises(BudgetSpent):
        Bounded(script, cost=0, price=(0.0, 1.0))(QUESTION)
    bounded = Bounded(script, cost=2.0, price=(0.0, 1_000_000))  # a reply is one token
    assert bounded(QUESTION) == bounded(QUESTION)
    with pytest.raises(BudgetSpent, match="2 of 2 is spent"):
        bounded(QUESTION)
    assert script.calls == 2


def test_chinese_is_counted_by_its_bytes():
    bounded = Bounded(Scripted(lambda asked: "好"), price=(1_000_000, 0.0))
    bounded([{"role": "user", "content": "猫坐在垫子上了吗"}])  # 8 characters, 24 bytes
    assert bounded.spent == 6


def test_no_thread_goes_beyond():
    script = Scripted(lambda asked: "Yes.")
    bounded, refused = Bounded(script, calls=20), []

    def ask():
        for _ in range(10):
            try:
                bounded(QUESTION)
            except BudgetSpent:
                refused.append(1)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert script.calls == bounded.calls == 20 and len(refused) == 20


def test_what_the_cache_holds_costs_nothing(tmp_path):
    bounded = Bounded(Scripted(lambda asked: "Yes."), calls=1)
    cached = Cached(bounded, tmp_path / "replies.jsonl")
    assert cached(QUESTION) == cached(QUESTION) == "Yes."
    assert bounded.calls == 1


def test_other_options_share_the_account(tmp_path):
    with JudgeServer("85") as judge, OllamaServer("phi3", judge.url) as server:
        bounded = Bounded(server, calls=3)
        cached = Cached(bounded, tmp_path / "replies.jsonl")
        warm = with_options(cached, temperature=0.7, max_tokens=64)
        assert cached(QUESTION) == warm(QUESTION) == warm(QUESTION) == "85"
        assert [request.body["options"]["temperature"] for request in judge.requests] == [0.0, 0.7]
        assert bounded.calls == 2 and cached.hits == warm.hits == 1
        assert warm.identity["options"]["num_predict"] == 64 and "num_predict" not in cached.identity["options"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"calls": -1}, "calls must be .* got -1"),
        ({"calls": 1.5}, "calls must be .* got 1.5"),
        ({"price": (1.0,)}, "price must be two numbers"),
        ({"price": 3}, "price must be two numbers .* got 3"),
        ({"price": (1.0, float("nan"))}, "price must be two numbers"),
        ({"cost": -1.0, "price": (1, 1)}, "cost must be .* got -1.0"),
        ({"cost": 1.0}, "a cost of 1.0 needs a price"),
    ],
)
def test_bounds_that_are_none(wrong, says):
    with pytest.raises(ValueError, match=says):
        Bounded(Scripted(["85"]), **wrong)
