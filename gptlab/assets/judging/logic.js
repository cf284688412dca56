"use strict";
// What the page of a judged set of responses works out: functions of plain values, which node can test without a page.

const OUTCOMES = ["win", "tie", "loss"]; // as seen from the first of the two responses
const WORTH = { win: 100, tie: 50, loss: 0 };

/** Return a whole number below 2^53 that depends on every character: two 32-bit halves, stirred into each other. */
function hash(text) {
  let [a, b] = [0xdeadbeef, 0x41c6ce57];
  for (let index = 0; index < text.length; index++) {
    a = Math.imul(a ^ text.charCodeAt(index), 0x9e3779b1);
    b = Math.imul(b ^ text.charCodeAt(index), 0x5f356495);
  }
  a = Math.imul(a ^ (a >>> 16), 0x85ebca6b) ^ Math.imul(b ^ (b >>> 13), 0xc2b2ae35);
  b = Math.imul(b ^ (b >>> 16), 0x85ebca6b) ^ Math.imul(a ^ (a >>> 13), 0xc2b2ae35);
  return 2 ** 32 * (b & 0x1fffff) + (a >>> 0);
}

/** Return a name for the texts of a report. Another judge leaves it as it is: what a person chose stays good. */
function reportKey(report) {
  const texts = report.entries.map((one) => [one.number, one.instruction, one.input, one.response, one.against]);
  return hash(JSON.stringify(texts)).toString(36);
}

/** Say whether the first response stands on the left in blind mode: a coin toss that falls the same every time. */
const firstIsLeft = (key, number) => hash(`${key} ${number}`) % 2 === 0;

/** Return what choosing a side ("1" left, "2" right, "0" tie) says about the first response. */
const outcomeOfSide = (side, left) => (side === "0" ? "tie" : (side === "1") === left ? "win" : "loss");

/** Return the side that gives an outcome, or null where there is none. */
const sideOfOutcome = (outcome, left) => ["1", "2", "0"].find((side) => outcomeOfSide(side, left) === outcome) ?? null;

/** Return the judge's outcome: of its comparison, else of its two scores, else null. */
function judgeOutcome(entry) {
  if (entry.pair) return entry.pair.outcome ?? null;
  const [first, second] = [entry.score?.score ?? null, entry.score_against?.score ?? null];
  return first === null || second === null ? null : OUTCOMES[Math.sign(second - first) + 1];
}

/** Return what entries are sorted by: the first response's score, else its outcome, else null. */
const worth = (entry) => (entry.score ? entry.score.score : WORTH[entry.pair?.outcome]) ?? null;

const FILTERS = {
  all: () => true,
  failed: (entry) =>
    [entry.score, entry.score_against].some((one) => one && one.status !== "scored") ||
    Boolean(entry.pair && !entry.pair.outcome),
  disagree: (entry) => Boolean(entry.pair?.outcome) && entry.pair.agree === false,
  win: (entry) => entry.pair?.outcome === "win",
  tie: (entry) => entry.pair?.outcome === "tie",
  loss: (entry) => entry.pair?.outcome === "loss",
  person: (entry, choices) => decidedByBoth([entry], choices).some(([mine, its]) => mine !== its),
};

const SORTS = {
  number: (one, other) => one.number - other.number,
  worst: (one, other) => worth(one) - worth(other),
  best: (one, other) => worth(other) - worth(one),
};

const haystacks = new WeakMap();
const folded = (text) => text.normalize("NFKC").toLowerCase();

