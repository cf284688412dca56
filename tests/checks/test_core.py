import threading

import pytest
import torch

import gptlab
from gptlab.checks import names, run
from gptlab.checks.core import Mistake, close, expect_tensor


def test_a_result_is_one_line_with_a_hint_below():
    result = gptlab.check("attention.shapes", lambda B, T, H, head_dim: (B, T, T, H))
    assert repr(result).splitlines() == [
        "failed       attention.shapes: the shape of the scores",
        "             the heads come before the tokens, so that each head has a matrix of its own",
    ]
    assert gptlab.check("attention.shapes", lambda B, T, H, head_dim: (B, H, T, T)).status == "passed"


def test_an_unknown_name_gets_similar_ones():
    with pytest.raises(ValueError, match=r"no check 'attention.causal'; did you mean attention.causal_"):
        gptlab.check("attention.causal", print)
    with pytest.raises(ValueError, match="did you mean .*attention.shapes"):
        gptlab.check("~", print)


def test_an_error_in_the_answer_names_the_readers_line():
    def broken(queries, keys):
        return queries @ keys  # shapes do not fit

    result = gptlab.check("attention.weights", broken)
    assert result.status == "failed"
    assert "RuntimeError" in result.hint
    assert "return queries @ keys" in result.hint


def test_an_answer_that_takes_other_arguments_is_told_so():
    result = gptlab.check("attention.weights", lambda: None)
    assert result.status == "failed"
    assert "takes 0 positional arguments but 2 were given" in result.hint


def test_checking_leaves_the_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    gptlab.check("attention.weights", lambda queries, keys: torch.rand(2, 5, 7))
    assert torch.equal(torch.rand(1), expected)


def test_tensors_are_looked_at_before_their_numbers():
    for got, hint in [
        (None, "`return`"),
        ([1.0], "should be a tensor"),
        (torch.ones(3), r"shape \(2,\), got \(3,\)"),
        (torch.tensor([1.0, torch.nan]), "NaN"),
    ]:
        with pytest.raises(Mistake, match=hint):
            expect_tensor(got, (2,))
    assert not close(torch.ones(2), torch.ones(3))


def test_a_file_of_exercises_is_checked_one_by_one(capsys):
    def right(B, T, H, head_dim):
        return (B, H, T, T)

    def later(queries, keys):
        raise NotImplementedError

    exercises = {"attention.shapes": right, "attention.weights": later}
    assert run(exercises, []) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 2 passed"
    assert run(exercises, ["attention.shapes"]) == 0
    with pytest.raises(SystemExit):
        run(exercises, ["attention.nothing"])
    assert "no exercise here is called attention.nothing" in capsys.readouterr().err
    assert len(names()) == len(set(names()))


def test_a_result_is_true_only_if_it_passed():
    def right(B, T, H, head_dim):
        return (B, H, T, T)

    def stub(B, T, H, head_dim):
        raise NotImplementedError

    assert gptlab.check("attention.shapes", right)
    assert not gptlab.check("attention.shapes", lambda B, T, H, head_dim: (B, T))
    assert not gptlab.check("attention.shapes", stub)


def test_an_answer_without_end_is_given_up(monkeypatch):
    """The thread that is left behind ends with the test."""
    monkeypatch.setattr("gptlab.checks.core._PATIENCE", 0.2)
    ended = threading.Event()

    def endless(B, T, H, head_dim):
        ended.wait()
        return (B, H, T, T)

    result = gptlab.check("attention.shapes", endless)
    ended.set()
    assert result.status == "failed"
    assert result.hint == "no end after 0.2 seconds: does every way through each loop move on?"


def test_what_is_no_function_and_no_name_is_told_so():
    assert "without calling it; got tuple of 2" in gptlab.check("attention.shapes", (1, 2)).hint
    assert "got 5 (int)" in gptlab.check("attention.shapes", 5).hint
    assert "got a tensor of shape (3,)" in gptlab.check("attention.shapes", torch.ones(3)).hint
    with pytest.raises(TypeError, match="the first argument is the name of a check"):
        gptlab.check(print, "attention.shapes")


def test_ctrl_c_ends_with_one_line(capsys):
    def interrupted(queries, keys):
        raise AssertionError("never called")

    class Interrupting(dict):
        def __getitem__(self, name):
            raise KeyboardInterrupt

    assert run(Interrupting({"attention.weights": interrupted}), []) == 130
    assert capsys.readouterr().err == "stopped while attention.weights was checked\n"
