"use strict";
// The page of a judged set of responses: it shows what logic.js works out. Texts of the report become text nodes, never
// markup. `find` looks up a fixed part of page.html; `make` makes a new one.

const FIRST_CHARACTERS = 4000; // of a text are shown at first, ten times as many after each click; a reply may be 10 MB
const PAGE_SIZE = 50; // entries in the document at one time

const find = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.flat().filter((child) => child !== null));
  return node;
}

function makeTable(head, rows) {
  const top = head.map((cell) => make("th", { scope: "col" }, cell));
  const cell = (text, index) => (index ? make("td", {}, text) : make("th", { scope: "row" }, text));
  const body = rows.map((row) => make("tr", {}, row.map(cell)));
  return make("table", {}, head.length ? make("thead", {}, make("tr", {}, top)) : null, make("tbody", {}, body));
}

/** What the browser keeps between visits. A page opened from a file may be allowed nothing; then nothing is kept. */
const kept = {
  get(name) {
    try {
      return localStorage.getItem(name);
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(name, value);
      return true;
    } catch {
      return false;
    }
  },
};

class Page {
  constructor(report, words) {
    Object.assign(this, { report, words, entries: report.entries });
    this.view = { filter: "all", sort: "number", query: "" };
    this.shown = this.entries; // after filter, search and sorting
    this.current = -1; // place in `shown`; -1 before the first step
    this.first = 0; // place in `shown` of the first entry in the document
    const same = report.responses === report.against;
    this.names = [report.responses, report.against].map((name, index) => `${name}${same ? ` (${"AB"[index]})` : ""}`);
    this.language = kept.get("gptlab language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");
    this.blind = new Blind(this);
    this.two = this.blind.entries.length > 0;
  }

  /** Return interface words in the language chosen, with {name} replaced. */
  say(word, values = {}) {
    return this.words[word][this.language].replace(/\{(\w+)\}/g, (_, name) => values[name]);
  }

  start() {
    find("blind").hidden = !this.two;
    find("sorting").hidden = !this.entries.some((one) => worth(one) !== null);
    find("blind").addEventListener("click", () => this.setBlind(!this.blind.on));
    find("language").addEventListener("click", () => {
      this.setLanguage(this.language === "en" ? "zh" : "en");
      kept.set("gptlab language", this.language);
    });
    for (const node of find("filters").children) {
      node.addEventListener("click", () => this.look({ filter: node.dataset.filter }));
    }
    find("search").addEventListener("input", (event) => {
      clearTimeout(this.waiting);
      this.waiting = setTimeout(() => this.look({ query: event.target.value }), 150);
    });
    find("sort").addEventListener("change", (event) => this.look({ sort: event.target.value }));
    find("page-back").addEventListener("click", () => this.goTo(this.first - PAGE_SIZE));
    find("page-on").addEventListener("click", () => this.goTo(this.first + PAGE_SIZE));
    find("list").addEventListener("focusin", (event) => {
      this.current = Number(event.target.closest("article").dataset.place);
    });
    this.blind.start();
    document.addEventListener("keydown", (event) => this.press(event));
    this.setLanguage(this.language);
  }

  press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target.matches("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const step = { j: 1, k: -1 }[event.key];
    if (step && this.blind.on) this.blind.goTo(this.blind.place + step);
    else if (step) this.goTo(this.current + step);
    else if (this.blind.on && !event.repeat && ["0", "1", "2"].includes(event.key)) this.blind.choose(event.key);
    else if (!this.blind.on && event.key === "/") find("search").focus();
    else return;
    event.preventDefault();
  }

  setLanguage(language) {
    this.language = language;
    document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
    for (const node of document.querySelectorAll("[data-word]")) node.textContent = this.say(node.dataset.word);
    for (const node of document.querySelectorAll("[data-label]")) {
      node.setAttribute("aria-label", this.say(node.dataset.label));
    }
    find("language").textContent = language === "en" ? "中文" : "English";
    find("language").lang = language === "en" ? "zh-CN" : "en";
    this.showHead();
    this.setBlind(this.blind.on);
  }

  setBlind(on) {
    this.blind.on = on;
    find("blind").textContent = this.say(on ? "blind_end" : "blind");
    find("reading").hidden = on;
    find("choosing").hidden = !on;
    if (on) this.blind.goTo(this.blind.place, { focus: false });
    else this.look({});
  }

  // The summary.

  showHead() {
    const { judge, scores, scores_against: others, comparison, metrics, metrics_against: metrics_others } = this.report;
    const [a, b] = this.names;
    document.title = this.two ? this.say("title", { a, b }) : a;
    find("title").textContent = document.title;
    const { name, ...rest } = judge ?? {};
    const settings = flatten(rest).filter(([, value]) => value !== null && value !== "");
    const told = settings.map(([path, value]) => `${path.replaceAll("_", " ")} ${format(value)}`);
    find("judge").textContent = judge ? [this.say("judge", { name }), ...told].join(" · ") : this.say("no_judge");
    const cards = [
      scores ? this.scoreCard("score", scores.summary ?? scores, this.names[0]) : null,
      others ? this.scoreCard("score_against", others.summary ?? others, this.names[1]) : null,
      comparison ? this.comparisonCard(comparison.summary ?? comparison) : null,
      metrics ? this.metricsCard(metrics, metrics_others) : null,
    ];
    find("summary").replaceChildren(...cards.filter(Boolean));
  }

