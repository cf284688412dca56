"""The page of a judged set of responses: what the file holds, its logic in node, and the page itself in Chromium."""

import copy
import json
import random
import re
import shutil
import subprocess
from contextlib import contextmanager
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptlab.judging.page import _digest, _embedded, write_page
from gptlab.judging.pairwise import Pair, PairwiseReport
from gptlab.judging.scoring import Score, ScoreReport
from gptlab.judging.statistics import cohen_kappa

ASSETS = Path(str(resources.files("gptlab") / "assets" / "judging"))
ASSET_TEXTS = {path.name: path.read_text(encoding="utf-8") for path in ASSETS.iterdir()}
SCRIPTS = "".join(ASSET_TEXTS[name] for name in ("logic.js", "blind.js", "page.js"))
OUTCOMES = ("win", "tie", "loss")
NAMES = ("tuned.json", "few_shot.json")
EVIL = [
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "<!-- <script> ]]> {{script}} ${1} $& \\u003c",
    "line\u2028paragraph\u2029nul\x00bell\x07",
    "中文：今天的天气很好。",
    "البحر واسع (3 أمتار).",
    "👩‍👩‍👧 half \ud83d",
    "",
    "    def f():\n\t\treturn '\"'\n",
]


def score(value):
    if value is None:
        return Score(None, "unparsed", ("It is good.", "8/10"))
    return Score(value, "scored", (str(value),))


def pair(*verdicts, error=None):
    replies = [None if error and verdict is None else f"So be it. [[{verdict}]]" for verdict in verdicts]
    return Pair(verdicts, tuple(replies), error)


def make_report(count=12, texts=None):
    """Return a report with all its parts; entry n scores 7 n modulo 101, and 3 to 5 did not go well."""
    usual = [pair("A", "B"), pair("tie", "tie"), pair("B", "A")]
    strange = {3: pair(), 4: pair("A", "A"), 5: pair("A", None, error="HTTP 500")}
    numbers = range(1, count + 1)
    scores = [score(None if number == 3 else 7 * number % 101) for number in numbers]
    pairs = [strange.get(number, usual[number % 3]) for number in numbers]
    entries = [
        {
            "number": number,
            "instruction": f"Task {number}",
            "input": "",
            "output": "reference",
            "response": texts[number - 1] if texts else f"first response {number}",
            "against": f"second response {number}",
            "score": scores[number - 1].to_dict(),
            "score_against": score(50).to_dict(),
            "pair": pairs[number - 1].to_dict(),
        }
        for number in numbers
    ]
    return {
        "format": "gptlab-judging-1",
        "responses": NAMES[0],
        "against": NAMES[1],
        "judge": {"name": "phi3", "kind": "ollama"},
        "metrics": {"n": count, "rouge_l": 0.25, "perplexity": float("inf"), "ended_by": {"stop": 2}},
        "metrics_against": {"n": count, "rouge_l": 0.5},
        "scores": {"summary": ScoreReport(tuple(scores), "phi3").summary()},
        "scores_against": {"summary": ScoreReport((score(50),) * count, "phi3").summary()},
        "comparison": PairwiseReport(tuple(pairs), "phi3", 0.96).summary(),
        "entries": entries,
    }


def without(report, *names):
    """Return a report that never had some of its parts, in its entries neither."""
    lean = {name: value for name, value in copy.deepcopy(report).items() if name not in names}
    parts = {"scores": "score", "scores_against": "score_against", "comparison": "pair", "against": "against"}
    for entry in lean["entries"]:
        for name in names:
            entry.pop(parts.get(name), None)
    return lean


