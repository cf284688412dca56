import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from judge_server import JudgeServer, status

from gptlab.servers import Cached, NotRecorded, OllamaServer, Recorded, Reply, Scripted, ServerError, cache


def user(text):
    return [{"role": "user", "content": text}]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "replies.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# ---- Cached


def test_what_was_asked_once_is_not_asked_again(path):
    server = Scripted([Reply("八十五", "length"), "20"])
    cached = Cached(server, path)
    for _ in range(2):
        reply = cached(user("这个回答怎么样？"))
        assert (reply, reply.reason) == ("八十五", "length")
    assert (server.calls, cached.hits) == (1, 1)
    assert cached(user("And this?")) == "20"


def test_another_run_asks_nothing(path):
    first = Cached(Scripted(["85", Reply("20", "length")]), path)
    said = [first(user(text)) for text in ("一", "二")]
    server = Scripted([])
    again = Cached(server, path)
    replies = [again(user(text)) for text in ("一", "二")]
    assert replies == said
    assert [reply.reason for reply in replies] == ["stop", "length"]
    assert server.calls == 0


def test_a_line_says_who_was_asked_what(path):
    server = Scripted(["优秀"])
    Cached(server, path)(user("好吗？"))
    [line] = lines(path)
    assert line.pop("time") >= 0
    assert line == {
        "key": cache.key_of(server.identity, user("好吗？")),
        "server": server.identity,
        "messages": user("好吗？"),
        "reply": "优秀",
        "reason": "stop",
    }
    assert "好吗？" in path.read_text(encoding="utf-8")  # a class can read it


def test_another_server_and_another_option_are_asked_anew(path):
    with JudgeServer() as judge:
        for options in ({}, {"seed": 1}, {"num_ctx": 4096}, {"think": None}, {"timeout": 9}, {"temperature": 0}):
            with OllamaServer("phi3", judge.url, **options) as server:
                Cached(server, path)(user("?"))
        assert len(judge.asked) == 4  # a time-out changes no reply, and 0 is 0.0
    assert len({line["key"] for line in lines(path)}) == 4


def test_the_key_does_not_depend_on_the_order_of_an_identity():
    one, other = {"kind": "a", "model": "b"}, {"model": "b", "kind": "a"}
    assert cache.key_of(one, user("?")) == cache.key_of(other, user("?"))
    assert cache.key_of(one, user("?")) != cache.key_of(one, user("!"))


def test_failures_are_not_kept(path):
    cached = Cached(Scripted([ServerError("busy"), "85"]), path)
    with pytest.raises(ServerError, match="busy"):
        cached(user("?"))
    assert lines(path) == []
    assert cached(user("?")) == "85"


def test_a_function_needs_a_name(path):
    with pytest.raises(ValueError, match="needs a name"):
        Cached(lambda messages: "85", path)
    cached = Cached(lambda messages: messages[-1]["content"] + "!", path, name="shouting")
    assert cached(user("好")) == "好!"
    with pytest.raises(ValueError, match="last message must be the user's"):
        cached(user(" "))
    assert (cached.name, lines(path)[0]["server"]) == ("shouting", {"kind": "function", "model": "shouting"})


def test_closing_closes_what_can_be_closed(path):
    Cached(Scripted([]), path).close()
    with JudgeServer() as judge:
        cached = Cached(OllamaServer("phi3", judge.url), path)
        cached.close()
        with pytest.raises(RuntimeError, match="closed"):
            cached(user("?"))


def test_two_threads_that_ask_the_same_ask_once(path):
    together = threading.Barrier(2)

    def slow(text):
        time.sleep(0.05)
        return f"{text} {server.calls}"

    server = Scripted(slow)
    cached = Cached(server, path)

    def ask(_):
        together.wait()
        return cached(user("?"))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask, range(2))) == ["? 1", "? 1"]
    assert server.calls == len(lines(path)) == 1


def test_different_questions_do_not_wait_for_one_another(path):
    """Each waits until the other is asked too; one after the other, they would wait for ever."""
    together = threading.Barrier(2, timeout=5)

    def meet(text):
        together.wait()
        return text

    cached = Cached(Scripted(meet), path)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda text: cached(user(text)), ("一", "二"))) == ["一", "二"]


def test_when_the_first_of_two_threads_fails_the_second_asks(path):
    replies = iter([ServerError("busy"), "85"])

    def slow(text):
        time.sleep(0.05)
        return next(replies)

    cached = Cached(Scripted(slow), path)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(cached, user("?")) for _ in range(2)]
        assert sorted(str(one.exception() or one.result()) for one in asked) == ["85", "busy"]


def test_eight_threads_write_whole_lines(path):
    cached = Cached(Scripted(lambda text: text * 100), path)
    texts = [f"问{number % 50}" for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: cached(user(text)), texts))
    assert len(lines(path)) == 50