  scoreCard(which, summary, name) {
    const { total, scored, unparsed, failed, mean, bins } = scoreSummary(this.entries, which);
    const ranges = bins.map((_, index) => `${10 * index}–${index === 9 ? 100 : 10 * index + 9}`);
    const told = bins.map((count, index) => `${ranges[index]}: ${count}`).join(", ");
    const bars = make("div", { class: "bars", role: "img", "aria-label": this.say("histogram", { told }) });
    for (const [index, count] of bins.entries()) {
      const bar = make("span", { title: `${ranges[index]}: ${count}` }, count ? make("i", {}, String(count)) : null);
      bar.style.height = `${(100 * count) / Math.max(1, ...bins)}%`;
      bars.append(bar);
    }
    const interval = summary.interval ? Object.values(summary.interval).map(format) : null;
    const zeros = unparsed && summary.mean_with_zeros !== undefined ? format(summary.mean_with_zeros) : null;
    const axis = ["0", "50", "100"].map((mark) => make("span", {}, mark));
    return make(
      "div",
      { class: "card" },
      make("h2", {}, this.say("scores", { name })),
      make("p", {}, make("strong", { class: "big" }, mean === null ? "–" : mean.toFixed(2)), ` ${this.say("mean")}`),
      interval ? make("p", {}, this.say("interval", { low: interval[0], high: interval[1] })) : null,
      make("p", {}, this.say("scored", { scored, total, unparsed, failed })),
      zeros ? make("p", { class: "quiet" }, this.say("zeros", { mean: zeros })) : null,
      bars,
      make("div", { class: "axis", "aria-hidden": "true" }, axis),
    );
  }

  comparisonCard(comparison) {
    const bar = make("div", { class: "stacked", "aria-hidden": "true" });
    const counts = OUTCOMES.map((outcome) => this.entries.filter(FILTERS[outcome]).length);
    for (const [index, outcome] of OUTCOMES.entries()) {
      const part = make("span", { class: outcome });
      part.style.flexGrow = counts[index];
      bar.append(part);
    }
    const legend = OUTCOMES.map((outcome, index) => this.mark(outcome, ` ${counts[index]}`));
    // What belongs to one convention for mixed verdicts stands under its name; other numbers are of the whole.
    const isConvention = ([, value]) => typeof value === "object" && value !== null;
    const conventions = Object.entries(comparison).filter(isConvention);
    const plain = Object.entries(comparison).filter((one) => !isConvention(one) && one[1] !== 0 && one[0] !== "judge");
    if (comparison.agreement) plain.push(["p_value", comparison.agreement.p_value]);
    const names = Object.keys(conventions[0]?.[1] ?? {});
    const rows = names.map((name) => [this.label(name), ...conventions.map(([, one]) => formatStat(name, one[name]))]);
    const table = makeTable(["", ...conventions.map(([name]) => this.label(name))], rows);
    return make(
      "div",
      { class: "card" },
      make("h2", {}, this.say("comparison")),
      make("p", { class: "quiet" }, this.say("win_means", { a: this.names[0], b: this.names[1] })),
      bar,
      make("p", { class: "marks" }, legend),
      makeTable([], plain.map(([name, value]) => [this.label(name), formatStat(name, value)])),
      rows.length ? make("details", {}, make("summary", {}, this.say("conventions")), table) : null,
    );
  }

  metricsCard(metrics, others) {
    const columns = [metrics, others].filter(Boolean).map((one) => new Map(flatten(one)));
    const names = new Set(columns.flatMap((column) => [...column.keys()]));
    const rows = [...names].map((name) => [this.label(name), ...columns.map((one) => formatStat(name, one.get(name)))]);
    const table = makeTable(["", ...this.names.slice(0, columns.length)], rows);
    const head = make("summary", {}, make("h2", {}, this.say("metrics")));
    const card = make("details", { class: "card" }, head, make("div", { class: "wide" }, table));
    card.open = !this.report.scores && !this.report.comparison;
    return card;
  }

  /** Return what a number of the report is called: in interface words where there are some, else its own name. */
  label(name) {
    const found = this.words[`stat ${name}`];
    return found ? found[this.language] : name.replaceAll("_", " ");
  }

  // The entries.

  /** Show the entries that a changed filter, search or sorting leaves, from the first of them on. */
  look(change) {
    Object.assign(this.view, change);
    this.shown = selectEntries(this.entries, this.view, this.blind.choices);
    for (const node of find("filters").children) {
      const name = node.dataset.filter;
      const count = this.entries.filter((one) => FILTERS[name](one, this.blind.choices)).length;
      node.textContent = `${this.say(`filter_${name}`)} ${count}`;
      node.setAttribute("aria-pressed", String(name === this.view.filter));
      node.hidden = !count && name !== this.view.filter;
    }
    find("count").textContent = this.say("count", { shown: this.shown.length, total: this.entries.length });
    this.turn(0);
  }