class Parts(HTMLParser):
    """The tags of a page, and the text of each script and style element in order."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.raw, self.inside = [], [], None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self.inside = tag
            self.raw.append("")

    def handle_endtag(self, tag):
        if tag == self.inside:
            self.inside = None

    def handle_data(self, data):
        if self.inside:
            self.raw[-1] += data


def test_the_page_loads_nothing_and_allows_no_other_script(tmp_path):
    write_page(make_report(), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    parts = Parts(page)
    assert [tag for tag, _ in parts.tags].count("script") == 3
    for tag, attributes in parts.tags:
        assert not {"src", "href", "srcset", "data", "action", "style"} & set(attributes), tag
        assert not [name for name in attributes if name.startswith("on")], tag
    assert not re.search(r"url\(|@import|https?://|\bfetch\(|XMLHttpRequest|innerHTML|\bimport\b", page)
    style, _, _, script = parts.raw
    [policy] = [a["content"] for _, a in parts.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert f"script-src '{_digest(script)}'" in policy
    assert f"style-src '{_digest(style)}'" in policy
    assert "{{" not in page.replace(script, "")


def test_every_text_comes_back_from_the_page(tmp_path):
    report = make_report(len(EVIL), EVIL)
    write_page(report, tmp_path / "page.html")
    embedded = Parts((tmp_path / "page.html").read_text(encoding="utf-8")).raw[1]
    report["metrics"]["perplexity"] = "inf"  # JSON has no such number
    assert json.loads(embedded) == report


@given(st.text(st.characters(exclude_categories=()) | st.sampled_from("<>&!-/script\u2028\ud83d")))
def test_embedded_json_is_json_without_markup(text):
    embedded = _embedded({"a": [text]})
    assert json.loads(embedded) == {"a": [text]}
    assert not re.search("[<\u2028\u2029\ud800-\udfff]", embedded)
    embedded.encode("utf-8")


def test_another_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'gptlab-judging-1', got 'gptlab-judging-9'"):
        write_page({"format": "gptlab-judging-9", "entries": []}, tmp_path / "page.html")
    with pytest.raises(ValueError, match="'gptlab-judging-1', got 'list'"):
        write_page([], tmp_path / "page.html")
    with pytest.raises(ValueError, match="list of entries, got dict"):
        write_page({"format": "gptlab-judging-1", "entries": {}}, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match=re.escape(str(tmp_path))):
        write_page(make_report(1), tmp_path)


def test_interface_words_are_there_in_both_languages_and_all_used():
    words = json.loads(ASSET_TEXTS["words.json"])
    code = ASSET_TEXTS["page.html"] + SCRIPTS
    used = set(re.findall(r'(?:say\(|mark\(|data-word=|data-label=)"(\w+)"', code))
    used |= {f"filter_{name}" for name in re.findall(r'data-filter="(\w+)"', code)}
    used |= {f"table_{outcome}" for outcome in OUTCOMES}
    assert used <= set(words)
    for name in set(words) - used:  # some are chosen by a condition, and those of numbers by the report
        assert name.startswith("stat ") or f'"{name}"' in code, f"{name} is not used"
    for name, both in words.items():
        assert set(both) == {"en", "zh"}, name
        slots = [sorted(re.findall(r"\{\w+\}", text)) for text in both.values()]
        assert slots[0] == slots[1], name


# The logic, in node.

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


@needs_node
def test_the_logic_in_node():
    script = Path(__file__).with_name("page_logic.mjs")
    done = subprocess.run(["node", "--test", str(script)], capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^# pass [1-9]", done.stdout, re.MULTILINE)


@needs_node
def test_kappa_is_that_of_statistics():
    draw = random.Random(0)
    cases = [[[draw.choice(OUTCOMES), draw.choice(OUTCOMES[: 1 + n % 3])] for _ in range(n)] for n in range(1, 60)]
    cases.append([["win", "win"]] * 7)
    program = (
        f"const {{ agreement }} = require({json.dumps(str(ASSETS / 'logic.js'))});"
        "const cases = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        "console.log(JSON.stringify(cases.map((pairs) => agreement(pairs).kappa)));"
    )
    done = subprocess.run(
        ["node", "-e", program], input=json.dumps(cases), capture_output=True, encoding="utf-8", check=True, timeout=120
    )
    expected = [cohen_kappa(*map(list, zip(*pairs))) for pairs in cases]
    assert json.loads(done.stdout) == expected
    assert len({kappa for kappa in expected if kappa is not None}) > 30


# The page itself, in Chromium.


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium; where it, its driver or selenium is missing, these tests are skipped."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip(f"{'chromedriver' if program else 'chromium'} is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    profile = tmp_path_factory.mktemp("profile")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--lang=en",
        "--window-size=1200,900",
    ):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


class Shown:
    """A page in the browser: parts by CSS selector, keys pressed, texts read."""

    def __init__(self, browser):
        self.browser = browser

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def one(self, selector):
        return self.browser.find_element("css selector", selector)

    def run(self, script, *values):
        return self.browser.execute_script(script, *values)

    def press(self, keys):
        self.browser.switch_to.active_element.send_keys(keys)

    def button(self, beginning):
        """Return the button in sight whose text begins so, or None."""
        buttons = "[...document.querySelectorAll('button')]"
        find = f"return {buttons}.find((one) => one.offsetParent && one.textContent.startsWith(arguments[0]))"
        return self.run(find, beginning)

    def until(self, condition):
        from selenium.webdriver.support.wait import WebDriverWait

        return WebDriverWait(self.browser, 20, poll_frequency=0.05).until(lambda _: condition())

    def numbers(self):
        return [
            int(text.split()[0][1:])
            for text in self.run("return [...document.querySelectorAll('#list h3')].map(x => x.textContent)")
        ]

    def search(self, text):
        box = self.one("#search")
        box.clear()
        box.send_keys(text)


@pytest.fixture
def show(browser, tmp_path):
    """Return a function that writes a report's page and opens it, with nothing kept from another test."""

    def opened(report, *, forget=True):
        write_page(report, tmp_path / "page.html")
        browser.get((tmp_path / "page.html").as_uri())
        if forget:
            browser.execute_script("localStorage.clear()")
            browser.refresh()
        return Shown(browser)

    browser.get_log("browser")
    yield opened
    assert browser.get_log("browser") == []  # no error, and nothing that the page's policy had to stop


