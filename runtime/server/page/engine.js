// Draws what the engine does: its snapshot is asked for once a second while the view is open.

import { getJson } from "./api.js";
import { $, h } from "./dom.js";
import { PageGrid, sparkline } from "./chart.js";

const PERIOD_MS = 1000;
const HISTORY = 60;
const STATES = {
  f: { name: "free", colour: "--page-free" },
  a: { name: "active", colour: "--page-active" },
  s: { name: "shared", colour: "--page-shared" },
  c: { name: "cached", colour: "--page-cached" },
};
const EXPLAIN = { free: "", active: "held by one request", shared: "held by several requests", cached: "kept for a prompt that begins alike" };

/** Each tile: its name, how it is computed from (snapshot, change since the last one), how it reads. */
const TILES = [
  { name: "Output", unit: "tokens/s", value: (now, change) => change && change.output_tokens / change.seconds, digits: 0 },
  { name: "Prompts", unit: "tokens/s", value: (now, change) => change && change.prompt_tokens / change.seconds, digits: 0 },
  { name: "First token", unit: "ms", value: (now) => now.ttft_s && now.ttft_s.p50 * 1000, digits: 0 },
  { name: "Running", unit: "requests", value: (now) => now.num_running, digits: 0 },
  { name: "Waiting", unit: "requests", value: (now) => now.num_waiting, digits: 0 },
  { name: "KV cache in use", unit: "%", digits: 0,
    value: (now) => 100 * (now.num_active_pages + now.num_shared_pages) / now.num_pages },
  { name: "Prompt from cache", unit: "%", digits: 0, value: (now) => share(now.counters.prefix_hit_tokens, now.counters.prompt_tokens) },
  { name: "Drafts accepted", unit: "%", digits: 0, value: (now) => share(now.counters.accepted_tokens, now.counters.proposed_tokens) },
];

const share = (part, whole) => (whole ? 100 * part / whole : null);
const format = (value, digits) => (value === null || value === undefined ? "–"
  : value.toLocaleString("en", { maximumFractionDigits: value < 10 && digits === 0 && value % 1 ? 1 : digits }));

const count = (value, noun) => `${format(value, 0)} ${noun}${value === 1 ? "" : "s"}`;

export class EngineView {
  #timer = 0;
  #last = null;
  #lastAt = 0;
  #tiles = TILES.map((tile) => ({ tile, history: [], number: h("strong", null, "–"), spark: h("div", null) }));
  #status = h("p", { class: "engine-status" }, "Asking the engine");
  #legend = h("ul", { class: "page-legend" });
  #hover = h("p", { class: "page-hover" }, "\u00a0");
  #canvas = h("canvas", { role: "img", "aria-label": "Pages of the KV cache" });
  #requests = h("div", null);
  #grid;
  #pages = "";

  constructor() {
    $("engine").append(
      this.#status,
      h("dl", { class: "tiles" }, this.#tiles.map(({ tile, number, spark }) =>
        h("div", { class: "tile" }, h("dt", null, tile.name), h("dd", null, number, h("span", null, ` ${tile.unit}`)), spark))),
      h("h2", null, "KV cache"), this.#legend, h("div", { class: "page-grid" }, this.#canvas), this.#hover,
      h("h2", null, "Requests"), this.#requests);
    this.#grid = new PageGrid(this.#canvas, Object.fromEntries(Object.entries(STATES).map(([letter, { colour }]) => [letter, colour])),
      (page) => this.#showPage(page));
  }

  start() {
    this.stop();
    this.#last = null;
    const tick = async () => {
      if (document.visibilityState === "visible") await this.#ask();
      if (this.#timer) this.#timer = setTimeout(tick, PERIOD_MS);
    };
    this.#timer = -1;
    tick();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = 0;
  }

  redraw() {
    this.#grid.draw();
  }

  async #ask() {
    let now;
    try {
      now = await getJson("v1/engine");
    } catch (error) {
      this.#status.textContent = error.status === 404 ? "This server doesn't tell what its engine does." : error.message;
      this.#status.classList.add("error");
      return;
    }
    const at = performance.now();
    this.#draw(now, this.#last && this.#change(now, at));
    this.#last = now;
    this.#lastAt = at;
  }

  #change(now, at) {
    const change = { seconds: (at - this.#lastAt) / 1000 };
    for (const [name, value] of Object.entries(now.counters)) change[name] = Math.max(0, value - this.#last.counters[name]);
    return change;
  }

  #draw(now, change) {
    this.#status.classList.remove("error");
    const { finished, aborted, preemptions } = now.counters;
    this.#status.textContent = `${count(finished, "request")} answered, ${format(aborted, 0)} stopped early, `
      + `${count(preemptions, "preemption")}; ${count(now.num_pages, "page")} of ${now.page_size_tokens} tokens`;
    for (const { tile, history, number, spark } of this.#tiles) {
      const value = tile.value(now, change) ?? null;
      history.push(value);
      if (history.length > HISTORY) history.shift();
      number.textContent = format(value, tile.digits);
      spark.replaceChildren(sparkline(history, HISTORY));
    }
    this.#pages = now.pages;
    const number = (name) => now[`num_${name}_pages`];
    this.#legend.replaceChildren(...Object.values(STATES).map(({ name }) =>
      h("li", { class: `page-${name}` }, h("strong", null, format(number(name), 0)), ` ${name}`)));
    this.#canvas.setAttribute("aria-label", Object.values(STATES).map(({ name }) => `${number(name)} pages ${name}`).join(", "));
    this.#grid.update(now.pages);
    this.#drawRequests(now.requests ?? []);
  }

  #drawRequests(requests) {
    if (requests.length === 0) {
      this.#requests.replaceChildren(h("p", { class: "quiet-text" }, "None at the moment."));
      return;
    }
    const head = ["Request", "State", "Prompt", "Output", "Pages"];
    this.#requests.replaceChildren(h("div", { class: "table" }, h("table", null,
      h("thead", null, h("tr", null, head.map((text, index) => h("th", { scope: "col", class: index > 1 ? "align-right" : null }, text)))),
      h("tbody", null, requests.map((request) => h("tr", null,
        h("td", null, h("code", null, request.id)), h("td", null, request.state),
        [request.num_prompt_tokens, request.num_output_tokens, request.num_pages].map((value) => h("td", { class: "align-right" }, format(value, 0)))))))));
  }

  #showPage(page) {
    const state = page === null ? null : STATES[this.#pages[page]];
    const why = state && EXPLAIN[state.name];
    this.#hover.textContent = state ? `Page ${page}: ${state.name}${why ? `, ${why}` : ""}` : "\u00a0";
  }
}