  /** Put the page that begins with place `first` into the document. */
  turn(first) {
    this.first = first;
    this.current = first - 1;
    const part = this.shown.slice(first, first + PAGE_SIZE);
    find("list").replaceChildren(...part.map((entry, index) => this.entryCard(entry, first + index)));
    const [page, pages] = [first / PAGE_SIZE + 1, Math.max(1, Math.ceil(this.shown.length / PAGE_SIZE))];
    find("pages").hidden = pages === 1;
    find("page").textContent = this.say("page", { page, pages });
    find("page-back").disabled = page === 1;
    find("page-on").disabled = page === pages;
  }

  goTo(place) {
    if (place < 0 || place >= this.shown.length) return;
    if (place < this.first || place >= this.first + PAGE_SIZE) this.turn(place - (place % PAGE_SIZE));
    const node = find("list").children[place - this.first];
    node.focus({ preventScroll: true });
    node.scrollIntoView();
  }

  entryCard(entry, place) {
    const marks = [];
    if (entry.pair) marks.push(this.mark(entry.pair.outcome ?? (entry.pair.error ? "failed" : "unparsed")));
    if (FILTERS.disagree(entry)) marks.push(this.mark("disagree"));
    if (entry.pair?.status === "identical") marks.push(this.mark("identical"));
    const mine = this.blind.choices[entry.number];
    if (mine) marks.push(make("span", { class: `mark ${mine}` }, this.say("you", { outcome: this.say(mine) })));
    const head = make("h3", {}, `#${entry.number} `, make("span", { class: "marks" }, marks));
    const sides = [this.side(this.names[0], entry.response, entry.score)];
    if (typeof entry.against === "string") sides.push(this.side(this.names[1], entry.against, entry.score_against));
    const label = this.say("entry", { number: entry.number });
    const parts = [head, this.task(entry), make("div", { class: "sides" }, sides), this.replies(entry)];
    return make("article", { tabindex: "-1", "data-place": place, "aria-label": label }, parts);
  }

  mark(name, more = "") {
    return make("span", { class: `mark ${name}` }, `${this.say(name)}${more}`);
  }

  /** Return what was asked: instruction, input where there is one, reference. */
  task(entry) {
    const parts = ["instruction", "input", "output"].filter((name) => name !== "input" || entry.input);
    return make("div", { class: "task" }, parts.map((name) => this.titled(this.say(name), entry[name])));
  }

  side(name, text, score) {
    const told = score?.status === "scored" ? make("span", { class: "mark score" }, format(score.score)) : null;
    return this.titled(make("bdi", {}, name), text, told ?? (score ? this.mark(score.status) : null));
  }

  titled(title, text, extra = null) {
    return make("div", { class: "titled" }, make("h4", {}, title, " ", extra), this.text(text));
  }

  /** Return a text to read, at first its beginning; without a language, for it may be in any. */
  text(text) {
    const full = String(text ?? "");
    if (!full) return make("div", { class: "text quiet" }, this.say("empty"));
    let count = FIRST_CHARACTERS;
    const body = make("div", { class: "text", dir: "auto", lang: "" }, cut(full, count));
    if (full.length <= count) return body;
    const label = () => this.say("more", { shown: count, total: full.length });
    const more = make("button", { type: "button" }, label());
    more.addEventListener("click", () => {
      count *= 10;
      body.textContent = cut(full, count);
      body.classList.add("long");
      more.textContent = label();
      more.hidden = count >= full.length;
    });
    return make("div", {}, body, more);
  }

  /** Return what the judge wrote, word by word, and why a reply did not come. */
  replies(entry) {
    const parts = [];
    const asked = { score: this.names[0], score_against: this.names[1], pair: this.say("comparison") };
    for (const [kind, name] of Object.entries(asked)) {
      const { replies = [], error = null, verdicts = [] } = entry[kind] ?? {};
      for (const [index, reply] of replies.entries()) {
        if (reply === null) continue; // it did not come; the error says why
        const title = kind === "pair" ? this.order(index, verdicts[index]) : this.say("reply", { name, n: index + 1 });
        parts.push(this.titled(title, reply));
      }
      if (error) parts.push(this.titled(this.say("error", { name }), error));
    }
    return parts.length ? make("details", {}, make("summary", {}, this.say("replies")), parts) : null;
  }

  /** Say what the judge's verdict in one of the two orders means: in the second, A is the other response. */
  order(index, verdict) {
    const sides = index === 0 ? this.names : [...this.names].reverse();
    const winner = { A: sides[0], B: sides[1], tie: this.say("tie") }[verdict] ?? this.say("unparsed");
    return this.say("order", { n: index + 1, a: sides[0], b: sides[1], winner });
  }
}

const content = (id) => JSON.parse(find(id).textContent);
new Page(content("report"), content("words")).start();
