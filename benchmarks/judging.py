"""Judging: 1,000 entries scored by a server that takes 50 ms for an answer, and ROUGE-L against 20,000 instructions.

Run: python benchmarks/judging.py scores    one question at a time and eight, through Ollama's and OpenAI's own clients
     python benchmarks/judging.py rouge     one candidate against many references, beside rouge-score
The server is the tests' own, in a process of its own; it does nothing but wait.
"""

import re
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from gptlab.judging import score_responses
from gptlab.rouge import rouge_l
from gptlab.servers import OllamaServer, OpenAIServer

ROOT = Path(__file__).parent.parent
ENTRIES = [
    {"instruction": f"What is {number} + 1?", "output": str(number + 1), "model_response": str(number)}
    for number in range(1000)
]


@contextmanager
def slow_server(seconds: float):
    """Yield the address of a server that answers after so many seconds."""
    program = [sys.executable, str(ROOT / "tests" / "helpers" / "judge_server.py"), "--delay", str(seconds)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield re.search(r"http://\S+", process.stdout.readline())[0]
        finally:
            process.terminate()


def scores() -> None:
    """Time a whole run, its cache written to disk, and a second one that finds everything there."""
    with slow_server(0.05) as url, TemporaryDirectory() as folder:
        for make in (OllamaServer, OpenAIServer):
            for workers in (1, 8):
                entries = ENTRIES[: 125 * workers]
                for title in ("asked", "from the cache"):
                    server = make("phi3", url)
                    begin = time.perf_counter()
                    cache = Path(folder) / f"{make.__name__}{workers}.jsonl"
                    report = score_responses(entries, server, workers=workers, cache=cache)
                    seconds = time.perf_counter() - begin
                    server.close()
                    assert report.n_scored == len(entries), report
                    what = f"{len(entries):>5} entries, {workers} at a time, {title}"
                    print(f"{make.__name__:<14}{what:<45}{seconds:8.2f} s")


def rouge() -> None:
    """Time one candidate against 20,000 references."""
    from rouge_score.rouge_scorer import RougeScorer

    words = (ROOT / "README.md").read_text(encoding="utf-8").encode("ascii", "ignore").decode().split()
    references = [" ".join(words[start % 900 : start % 900 + 8 + start % 17]) for start in range(20_000)]
    candidate, scorer = " ".join(words[300:316]), RougeScorer(["rougeL"])
    ways = {
        "gptlab": lambda: [rouge_l(candidate, reference) for reference in references],
        "rouge-score": lambda: [scorer.score(reference, candidate)["rougeL"].fmeasure for reference in references],
    }
    assert ways["gptlab"]() == ways["rouge-score"]()
    for name, way in ways.items():
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            way()
            times.append(time.perf_counter() - begin)
        print(f"{name:<14} {1000 * statistics.median(times):8.0f} ms")


if __name__ == "__main__":
    {"scores": scores, "rouge": rouge}[sys.argv[1]]()
