"""Checks about instructions as text: the prompt of an entry, and the response in what a model wrote."""

from __future__ import annotations

from gptlab.checks.core import check_of, expect, expect_returned


@check_of("instruction.prompt", "an entry as a prompt")
def prompt(answer) -> None:
    full = {"instruction": "Sort.", "input": "3 1 2", "output": "1 2 3"}
    got = answer(dict(full))
    expect_returned(got)
    expect(isinstance(got, str), f"a prompt is text, got a {type(got).__name__}")
    expect("1 2 3" not in got, "the output is in the prompt: the model would only have to copy it")
    expect("Below is" not in got, "this is Alpaca's long form; `alpaca_short` has no sentence before the first heading")
    for part in ("### Instruction:\nSort.", "### Input:\n3 1 2", "### Response:"):
        expect(part in got, f"{part!r} is missing: each heading has a line of its own, and its text follows below")
    expect(got.endswith("### Response:\n"), f"the prompt should end with '### Response:\\n', got ...{got[-20:]!r}")
    expect(
        got == "### Instruction:\nSort.\n\n### Input:\n3 1 2\n\n### Response:\n",
        f"there should be one empty line between the parts, and nothing else; got {got!r}",
    )
    for empty in ({"instruction": "Sing.", "input": ""}, {"instruction": "Sing."}):
        try:
            got = answer(dict(empty))
        except KeyError:
            expect(False, "an entry may lack the key 'input'")
        expect("### Input" not in got, "an entry without an input should get no heading for it")
        expect(got == "### Instruction:\nSing.\n\n### Response:\n", f"without an input the prompt is {got!r}")
    braces = answer({"instruction": "What is {input}?", "input": "x", "output": ""})
    expect("What is {input}?" in braces, "a '{input}' that somebody wrote should stay as it is; do not replace it")


@check_of("instruction.extract", "the response in what a model wrote")
def extract(answer) -> None:
    prompt, response, end = [1, 2, 3, 2], [5, 2, 7], 0
    got = answer([*prompt, *response, end, 9, 9], 4, end)
    expect_returned(got)
    got = list(got)
    expect(got[: len(prompt)] != prompt, "the prompt is still there: the response begins after it")
    expect(end not in got, "end-of-text and what follows it do not belong to the response")
    expect(got == response, f"the response should be {response}, got {got}")
    got = list(answer([*prompt, *response, end, 9, end, end], 4, end))
    expect(got == response, "the response ends at the first end-of-text behind the prompt, not at a later one")
    try:
        got = list(answer([*prompt, *response], 4, end))
    except (ValueError, IndexError):
        got = None
    expect(got is not None, "a text without an end is an error: when the limit came first, all of it is the response")
    expect(got == response, f"without an end all that follows the prompt is the response, {response}, got {got}")
    got = list(answer([8, end, 8, *response, end], 3, end))
    expect(got == response, "an end-of-text inside the prompt ends nothing: cut the prompt off first, by its length")