/** Say whether an entry's texts hold every word of a query, whatever the case and width; "#12" is the number alone. */
function matches(entry, query) {
  const words = folded(query).split(/\s+/).filter(Boolean);
  if (words.length === 1 && /^#\d+$/.test(words[0])) return words[0] === `#${entry.number}`;
  if (words.length && !haystacks.has(entry)) {
    const texts = ["instruction", "input", "output", "response", "against"].map((name) => entry[name] ?? "");
    const replies = ["score", "score_against", "pair"].flatMap((name) => entry[name]?.replies ?? []);
    haystacks.set(entry, folded([...texts, ...replies].join("\n")));
  }
  return words.every((word) => haystacks.get(entry).includes(word));
}

/** Return the entries to show, in order; those that have nothing to be sorted by come last. */
function selectEntries(entries, { filter = "all", sort = "number", query = "" }, choices = {}) {
  const found = entries.filter((entry) => FILTERS[filter](entry, choices) && matches(entry, query));
  const lacking = (entry) => sort !== "number" && worth(entry) === null;
  return found.sort((one, other) => lacking(one) - lacking(other) || (lacking(one) ? 0 : SORTS[sort](one, other)));
}

/** Count one set of scores ("score" or "score_against"): how many there are of each status, the mean, ten bins. */
function scoreSummary(entries, name) {
  const found = entries.map((entry) => entry[name]).filter(Boolean);
  const scores = found.filter((one) => one.status === "scored").map((one) => one.score);
  const bins = Array(10).fill(0);
  for (const score of scores) bins[Math.min(9, Math.floor(score / 10))] += 1;
  const count = (status) => found.filter((one) => one.status === status).length;
  const mean = scores.length ? scores.reduce((sum, score) => sum + score, 0) / scores.length : null;
  const counts = { total: found.length, scored: scores.length, unparsed: count("unparsed"), failed: count("failed") };
  return { ...counts, mean, bins };
}

/** Compare a person's outcomes with the judge's, pairs of [person, judge]; kappa as in gptlab/judging/statistics.py. */
function agreement(pairs) {
  const count = (mine, its) => pairs.filter((pair) => pair[0] === mine && pair[1] === its).length;
  const table = OUTCOMES.map((mine) => OUTCOMES.map((its) => count(mine, its)));
  const n = pairs.length;
  const same = table.reduce((sum, row, index) => sum + row[index], 0);
  const columns = OUTCOMES.map((_, index) => table.reduce((sum, row) => sum + row[index], 0));
  const chance = table.reduce((sum, row, index) => sum + row.reduce((a, b) => a + b) * columns[index], 0); // times n²
  const kappa = chance === n * n ? null : (same * n - chance) / (n * n - chance);
  return { n, table, share: n ? same / n : null, kappa };
}

/** Return [person, judge] for each entry that both have decided. */
function decidedByBoth(entries, choices) {
  const pairs = entries.map((entry) => [choices[entry.number] ?? null, judgeOutcome(entry)]);
  return pairs.filter(([mine, its]) => mine !== null && its !== null);
}

/** Return a person's choices as the text that is kept and downloaded. */
function saveChoices(report, key, choices) {
  const { responses, against } = report;
  return `${JSON.stringify({ format: "gptlab-blind-1", report: key, responses, against, choices }, null, 2)}\n`;
}

/** Return the choices of such a text; the error's message is the key of the words that say what is wrong. */
function loadChoices(text, key, entries) {
  let content = null;
  try {
    content = JSON.parse(text);
  } catch {
    // the check below says so
  }
  const choices = content?.choices;
  if (content?.format !== "gptlab-blind-1" || typeof choices !== "object" || !choices) throw new Error("load_strange");
  if (content.report !== key) throw new Error("load_other");
  const numbers = new Set(entries.map((entry) => String(entry.number)));
  const good = ([number, outcome]) => numbers.has(number) && OUTCOMES.includes(outcome);
  if (!Object.entries(choices).every(good)) throw new Error("load_strange");
  return { ...choices };
}

/** Return [name, value] for every number and text of nested objects, inner names behind outer ones. */
function flatten(value, path = "") {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [[path, value]];
  return Object.entries(value).flatMap(([name, inner]) => flatten(inner, path ? `${path} ${name}` : name));
}

/** Return a number with four digits that count, and anything else as text. */
function format(value) {
  if (value === null || value === undefined) return "–";
  if (Array.isArray(value)) return value.map(format).join(", ");
  return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(4))) : String(value);
}

const percent = (share) => (typeof share === "number" ? `${(100 * share).toFixed(1)} %` : format(share));

const SHARES = ["exact_match", "ended_share", "consistency", "win_rate", "adjusted_win_rate"];

/** Return a number of the report as text: shares in percent. */
const formatStat = (name, value) => (SHARES.includes(name) ? percent(value) : format(value));

/** Return at most `count` characters from the front; a character of two halves is not cut through. */
function cut(text, count) {
  const split = text.length > count && /[\ud800-\udbff]/.test(text[count - 1]);
  return text.slice(0, split ? count - 1 : count);
}

const logic = { FILTERS, OUTCOMES, agreement, cut, decidedByBoth, firstIsLeft, flatten, format, hash };
Object.assign(logic, { formatStat, judgeOutcome, loadChoices, matches, outcomeOfSide, percent, reportKey });
Object.assign(logic, { saveChoices, scoreSummary, selectEntries, sideOfOutcome });
if (typeof module !== "undefined") module.exports = logic;
