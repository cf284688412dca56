import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from gptlab.servers import Reply, Scripted, ServerError


def ask(server, text="How good is it?"):
    return server([{"role": "system", "content": "Be strict."}, {"role": "user", "content": text}])


def test_a_list_is_said_in_order():
    server = Scripted(["八十五", Reply("2", "length")])
    assert (ask(server), ask(server)) == ("八十五", "2")
    assert server.calls == 2
    assert server.asked[0][0] == {"role": "system", "content": "Be strict."}


def test_a_reply_keeps_how_it_ended():
    assert ask(Scripted([Reply("2", "length")])).reason == "length"


def test_an_exception_in_the_list_is_raised():
    server = Scripted([ServerError("busy"), "85"])
    with pytest.raises(ServerError, match="busy"):
        ask(server)
    assert ask(server) == "85"


def test_a_mapping_and_a_function_look_at_the_last_message():
    assert ask(Scripted({"好吗？": "90"}), "好吗？") == "90"
    assert ask(Scripted(str.upper), "good") == "GOOD"
    with pytest.raises(KeyboardInterrupt):
        ask(Scripted({"stop": KeyboardInterrupt()}), "stop")


def test_running_out_is_an_error_and_nothing_else_need_be_asked():
    server = Scripted(["85"])
    ask(server)
    with pytest.raises(ServerError, match="scripted has 1 replies and was asked once more") as caught:
        ask(server)
    assert caught.value.fatal


def test_a_question_that_is_not_in_the_mapping():
    with pytest.raises(ServerError, match="judge has no reply to 'And this\\?'") as caught:
        ask(Scripted({}, name="judge"), "And this?")
    assert not caught.value.fatal


def test_eight_threads_get_each_reply_once():
    class Slow(list):
        def append(self, messages):
            super().append(messages)
            time.sleep(0.001)

    server = Scripted([str(number) for number in range(40)])
    server.asked = Slow()
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: ask(server), range(40)))
    assert sorted(map(int, replies)) == list(range(40))


def test_an_empty_reply_is_a_failure_as_with_any_server():
    with pytest.raises(ServerError, match="scripted sent an empty reply"):
        ask(Scripted([""]))


@pytest.mark.parametrize("replies", ["85", 85, None])
def test_what_is_no_script(replies):
    with pytest.raises(TypeError, match=f"got {replies!r}"):
        Scripted(replies)