@contextmanager
def phone(browser):
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    yield
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_texts_are_shown_as_text(show):
    page = show(make_report(len(EVIL), EVIL))
    shown = page.run(
        "return [...document.querySelectorAll('.sides > :first-child .text')].map(x => x.textContent.toWellFormed())"
    )
    expected = [text.replace("\ud83d", "\ufffd") or "(empty)" for text in EVIL]
    assert shown == expected
    assert page.run("return window.hacked") is None
    assert page.all("#list img, #list script") == []
    assert page.run("return performance.getEntriesByType('resource').length") == 0
    direction = (
        "return getComputedStyle(document.querySelectorAll('.sides > :first-child .text')[arguments[0]]).direction"
    )
    assert [page.run(direction, place) for place in (4, 5)] == ["ltr", "rtl"]


def test_the_summary_tells_what_the_report_tells(show):
    report = make_report()
    page = show(report)
    cards = [card.text for card in page.all("#summary .card")]
    summary = report["scores"]["summary"]
    low, high = (f"{end:.4g}" for end in summary["interval"])
    assert summary["n_scored"] == 11
    assert cards[0].splitlines()[:5] == [
        *(f"Scores of {NAMES[0]}", f"{summary['mean']:.2f} mean score", f"95 % interval: {low} to {high}"),
        *(
            "11 of 12 scored, 1 unparsed, 0 failed",
            f"Mean with unparsed replies as 0: {summary['mean_with_zeros']:.4g}",
        ),
    ]
    bars = page.one(".bars").get_attribute("aria-label").replace("–", "-")
    assert all(f"{name}: {count}" in bars for name, count in summary["histogram"].items())
    comparison = report["comparison"]
    assert [mark.text for mark in page.all("#summary .mark")] == ["Win 3", "Tie 5", "Loss 3"]
    page.one("#summary .card details summary").click()
    told = page.all("#summary .card")[2].text.splitlines()
    for line in (
        *(f"wins {comparison['agreement']['wins']} {comparison['lima']['wins']}", "length ratio 0.96"),
        *("left out, failed 1", f"same verdict in both orders {100 * comparison['consistency']:.1f} %"),
        f"p value (wins against losses) {comparison['agreement']['p_value']:.4g}",
    ):
        assert line in told
    assert page.one("#judge").text == "Judge: phi3 · kind ollama"
    page.one("#summary details.card summary").click()
    rows = [row.text.split()[-2:] for row in page.all("#summary details.card tbody tr")]
    assert rows == [["12", "12"], ["0.25", "0.5"], ["inf", "–"], ["2", "–"]]