# ---- a run that was interrupted, and goes on writing while the next one begins


def test_threads_that_still_write_wait_until_the_next_run_has_opened_the_file(path, monkeypatch):
    old = Cached(Scripted({"一": "85", "二": "20"}), path)
    old(user("一"))
    path.write_bytes(path.read_bytes() + b'{"key": "')  # so that opening has something to cut off
    lines_of, late = cache._lines, threading.Thread(target=old, args=(user("二"),))

    def slow(*read):
        late.start()
        late.join(0.2)
        return lines_of(*read)

    monkeypatch.setattr(cache, "_lines", slow)
    Cached(Scripted([]), path)
    late.join()
    assert [line["reply"] for line in lines(path)] == ["85", "20"]


def test_opening_a_whole_file_writes_nothing(path):
    """Another program may be writing to it."""
    Cached(Scripted(["85"]), path)(user("一"))
    os.utime(path, (0, 0))
    again = Cached(Scripted([]), path)
    assert path.stat().st_mtime == 0
    assert again(user("一")) == "85"


# ---- a run that was killed

ASKING = """
import sys
from concurrent.futures import ThreadPoolExecutor
from gptlab.servers import Cached, OllamaServer
path, url = sys.argv[1:]
cached = Cached(OllamaServer("phi3", url, timeout=5), path)
questions = [[{"role": "user", "content": f"问题 {number}"}] for number in range(60)]
with ThreadPoolExecutor(4) as pool:
    replies = list(pool.map(cached, questions))
print(len(replies))
"""


def test_a_killed_run_loses_nothing_and_asks_nothing_twice(path):
    with JudgeServer(lambda question: f"{question} 好", delay=0.01) as judge:
        command = [sys.executable, "-c", ASKING, str(path), judge.url]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as run:
            give_up = time.monotonic() + 30
            while not (path.exists() and path.read_bytes().count(b"\n") >= 10) and time.monotonic() < give_up:
                time.sleep(0.002)
            os.kill(run.pid, signal.SIGKILL)
        recorded = {line["messages"][0]["content"] for line in lines(path)}
        assert 10 <= len(recorded) < 60
        done = subprocess.run(command, capture_output=True, check=True, text=True)
        assert done.stdout == "60\n"
        asked = Counter(judge.asked)
    questions = {f"问题 {number}" for number in range(60)}
    assert {line["messages"][0]["content"]: line["reply"] for line in lines(path)} == {
        question: f"{question} 好" for question in questions
    }
    assert len(lines(path)) == 60
    assert all(asked[question] == 1 for question in recorded)
    assert set(asked) == questions


def test_a_last_line_that_was_cut_off_is_asked_again(path):
    cached = Cached(Scripted(["85", "二十"]), path)
    for text in ("一", "二"):
        cached(user(text))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in (first, first + 1, first + 9, first + 100, len(whole) - 5, len(whole) - 2):
        path.write_bytes(whole[:length])
        server = Scripted({"二": "20"})
        again = Cached(server, path)
        assert path.read_bytes() == whole[:first]
        assert [again(user(text)) for text in ("一", "二")] == ["85", "20"]
        assert server.calls == 1
        assert len(lines(path)) == 2


