// What the judging page works out, tested without a page: `node --test tests/judging/page_logic.mjs`.
import assert from "node:assert/strict";
import { test } from "node:test";

import logic from "../../gptlab/assets/judging/logic.js";

const scored = (score) => ({ score, status: "scored", replies: [String(score)], error: null });
const unparsed = { score: null, status: "unparsed", replies: ["It is good."], error: null };
const failed = { score: null, status: "failed", replies: [], error: "no answer" };
const compared = (outcome, agree = true) => ({ verdicts: ["A", "B"], outcome, agree, replies: [], error: null });

function makeEntry(number, more = {}) {
  return { number, instruction: `Do ${number}`, input: "", output: "done", response: "yes", against: "no", ...more };
}

const numbers = (entries) => entries.map((entry) => entry.number);

const ENTRIES = [
  makeEntry(1, { score: scored(50), pair: compared("win") }),
  makeEntry(2, { score: unparsed, pair: compared("tie", false) }),
  makeEntry(3, { score: scored(90), pair: compared("loss") }),
  makeEntry(4, { score: failed, pair: compared(null, false) }),
  makeEntry(5, { score: scored(10), score_against: failed, pair: compared("tie") }),
  makeEntry(6, { score: scored(50), pair: compared("win") }),
];

test("filters find what they are called after", () => {
  const found = (filter, choices) => numbers(logic.selectEntries(ENTRIES, { filter }, choices));
  assert.deepEqual(found("all"), [1, 2, 3, 4, 5, 6]);
  assert.deepEqual(found("failed"), [2, 4, 5]);
  assert.deepEqual(found("disagree"), [2]); // entry 4 has no verdict to disagree with
  assert.deepEqual(found("win"), [1, 6]);
  assert.deepEqual(found("tie"), [2, 5]);
  assert.deepEqual(found("loss"), [3]);
  assert.deepEqual(found("person", { 1: "win", 3: "win", 4: "loss", 5: "loss" }), [3, 5]);
});

test("sorting is stable, and what has no score comes last both ways", () => {
  assert.deepEqual(numbers(logic.selectEntries(ENTRIES, { sort: "worst" })), [5, 1, 6, 3, 2, 4]);
  assert.deepEqual(numbers(logic.selectEntries(ENTRIES, { sort: "best" })), [3, 1, 6, 5, 2, 4]);
  assert.deepEqual(numbers(logic.selectEntries([...ENTRIES].reverse(), {})), [1, 2, 3, 4, 5, 6]);
  const outcomes = ENTRIES.map(({ score, ...rest }) => rest);
  assert.deepEqual(numbers(logic.selectEntries(outcomes, { sort: "worst" })), [3, 2, 5, 1, 6, 4]);
});

test("an entry without scores and comparison is shown, and is nothing else", () => {
  const bare = [makeEntry(1, { score: null, pair: null }), makeEntry(2)];
  for (const filter of Object.keys(logic.FILTERS)) {
    assert.equal(logic.selectEntries(bare, { filter }).length, filter === "all" ? 2 : 0, filter);
  }
});

test("search wants every word, in any case and width, in any text, the judge's too", () => {
  const entries = [
    makeEntry(1, { response: "The Capital is Paris." }),
    makeEntry(2, { input: "今天的天气很好 ２０２０" }),
    makeEntry(12, { pair: { ...compared("win"), replies: ["Because of paris"] } }),
  ];
  const found = (query) => numbers(logic.selectEntries(entries, { query }));
  assert.deepEqual(found("PARIS"), [1, 12]);
  assert.deepEqual(found("paris capital"), [1]);
  assert.deepEqual(found("天气"), [2]);
  assert.deepEqual(found("2020"), [2]);
  assert.deepEqual(found("#12"), [12]);
  assert.deepEqual(found("#1"), [1]);
  assert.deepEqual(found(" "), [1, 2, 12]);
  assert.deepEqual(found(".*"), []);
});

test("a missing text is not found as 'null'", () => {
  assert.equal(logic.matches(makeEntry(1, { input: null, against: null }), "null"), false);
});