def test_filters_search_and_sorting(show):
    page = show(make_report())
    assert page.numbers() == list(range(1, 13))
    assert page.one("#count").text == "12 of 12 entries."
    for name, numbers in (
        *(("Unparsed", [3, 5]), ("Orders disagree", [4]), ("Wins", [6, 9, 12]), ("Ties", [1, 3, 4, 7, 10])),
        *(("Losses", [2, 8, 11]), ("All", list(range(1, 13)))),
    ):
        page.button(name).click()
        assert page.numbers() == numbers
        assert page.button(name).text.endswith(f" {len(numbers)}")
        assert page.button(name).get_attribute("aria-pressed") == "true"
        assert page.run("return document.activeElement.textContent").startswith(name)
        assert page.one("#count").text == f"{len(numbers)} of 12 entries."
    page.one("#sort option[value=worst]").click()
    assert page.numbers() == [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 3]
    page.search("Task 12")
    page.until(lambda: page.numbers() == [12])


def test_an_entry_shows_verdicts_and_every_reply(show):
    page = show(make_report())
    page.run("document.querySelectorAll('article details').forEach((node) => (node.open = true))")
    cards = [card.text.splitlines() for card in page.all("#list article")]
    marks = [[mark.text for mark in card.find_elements("css selector", ".mark")] for card in page.all("#list article")]
    assert marks[1:5] == [
        *(["Loss", "14", "50"], ["Tie", "Same text", "Unparsed", "50"], ["Tie", "Orders disagree", "28", "50"]),
        ["Failed", "35", "50"],
    ]
    first, second = NAMES
    assert cards[3][-4:] == [
        *(f"Order 1, A is {first}, B is {second}. Verdict: {first}", "So be it. [[A]]"),
        *(f"Order 2, A is {second}, B is {first}. Verdict: {second}", "So be it. [[A]]"),
    ]
    assert cards[4][-4:] == [
        *(
            f"Order 1, A is {first}, B is {second}. Verdict: {first}",
            "So be it. [[A]]",
            "Failed: Comparison",
            "HTTP 500",
        ),
    ]
    for line in (f"On {first}, reply 1", "It is good.", f"On {first}, reply 2", "8/10"):
        assert line in cards[2]


def test_keys_go_through_the_entries_and_over_pages(show):
    page = show(make_report(60))
    assert len(page.all("article[data-place]")) == 50
    focused = "return document.activeElement.dataset.place"
    page.press("jjk")
    assert page.run(focused) == "0"
    page.press("k" + "j" * 50)
    assert page.run(focused) == "50"
    assert page.numbers() == list(range(51, 61))
    page.press("k")
    assert page.run(focused) == "49"
    page.button("Next page").click()
    assert page.run(focused) == "50"
    page.press("/")
    assert page.run("return document.activeElement.id") == "search"
    page.press("jk")
    page.until(lambda: page.one("#count").text == "0 of 60 entries.")
    assert page.one("#search").get_attribute("value") == "jk"