def test_a_last_line_without_its_end_is_kept(path):
    Cached(Scripted(["85"]), path)(user("一"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    again = Cached(Scripted(["20"]), path)
    assert [again(user(text)) for text in ("一", "二")] == ["85", "20"]
    assert len(lines(path)) == 2


def test_what_editors_do_to_a_file_does_no_harm(path):
    Cached(Scripted(["85"]), path)(user("一"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert Recorded(path)(user("一")) == "85"
    again = Cached(Scripted(["20"]), path)
    assert [again(user(text)) for text in ("一", "二")] == ["85", "20"]


# ---- files that are something else


@pytest.mark.parametrize(
    "content",
    [
        b'[{"instruction": "x", "output": "y"}]',
        b'{"key": "value"}\n',
        b"notes of mine",
        b"\x89PNG\r\n",
        b"85\n",
        b'{"instruction": "x"}\n{"key": "',
        b'{"key": "a", "server": {}, "messages": [], "reply": 85, "reason": "stop"}\n',
    ],
)
@pytest.mark.parametrize("opened", [lambda path: Cached(Scripted([]), path), Recorded], ids=["cached", "recorded"])
def test_a_file_of_another_format_is_refused_and_left_as_it_is(tmp_path, content, opened):
    path = tmp_path / "somebodys.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"somebodys.json is no file of recorded replies: line 1 is b"):
        opened(path)
    assert path.read_bytes() == content


def test_a_broken_line_in_the_middle_is_told_and_not_cut_off(path):
    Cached(Scripted(["85"]), path)(user("一"))
    content = path.read_bytes()
    path.write_bytes(content + content[:50] + b"\n" + content)
    with pytest.raises(ValueError, match="line 2 is b"):
        Cached(Scripted([]), path)
    assert len(path.read_bytes()) > 2 * len(content)


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match="cannot write to .*file/replies.jsonl"):
        Cached(Scripted([]), tmp_path / "file" / "replies.jsonl")
    with pytest.raises(IsADirectoryError, match=f"cannot write to {tmp_path}"):
        Cached(Scripted([]), tmp_path)


def test_a_full_disk_is_told_and_no_half_line_stays(path):
    resource = pytest.importorskip("resource")
    cached = Cached(Scripted(["85", "20", "30"]), path)
    cached(user("一"))
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, limits[1]))
    try:
        with pytest.raises(ServerError, match=f"cannot write to {path}: the disk is full") as caught:
            cached(user("二"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.fatal
    assert path.read_bytes() == before
    assert cached(user("二")) == "30"


# ---- Recorded


def record(path, server, *texts):
    cached = Cached(server, path)
    for text in texts:
        cached(user(text))


def test_a_class_works_from_the_file_alone(path):
    with JudgeServer(lambda question: f"{question} 85") as judge, OllamaServer("phi3", judge.url) as server:
        record(path, server, "一", "二")
        identity = server.identity
    recorded = Recorded(path)
    assert recorded(user("二")) == "二 85"
    assert (recorded.name, recorded.identity) == ("phi3", identity)


def test_what_was_not_recorded_is_named(path):
    record(path, Scripted(["85"]), "一")
    with pytest.raises(NotRecorded, match=r"holds 1 replies of scripted, but none to '给定输入 x+\.\.\.'") as caught:
        Recorded(path)(user("给定输入\n" + "x" * 200))
    assert caught.value.fatal
    assert len(str(caught.value)) < 300 + len(str(path))


def test_of_several_servers_one_is_chosen(path):
    with JudgeServer("85") as judge:
        for model, options in (("phi3", {}), ("llama3", {}), ("llama3", {"seed": 1})):
            with OllamaServer(model, judge.url, **options) as server:
                record(path, server, "一")
                last = server.identity
    record(path, Scripted(["20"], name="phi3"), "一")
    there = "server='ollama' model='phi3', server='ollama' model='llama3', server='scripted' model='phi3'"
    with pytest.raises(ValueError, match=f"several servers; choose one by server= or model=; it has {there}$"):
        Recorded(path)
    with pytest.raises(ValueError, match="several servers"):
        Recorded(path, model="phi3")
    assert Recorded(path, server="scripted")(user("一")) == "20"
    assert Recorded(path, server="ollama", model="phi3")(user("一")) == "85"
    assert Recorded(path, server={"options": last["options"]}).identity == last
    with pytest.raises(NotRecorded, match="holds 1 replies of llama3"):
        Recorded(path, server={"options": last["options"]})(user("二"))
    with pytest.raises(ValueError, match="no replies of {'model': 'qwen'}; it has .*phi3"):
        Recorded(path, model="qwen")


def test_one_model_with_several_settings_is_looked_up_in_all_of_them(path):
    with JudgeServer(lambda question: f"{question} {len(judge.asked)}") as judge:
        for num_ctx, texts in ((2048, "一二"), (4096, "二三"), (2048, "四")):
            with OllamaServer("phi3", judge.url, num_ctx=num_ctx) as server:
                record(path, server, *texts)
    recorded = Recorded(path, server="ollama", model="phi3")
    assert [recorded(user(text)) for text in "一二三四"] == ["一 1", "二 3", "三 4", "四 5"]  # the last of two
    assert recorded.identity["options"]["num_ctx"] == 2048
    with pytest.raises(NotRecorded, match="holds 4 replies of phi3, but none to '五'"):
        recorded(user("五"))


def test_a_recorded_file_that_is_not_there_or_empty(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*nowhere"):
        Recorded(tmp_path / "nowhere.jsonl")
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="no replies of anybody; it has nothing"):
        Recorded(tmp_path / "empty.jsonl")
    with pytest.raises(IsADirectoryError, match="is a directory, not a file of replies"):
        Recorded(tmp_path)


def test_a_recorded_file_is_only_read(path):
    record(path, Scripted(["85"]), "一")
    path.write_bytes(path.read_bytes() + b'{"key": "')
    before = path.read_bytes()
    assert Recorded(path)(user("一")) == "85"
    assert path.read_bytes() == before


def test_a_failing_server_is_asked_again_by_the_next_run(path, naps):
    with JudgeServer("85", faults=[status(500)]) as judge:
        for _ in range(2):
            with OllamaServer("phi3", judge.url, retries=0, sleep=naps.append) as server:
                cached = Cached(server, path)
                try:
                    replies = [cached(user("?"))]
                except ServerError:
                    replies = []
        assert replies == ["85"]
        assert len(judge.asked) == 2