test("scores are counted by status, and 100 falls into the last bin", () => {
  const entries = [0, 9, 10, 99, 100].map((score, index) => makeEntry(index, { score: scored(score) }));
  entries.push(makeEntry(8, { score: unparsed }), makeEntry(9, { score: failed }));
  const { bins, ...counts } = logic.scoreSummary(entries, "score");
  assert.deepEqual(counts, { total: 7, scored: 5, unparsed: 1, failed: 1, mean: 43.6 });
  assert.deepEqual(bins, [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
  assert.equal(logic.scoreSummary([makeEntry(1)], "score").mean, null);
});

test("the judge's outcome is that of the comparison, else that of the two scores", () => {
  const by = (score, score_against, pair) => logic.judgeOutcome(makeEntry(1, { score, score_against, pair }));
  const [low, high] = [scored(0), scored(90)];
  assert.deepEqual([by(high, low), by(low, low), by(low, high)], ["win", "tie", "loss"]);
  assert.deepEqual([by(unparsed, low), by(low, null), by(null, null)], [null, null, null]);
  assert.deepEqual([by(high, low, compared("loss")), by(high, low, compared(null))], ["loss", null]);
});

test("agreement: the worked example of cohen_kappa, and the ends", () => {
  const pairs = (mine, its) => mine.map((outcome, index) => [outcome, its[index]]);
  const four = logic.agreement(pairs(["win", "win", "loss", "tie"], ["win", "loss", "loss", "tie"]));
  assert.deepEqual(four, { n: 4, table: [[1, 0, 1], [0, 1, 0], [0, 0, 1]], share: 0.75, kappa: 0.6363636363636364 });
  assert.equal(logic.agreement(pairs(["win", "loss"], ["win", "loss"])).kappa, 1);
  assert.equal(logic.agreement(pairs(["win", "loss"], ["loss", "win"])).kappa, -1);
  assert.equal(logic.agreement(pairs(["tie", "tie"], ["tie", "tie"])).kappa, null);
  assert.deepEqual(logic.agreement([]), { n: 0, table: [[0, 0, 0], [0, 0, 0], [0, 0, 0]], share: null, kappa: null });
});

test("only entries that both have decided are compared", () => {
  const pairs = logic.decidedByBoth(ENTRIES, { 1: "tie", 4: "win" });
  assert.deepEqual(pairs, [["tie", "win"]]);
});

test("sides fall like coins, and the same way every time", () => {
  const places = Array.from({ length: 4000 }, (_, number) => logic.firstIsLeft("some report", number + 1));
  assert.deepEqual(places, Array.from({ length: 4000 }, (_, number) => logic.firstIsLeft("some report", number + 1)));
  const within = (count, of) => Math.abs(count - of / 2) < 3 * Math.sqrt(of); // six standard deviations
  assert.ok(within(places.filter(Boolean).length, 4000));
  assert.ok(within(places.slice(1).filter((left, index) => left === places[index]).length, 3999));
  const reports = Array.from({ length: 4000 }, (_, index) => logic.firstIsLeft(`report ${index}`, 1));
  assert.ok(within(reports.filter(Boolean).length, 4000));
});

test("a side and its outcome are each other's inverse", () => {
  for (const left of [true, false]) {
    for (const side of ["0", "1", "2"]) assert.equal(logic.sideOfOutcome(logic.outcomeOfSide(side, left), left), side);
    assert.equal(logic.sideOfOutcome(undefined, left), null);
  }
  assert.equal(logic.outcomeOfSide("1", true), "win");
  assert.equal(logic.outcomeOfSide("1", false), "loss");
  assert.equal(logic.outcomeOfSide("0", false), "tie");
});

test("a report's key depends on its texts and not on its judge", () => {
  const report = { responses: "a.json", against: "b.json", entries: ENTRIES };
  const entries = ENTRIES.map((entry) => ({ ...entry, pair: compared("tie") }));
  assert.equal(logic.reportKey({ ...report, judge: { name: "x" }, entries }), logic.reportKey(report));
  const [first, ...rest] = ENTRIES;
  const changes = [{ response: "yes." }, { against: "yes", response: "no" }, { input: "x" }, { instruction: "" }];
  for (const change of changes) {
    const changed = { ...report, entries: [{ ...first, ...change }, ...rest] };
    assert.notEqual(logic.reportKey(changed), logic.reportKey(report));
  }
  const many = new Set(Array.from({ length: 100_000 }, (_, index) => logic.hash(String(index))));
  assert.equal(many.size, 100_000);
});

test("choices come back from what is kept", () => {
  const report = { responses: "a.json", against: "b.json", entries: ENTRIES };
  const key = logic.reportKey(report);
  const choices = { 1: "win", 5: "tie" };
  assert.deepEqual(logic.loadChoices(logic.saveChoices(report, key, choices), key, ENTRIES), choices);
  const kept = (change) => JSON.stringify({ format: "gptlab-blind-1", report: key, choices, ...change });
  assert.deepEqual(logic.loadChoices(kept({}), key, ENTRIES), choices);
  const strange = [
    ...["", "{", "null", "[]", "7", null],
    ...[kept({ format: "other" }), kept({ choices: null }), kept({ choices: "win" })],
    ...[kept({ choices: { 7: "win" } }), kept({ choices: { 1: "best" } }), kept({ choices: ["win"] })],
    ...[kept({ choices: {} }).replace("{}", '{"__proto__": "win"}')],
  ];
  const load = (text) => () => logic.loadChoices(text, key, ENTRIES);
  for (const text of strange) assert.throws(load(text), { message: "load_strange" }, text);
  assert.throws(load(kept({ report: "x" })), { message: "load_other" });
});

test("nested numbers become rows", () => {
  const rows = logic.flatten({ n: 3, ended_by: { stop: 2 }, interval: [1, 2], none: null });
  assert.deepEqual(rows, [["n", 3], ["ended_by stop", 2], ["interval", [1, 2]], ["none", null]]);
});

test("numbers are written with four digits that count", () => {
  const written = [1 / 3, 0.00031, 1e-12, 49.4545, 110, [1.23456, 2], null, undefined, "inf", true].map(logic.format);
  assert.deepEqual(written, ["0.3333", "0.00031", "1e-12", "49.45", "110", "1.235, 2", "–", "–", "inf", "true"]);
  const shares = [logic.formatStat("consistency", 0.834), logic.formatStat("win_rate", null), logic.percent("nan")];
  assert.deepEqual(shares, ["83.4 %", "–", "nan"]);
  assert.equal(logic.formatStat("rouge_l", 0.834), "0.834");
});

test("a text is cut between characters", () => {
  assert.equal(logic.cut("a😀b", 2), "a");
  assert.equal(logic.cut("a😀b", 3), "a😀");
  assert.equal(logic.cut("ab", 2), "ab");
  assert.equal(logic.cut("a\ud83d", 2), "a\ud83d");
  assert.equal(logic.cut("", 5), "");
});

test("ten thousand entries are filtered, searched and sorted at once", () => {
  const many = Array.from({ length: 10_000 }, (_, index) => makeEntry(index + 1, { score: scored(index % 101) }));
  const found = logic.selectEntries(many, { filter: "all", sort: "worst", query: "do yes" });
  assert.equal(found.length, 10_000);
  assert.equal(found[0].number, 1);
});