def test_long_texts_are_shown_in_steps(show):
    medium = "x" * 3999 + "😀" + "<b>" * 13_333
    page = show(make_report(2, ["<b>" * 3_333_333, medium]))  # ten megabytes, and a little more than the second step
    lengths = (
        "return [...document.querySelectorAll('.sides > :first-child .text')].map((one) => one.textContent.length)"
    )
    assert page.run(lengths) == [4000, 3999]  # the next character of the second would be cut in two
    page.button("Show more").click()
    assert page.run(lengths) == [40_000, 3999]
    page.one("article:last-child button").click()
    assert page.run(lengths) == [40_000, 40_000]
    bidi = "return getComputedStyle(document.querySelector('.sides .text')).unicodeBidi"
    assert page.run(bidi) == "isolate"  # with "plaintext" a million characters in one line take ten seconds
    assert page.one("article:last-child button").text == "Show more: 40000 of 44000 characters are here"
    page.one("article:last-child button").click()
    assert page.run(lengths) == [40_000, len(medium) + 1]  # JavaScript counts the 😀 twice
    assert not page.one("article:last-child button").is_displayed()


def test_blind_mode_hides_everything_and_counts_agreement_as_statistics_does(show):
    report = make_report()
    page = show(report)
    page.button("Blind mode").click()
    assert not page.one("#reading").is_displayed()
    answers, first_sides = "120012021102", []
    for number, key in enumerate(answers, 1):
        seen = page.one("#choosing").text
        assert f"Task {number}\n" in seen
        assert not any(name in seen for name in (*NAMES, "phi3", "Win", "[["))
        left, right = (node.text for node in page.all("#question .sides .text"))
        assert {left, right} == {f"first response {number}", f"second response {number}"}
        first_sides.append("1" if left.startswith("first") else "2")
        page.press(key)
    assert set(first_sides) == {"1", "2"}
    mine = ["tie" if key == "0" else "win" if key == side else "loss" for key, side in zip(answers, first_sides)]
    judge = [entry["pair"]["outcome"] for entry in report["entries"]]
    assert judge.pop(4) is None  # where the judge failed, there is nothing to agree with
    mine.pop(4)
    told = page.one("#agreement-body").text  # it opens after the last choice
    share = sum(a == b for a, b in zip(mine, judge)) / 11
    assert f"Over 11 entries that both have decided: the same in {100 * share:.1f} %" in told
    assert f"kappa {float(f'{cohen_kappa(mine, judge):.4g}'):g}." in told
    table = [
        [int(cell.text) for cell in row.find_elements("tag name", "td")] for row in page.all("#agreement-body tbody tr")
    ]
    assert table == [[sum(p == (a, b) for p in zip(mine, judge)) for b in OUTCOMES] for a in OUTCOMES]
    page.button("Leave").click()
    differing = [number for number, a, b in zip([1, 2, 3, 4, *range(6, 13)], mine, judge) if a != b]
    page.button("You and the judge differ").click()
    assert page.numbers() == differing


def test_choices_are_kept_saved_and_loaded(show, browser, tmp_path):
    page = show(make_report())
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.button("Blind mode").click()
    page.one("#agreement summary").click()
    page.button("Left").click()
    assert page.one("#agreement").get_attribute("open") is None  # nobody watches it change
    page.press("2")
    page.run("document.body.dispatchEvent(new KeyboardEvent('keydown', {key: '1', repeat: true, bubbles: true}))")
    page.press("0j")  # the key held down chose nothing
    assert page.one("#progress").text == "Entry 5 of 12; 3 decided."
    page.button("Download").click()
    page.until(lambda: list(tmp_path.glob("blind-*.json")))
    [saved] = tmp_path.glob("blind-*.json")
    page.until(lambda: saved.stat().st_size)
    choices = json.loads(saved.read_text(encoding="utf-8"))["choices"]
    assert list(choices) == ["1", "2", "3"]
    assert choices["3"] == "tie"

    browser.refresh()
    page.button("Blind mode").click()
    assert page.one("#progress").text == "Entry 1 of 12; 3 decided."
    assert page.button("Left").get_attribute("aria-pressed") == "true"

    page = show(make_report())  # forgets
    page.button("Blind mode").click()
    assert page.one("#progress").text == "Entry 1 of 12; 0 decided."
    page.one("#load").send_keys(str(saved))
    page.until(lambda: page.one("#message").text == "3 choices are here now.")
    page.until(lambda: page.one("#load").get_attribute("value") == "")  # so that the same file can be taken again
    assert page.one("#progress").text == "Entry 1 of 12; 3 decided."
    other = make_report()
    other["entries"][0]["response"] = "something else"
    page = show(other)
    page.button("Blind mode").click()
    page.one("#load").send_keys(str(saved))
    page.until(lambda: page.one("#message").text == "These choices belong to another report.")
    assert page.one("#progress").text == "Entry 1 of 12; 0 decided."


