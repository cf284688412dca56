"""Replies as judges write them, and replies that a lenient parser takes for something else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptlab.judging.parsing import LONGEST_ANSWER, parse_score, parse_verdict

SCORES = {  # all of them 85
    "bare": ["85", " 85\n", "085", "85.", "85。", "85.0", "85%", "85 points", "８５", "\ufeff85"],
    "dressed": ["**85**", "__85__", "`85`", '"85"', "“85”", "[[85]]", "(85)", "【85】", r"\boxed{85}", r"$\boxed{85}$"],
    "of a hundred": ["85/100", "85 / 100", "85/100.", "85 out of 100", "85 of 100", "85 points out of 100"],
    "of a hundred, said before": ["85 (out of 100)", "(0-100) 85", "85分（满分100分）", "百分制评分：85"],
    "labelled": [
        "Score: 85",
        "score = 85",
        "**Score:** 85",
        "Score - 85",
        "SCORE：８５",
        "Rating: [[85]]",
        "| Score | 85 |",
    ],
    "labelled below": [
        "Score:\n85",
        "## Score\n\n**85**",
        "Score:\n- 85",
        "<score>85</score>",
        "<score>\n85\n</score>",
    ],
    "with a scale": [
        "Score (0-100): 85",
        "Score (out of 100): 85",
        "Score: 85/100 (100 is the best)",
        "Score: 85 (0-100)",
    ],
    "sentences": [
        "The score is 85.",
        "My score for the model response is 85, because it is right.",
        "The model response's score is 85 on a scale of 0 to 100.",
        "I'd give this response a score of 85.",
        "I’d rate it an 85.",
        "I would give it 85 since it names 3 of 4 planets.",
        "A score of 85 seems fair.",
        "On a scale from 0 to 100 I give 85",
        "On a scale from 0 to 100, where 100 is the best score, I would score the response 85.",
        "The model response `It is 3.` is nearly right: 85 out of 100.",
        "The best score is 100. Score: 85",
    ],
    "behind what is said of something else": [
        "I would not give it a score of 100. Score: 85",
        "Score: 85\n\nThe response isn't complete.",
        "得分：85。如果更完整，可得90分",
        "不错的回答，我给85分",
        '{"reason": "It does not name all", "score": 85}',
        '{\n  "reason": "not 3 of 4 planets, if any",\n  "score": 85\n}',
    ],
    "the score should be": ["The score should be 85.", "I think the score should be 85"],
    "the only number, opening the reply": [
        "85, because it is right",
        "85分，因为很好。",
        "85 - good",
        "85 – good",
        "85 (good)",
    ],
    "labelled by another word for a score": [
        "Grade: 85",
        "Final grade: 85",
        "**Overall:** 85",
        "Accuracy: 90\nFluency: 80\nOverall: 85",
        "| Criterion | Score |\n|---|---|\n| Overall | 85 |",
        "评分结果：85",
    ],
    "with a scale before, or a unit": ["Score from 0 to 100: 85", "Score: 85 pts", "85 pts"],
    "as a formula": ["$85$", "$$85$$", "Score: $85$"],
    "bold parts": ["**85** out of **100**", "**Score**: **85**/**100**"],
    "with a leaked end": [
        "85<|end|>",
        "85</s>",
        "85<|im_end|>",
        "85<|eot_id|>",
        "Score: 85 <|end|>\n</s>\n",
        "85<end_of_turn>",
        "85<｜end▁of▁sentence｜>",
    ],
    "gets": ["可得85分", "应得85分", "该回答可以得85分。", "扣15分，得85分"],
    "a last clause of points": ["回答错误，85分。", "回答正确,85分"],
    "with reasons around": [
        "85\n\nThe response names 3 of 4 planets, and 100 would be too much.",
        "It names 3 of 4 planets.\n\n85",
        "It names 3 of 4 planets.\n\n85.",
        "Score: 85\n2 errors",
        "Score: 85. I repeat: 85/100",
        "1. It is short.\n2. It is right.\nScore: 85",
    ],
    "JSON": ['{"score": 85}', '{"score": "85"}', '{"max_score": 100, "score": 85}', '{\n  "score": 85,\n  "of": 3\n}'],
    "fenced": ['```json\n{"score": 85}\n```', "```\n85\n```", "```85```"],
    "thinking": ["<think>Is it 40? Score: 20.</think>85", "Score: 20</think>\n\n85", "85<think>or 20?"],
    "thinking by other names": [
        *(f"<{name}>score: 40</{name}>85" for name in ("thinking", "thought", "reasoning", "reflection")),
        "score: 40</Thinking>\n85",
        "85<reasoning>score: 40",
        "<score>85</score><reasoning>score: 40</reasoning>",
        "<think>score: 40</reflection>85",
    ],
    "Chinese": [
        "评分：85",
        "85分",
        "85 分。",
        "得分: 85分。",
        "分数是85，因为……",
        "打分：85/100",
        "评分为 **85** 分",
        "总分：85",
    ],
    "Chinese sentences": [
        "我给这个回答打 85 分，因为它很好。",
        "我会给出85分",
        "在0到100分的范围内，我给85分。",
        "满分100分，我给85分。",
        "该回答的得分为：85 分（满分 100 分）",
        "最高得分100，评分：85",
        "列出了3个例子，用了5分钟。\n评分：85",
    ],
}

NO_SCORES = {
    "nothing": [
        "",
        " \n",
        "no",
        "N/A",
        "Score: N/A",
        "**",
        "<think>85</think>",
        "<think>Score: 85",
        "I cannot judge this.",
    ],
    "not from 0 to 100": [
        "-5",
        "−5",
        "850",
        "101",
        "1e2",
        "1,000",
        "+85",
        "Score: -5",
        "Score: 850",
        "-85/100",
        "评分：850",
    ],
    "not whole": [
        "85.5",
        "8.5",
        "Score: 85.5",
        "85.5/100",
        "85,5",
        ".85",
        "Score: .85",
        ".8/100",
        '{"score": 85.5}',
        "评分：85.5分",
    ],
    "not of a hundred": ["8/10", "8 out of 10", "Score: 8/10", "Score: 85 out of 1000", "4/5 stars", "I give it 8/10."],
    "on another scale": [
        "On a scale of 1 to 10, I give it 8.",
        "Score (1-10): 8",
        "满分10分，评分：8",
        "10分制，评分：8",
    ],
    "on a scale that ends elsewhere, behind the number": [
        "Score: 8 (out of 10)",
        "Score: 8 (0-10)",
        "Score: 8 (max 10)",
        "Score: 8 (on a 10-point scale)",
        "The score is 8 on a scale from 0 to 10.",
        "I'd rate this a 4 on a 5-point scale.",
        "Score: 8\nMax: 10",
        "I would score this 8 on a 10 point scale.",
        "Score: 8 on a scale of ten",
        "Score: 8, 10 is the best",
        "Score: 8 [0, 10]",
        "Score: 8 | 10",
        "评分：4（1-5）",
        "评分：4（五分制）",
        "Score: 85 (between 0 and 1000)",
        "**85**/**90**",
        "Score: 8, out of ten",
        "Score: 8 of 10",
        "17/20 = 85/100",
        "The score is 85%, i.e. 8.5/10.",
    ],
    "on a scale that ends elsewhere, before the number": [
        "On a scale from 0 to 10, I give 8.",
        "On a scale from 1 to 5, I rate it 4.",
        "从0到10分打分：8分",
        "0到10分，我给8分",
        "在10分中我给8分",
        "满分是10，我给8分",
        "The maximum score is 10. Score: 8",
    ],
    "negated": [
        "I cannot give a score of 100, but 60.",
        "I would not score this 100.",
        "It is not 100/100.",
        "It isn’t a score of 100.",
        "It never deserves a score of 100.",
        "A score of 100 is not deserved.",
        "A score of 50 is too low.",
        "我不会给100分",
        "无法给出100分",
        "没给100分",
        "给100分不合适",
    ],
    "supposed": [
        "If it were complete, I would give it a score of 100.",
        "I would give it a score of 100 if it were complete.",
        "If it were complete,\nI would give it a score of 100.",
        "Without the error it would score 100.",
        "Unless I err, score: 100",
        "A perfect response would have a score of 100.",
        "The best is 100/100.",
        "如果正确，我会给100分",
        "若正确，我会给100分",
        "假如正确，我会给100分",
        "改正后可得100分",
        "最多可得85分",
    ],
    "two numbers behind one word": [
        "Score: 85 -> 75",
        "Score: 85;75",
        "Score: 85, or 75",
        "Score: 85 → 75",
        "Score: 85, then 75",
        "Score: 85 * 1",
    ],
    "one clause, of several numbers or of something else": [
        "准确性好，40分，完整性差，45分",
        "不完整，扣5分",
        "错了一处扣，5分",
        "85 (was 75)",
        "850 (good)",
        "5-star response",
        "1 - It is short.\n2 - It is right.",
        "grade 5 pupils",
        "Overall 3 facts are wrong.",
        "$5",
        "Grade: 3 of 4",
    ],
    "more than one turn": [
        "<|channel|>analysis<|message|>score: 40<|end|><|start|>assistant<|channel|>final<|message|>85",
        "85<|im_end|>score: 40",
    ],
    "not one number": [
        "between 80 and 90",
        "80-90",
        "80 to 90",
        "Score: 80-90",
        "Score: 80~90",
        "评分：80到90",
        "85 or 90",
    ],
    "only near": ["about 85", "Score: ~85", "85+", ">85", "around 85", "I would rate this a solid 85."],
    "contradictory": [
        "score: 85 ... score: 20",
        "Score: 85 and score: 20",
        "85\n20",
        "85\n\nScore: 20",
        "Score: 850\nScore: 85",
        "60/100, no, 70/100",
        "Accuracy score: 90\nStyle score: 70",
        '{"score": 85, "score": 20}',
        "评分：85。评分：20",
    ],
    "numbers of something else": [
        "100 is the best, but this one is bad",
        "The response names 3 of 4 planets.",
        "It found 85 of 100 words.",
        "3 facts are wrong.",
        "Score: 4 stars",
        "1.\nThe response is short.",
        "Score:\n1. It is right.\n2. It is short.",
        "9 times 5 gives 45.",
        "The model gives 45, which is wrong.",
        "The correct answer is 42.",
        "The interest rate is 5%.",
        "The best score is 100.",
        "0 to 100",
        "给出了3个例子",
        "用了3分钟",
        "扣5分",
    ],
    "in words, or in digits that few read": ["eighty-five", "八十五分", "满分", "٨٥", "½"],
}


def cases(table):
    return [pytest.param(reply, id=f"{kind}: {reply!r}") for kind, replies in table.items() for reply in replies]


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("回答不完整，评分：40", 40),
        ("The response is not complete, score: 0", 0),
        ("It is not worth 100, rating: 60", 60),
        ("如果回答完整，评分：100", None),
        ("I cannot say 100, or 90.", None),
    ],
)
def test_a_field_behind_a_negation_counts_and_one_that_is_only_supposed_does_not(reply, score):
    assert parse_score(reply) == score


@pytest.mark.parametrize("reply", cases(SCORES))
def test_a_score_is_found(reply):
    assert parse_score(reply) == 85


@pytest.mark.parametrize("reply", cases(NO_SCORES))
def test_what_is_no_score_is_none(reply):
    assert parse_score(reply) is None


def test_replies_from_the_source_and_the_specification():
    assert parse_score("I'd score this response as 0 out of 100.") == 0
    assert parse_score("I'd rate this model response as 60 out of 100.") == 60
    assert parse_score("100") == 100


def test_a_full_score_and_none_at_all_in_chinese():
    assert parse_score("得满分100分") == parse_score("回答完全正确，100分。") == 100
    assert parse_score("回答错误，0分。") == 0


@given(
    st.integers(-200, 2_000), st.sampled_from(["{}", "**{}**", "{}/100", "Score: {}", '{{"score": {}}}', "评分：{}分"])
)
def test_a_number_is_a_score_from_0_to_100_and_nothing_else(number, form):
    assert parse_score(form.format(number)) == (number if 0 <= number <= 100 else None)


PIECES = [
    *"0185/-.,:\n*`(",
    " ",
    "out of 100",
    "score",
    "Score: ",
    "I give",
    "100",
    "分",
    "评分：",
    "to",
    "<think>",
    "</think>",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_a_score_is_never_made_up(reply):
    score = parse_score(reply)
    assert score is None or (0 <= score <= 100 and str(score) in reply)


def test_an_answer_has_a_longest_length_and_thinking_has_none():
    reply = "Score: 85\n"
    assert parse_score(reply + "a" * (LONGEST_ANSWER - len(reply))) == 85
    assert parse_score(reply + "a" * (LONGEST_ANSWER - len(reply) + 1)) is None
    assert parse_score("20 " * LONGEST_ANSWER + "</think>85") == 85
    assert parse_verdict("[[A]]" + "a" * LONGEST_ANSWER) is None


@pytest.mark.parametrize(
    "piece",
    [
        "<think>",
        "</think>",
        "score ",
        "1",
        "1,",
        "五",
        "0 to ",
        "`",
        "给",
        "[[",
        "5 of ",
        "\n",
        "<|",
        "</s>",
        "max of ",
        "5 / ",
        ",\n",
        ", ",
        "score not ",
        "out of a ",
        "verdict:",
        "[[a]] [[b]]\n",
        "得 ",
        "**",
    ],
)
def test_replies_that_would_keep_a_careless_pattern_busy(piece):
    at_the_limit = piece * (LONGEST_ANSWER // len(piece))
    assert parse_score(at_the_limit) is None
    assert parse_score(piece * 1_000_000) is None
    assert parse_verdict(at_the_limit) is None


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("[[A]]", "A"),
        ("[[B]]\n", "B"),
        ("[[C]]", "tie"),
        ("[[Tie]]", "tie"),
        ("[[ a ]]", "A"),
        ("［［Ａ］］", "A"),
        ("【【B】】", "B"),
        ("Both are good. My verdict: **[[B]]**.", "B"),
        ("A", "A"),
        ("**B**", "B"),
        ("[C]", "tie"),
        ("tie.", "tie"),
        ("I may say [[A]], [[B]] or [[C]].\nA is wrong.\n[[B]]", "B"),
        ("<think>[[A]]</think>[[B]]", "B"),
        ("<think>A is better, so [[A]]", None),
        ("A is better.", None),
        ("[[A>B]]", None),
        ("[[D]]", None),
        ("A or B", None),
        ("两个回答都不错", None),
        ("第二个回答更好。[[B]]", "B"),
        ("", None),
        # what is best is named first, and a comparison names both
        ("[[A]] is better than [[B]].", None),
        ("[[B]] is better than [[A]]", None),
        ("[[A]]\n\nNote: [[A]] means that Response A is better than [[B]].", None),
        ("[[A]]\nIt is clearly better than\nthe other, that is: [[B]]", None),
        ("I will choose between [[A]], [[B]], [[C]].", None),
        ("[[A]] if A is better, [[B]] if B is better, [[C]] if neither is.", None),
        ("The verdict is [[A]], [[B]] or [[C]].", None),
        ("Verdict: [[A]]. Verdict: [[B]], perhaps", None),
        ("[[A]] is better than [[B]].\nVerdict: [[A]], for it is right, and [[B]] is not.", "A"),
        ("[[A]] is better than [[B]].\nVerdict: [[A]] for it is right, and [[B]] is not.", "A"),
        ("[[B]] is worse. [[A]]", "A"),
        # a letter behind a word for a verdict, which fills its line
        ("Final verdict: A", "A"),
        ("Verdict: **A**", "A"),
        ("My final verdict is B.\nIt is right.", "B"),
        ("结论：A", "A"),
        ("最终判断为：B。", "B"),
        ("判决：[[A]]", "A"),
        ("Verdict: A or B", None),
        ("Verdict: A is better", None),
        ("Verdict: A\nVerdict: B", None),
        # nothing but the letter
        (r"\boxed{A}", "A"),
        (r"$\boxed{B}$", "B"),
        ("A</s>", "A"),
        ("[[A]]<|im_end|>", "A"),
        ("<thinking>[[A]]</thinking>[[B]]", "B"),
    ],
)
def test_the_last_verdict_counts(reply, verdict):
    assert parse_verdict(reply) == verdict
