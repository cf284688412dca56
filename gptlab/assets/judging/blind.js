"use strict";
// Blind mode: two responses to one entry on sides that a coin chose, without names and scores; a person says which is
// better, and later sees how often the judge said the same.

class Blind {
  constructor(page) {
    this.page = page;
    this.entries = page.entries.filter((one) => typeof one.response === "string" && typeof one.against === "string");
    this.key = reportKey(page.report);
    this.on = false;
    this.place = 0; // in `entries`
    this.choices = {}; // entry number -> outcome that the person chose
    try {
      this.choices = loadChoices(kept.get(this.storageName()), this.key, this.entries);
    } catch {
      // nothing is kept, or nothing of use; the next choice replaces it
    }
  }

  storageName() {
    return `gptlab blind ${this.key}`;
  }

  start() {
    for (const node of find("choices").querySelectorAll("[data-side]")) {
      node.addEventListener("click", () => this.choose(node.dataset.side));
    }
    find("back").addEventListener("click", () => this.goTo(this.place - 1));
    find("on").addEventListener("click", () => this.goTo(this.place + 1));
    find("agreement").addEventListener("toggle", () => this.showAgreement());
    find("save").addEventListener("click", () => this.save());
    find("load").addEventListener("change", (event) => this.load(event.target));
  }

  goTo(place, { focus = true } = {}) {
    if (place < 0 || place >= this.entries.length) return;
    this.place = place;
    const entry = this.entries[place];
    const left = firstIsLeft(this.key, entry.number);
    const texts = left ? [entry.response, entry.against] : [entry.against, entry.response];
    const sides = ["left", "right"].map((name, index) => this.page.titled(this.page.say(name), texts[index]));
    find("question").setAttribute("aria-label", this.page.say("entry", { number: entry.number }));
    const number = make("h3", {}, `#${entry.number}`);
    find("question").replaceChildren(number, this.page.task(entry), make("div", { class: "sides" }, sides));
    const chosen = sideOfOutcome(this.choices[entry.number], left);
    for (const node of find("choices").querySelectorAll("[data-side]")) {
      node.setAttribute("aria-pressed", String(node.dataset.side === chosen));
    }
    find("back").disabled = place === 0;
    find("on").disabled = place === this.entries.length - 1;
    const decided = this.entries.filter((one) => this.choices[one.number]).length;
    const told = { place: place + 1, total: this.entries.length, decided };
    find("progress").textContent = this.page.say(decided === this.entries.length ? "progress_done" : "progress", told);
    this.showAgreement();
    if (!focus) return;
    find("question").focus({ preventScroll: true });
    find("choosing").scrollIntoView();
  }

  /** Keep the person's choice and go on to the next entry without one; after the last, show the agreement. Before, it
   * is closed, so that nobody watches how each choice changes it. */
  choose(side) {
    const entry = this.entries[this.place];
    this.choices[entry.number] = outcomeOfSide(side, firstIsLeft(this.key, entry.number));
    this.keep();
    const order = [...this.entries.keys()].map((step) => (this.place + 1 + step) % this.entries.length);
    const next = order.find((place) => !this.choices[this.entries[place].number]);
    find("agreement").open = next === undefined;
    this.goTo(next ?? this.place, { focus: next !== undefined });
  }

  keep() {
    const done = kept.set(this.storageName(), saveChoices(this.page.report, this.key, this.choices));
    find("message").textContent = done ? "" : this.page.say("not_kept");
  }

  showAgreement() {
    if (!find("agreement").open) return;
    const { n, share, kappa, table } = agreement(decidedByBoth(this.entries, this.choices));
    const [a, b] = this.page.names;
    const words = OUTCOMES.map((outcome) => this.page.say(`table_${outcome}`, { a, b }));
    const told = { n, share: percent(share), kappa: format(kappa) };
    const head = [this.page.say("table_corner"), ...words];
    const rows = table.map((row, index) => [words[index], ...row.map(String)]);
    find("agreement-body").replaceChildren(
      make("p", {}, this.page.say(n ? "agreement_told" : "agreement_none", told)),
      make("p", { class: "quiet" }, this.page.say("kappa_means")),
      make("div", { class: "wide" }, makeTable(head, rows)),
    );
  }

  save() {
    const link = make("a", { download: `blind-${this.key}.json` });
    const text = saveChoices(this.page.report, this.key, this.choices);
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  async load(input) {
    try {
      Object.assign(this.choices, loadChoices(await input.files[0].text(), this.key, this.entries));
      this.keep();
      this.goTo(this.place, { focus: false });
      find("message").textContent = this.page.say("loaded", { n: Object.keys(this.choices).length });
    } catch (error) {
      find("message").textContent = this.page.say(error.message in this.page.words ? error.message : "load_strange");
    }
    input.value = "";
  }
}