def test_the_page_works_where_nothing_can_be_kept(show, browser):
    denied = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError') }})"
    made = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": denied})
    try:
        page = show(make_report(), forget=False)
        page.button("Blind mode").click()
        page.press("1")
        assert page.one("#progress").text == "Entry 2 of 12; 1 decided."
        assert "download your choices" in page.one("#message").text
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", made)


def test_chinese_is_remembered(show, browser):
    page = show(make_report())
    page.one("#language").click()
    assert "平均分" in page.one("#summary").text
    browser.refresh()
    assert page.one("#count").text == "显示 12 条，共 12 条。"
    assert page.run("return document.documentElement.lang") == "zh-CN"
    for part in ("title", "#blind", "#filters", "#summary details summary", "article .task h4"):
        assert re.search("[\u4e00-\u9fff]", page.one(part).get_attribute("textContent")), part
    page.button("盲评").click()
    assert page.button("跳过")


@pytest.mark.parametrize(
    ("missing", "blind"),
    [
        (("comparison",), True),
        (("scores", "scores_against"), True),
        (("scores", "scores_against", "comparison", "judge"), True),
        (("scores_against", "comparison", "against", "metrics_against"), False),
        (("scores", "scores_against", "comparison", "against", "metrics_against", "judge"), False),
        (("metrics", "metrics_against"), True),
    ],
)
def test_parts_may_be_missing(show, missing, blind):
    page = show(without(make_report(3), *missing))
    assert page.numbers() == [1, 2, 3]
    assert page.one("#blind").is_displayed() == blind
    told = page.one("body").text
    assert "undefined" not in told
    assert "null" not in told
    assert "NaN" not in told
    gone = {"scores": "mean score", "comparison": "Comparison", "metrics": "Metrics", "against": NAMES[1]}
    for part, words in gone.items():
        assert (words in told) == (part not in missing), part


def test_a_report_without_entries_is_a_page(show):
    page = show({**make_report(0), "metrics": None, "metrics_against": None})
    assert page.one("#count").text == "0 of 0 entries."


@pytest.mark.parametrize("mode", ["reading", "choosing"])
def test_a_phone_needs_no_sideways_scrolling(show, browser, mode):
    with phone(browser):
        report = make_report(len(EVIL), EVIL)
        report["responses"] = "a-very-long-name-of-a-file-with-responses-that-goes-on-and-on-and-on.json"
        report["entries"][0]["response"] = "https://example.org/" + "endless" * 40
        page = show(report)
        if mode == "choosing":
            page.button("Blind mode").click()
        else:
            page.run("document.querySelectorAll('details').forEach((node) => (node.open = true))")
        assert page.one(f"#{mode}").is_displayed()
        assert page.run("return [document.documentElement.scrollWidth, innerWidth]") == [360, 360]


@pytest.mark.parametrize("mode", ["reading", "choosing"])
def test_everything_to_operate_has_a_name(show, mode):
    page = show(make_report(60))
    if mode == "choosing":
        page.button("Blind mode").click()
    found = [node for node in page.all("button, input, select, summary, article") if node.is_displayed()]
    assert len(found) > 7
    assert all(node.accessible_name for node in found)
