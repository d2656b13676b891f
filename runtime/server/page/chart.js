// Turns a list of numbers into a small line, and pages into a grid.

import { svg } from "./dom.js";

const WIDTH = 120;
const HEIGHT = 28;

/** The last `length` values, newest at the right; null leaves a gap. */
export function sparkline(values, length) {
  const known = values.filter((value) => value !== null);
  const top = Math.max(...known, 1e-9);
  const x = (index) => WIDTH * (1 - (values.length - 1 - index) / (length - 1));
  const y = (value) => HEIGHT - 1.5 - (value / top) * (HEIGHT - 3);
  let path = "";
  let pen = false;
  values.forEach((value, index) => {
    if (value === null) { pen = false; return; }
    path += `${pen ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = true;
  });
  return svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { d: `M0 ${HEIGHT - 0.5}H${WIDTH}`, class: "base" }), svg("path", { d: path }));
}

const GAP = 2;

/** A canvas of squares, one a page, drawn as large as its width allows. */
export class PageGrid {
  #pages = "";
  #columns = 1;
  #cell = 1;

  /** `colours` maps a page's letter to the name of a CSS variable; `onHover(page, event)` gets null outside. */
  constructor(canvas, colours, onHover) {
    this.canvas = canvas;
    this.colours = colours;
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
    canvas.addEventListener("pointermove", (event) => onHover(this.#pageAt(event), event));
    canvas.addEventListener("pointerleave", (event) => onHover(null, event));
  }

  update(pages) {
    this.#pages = pages;
    this.draw();
  }

  draw() {
    const width = this.canvas.parentElement.clientWidth;
    if (!width || !this.#pages) return;
    const scale = devicePixelRatio || 1;
    const count = this.#pages.length;
    // the largest squares that keep the grid under a third as tall as a wide window
    let cell = 16;
    while (cell > 3 && Math.ceil(count / Math.floor(width / (cell + GAP))) * (cell + GAP) > 320) cell--;
    this.#cell = cell + GAP;
    this.#columns = Math.max(1, Math.floor(width / this.#cell));
    const height = Math.ceil(count / this.#columns) * this.#cell;
    this.canvas.width = width * scale;
    this.canvas.height = height * scale;
    this.canvas.style.height = `${height}px`;
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    const style = getComputedStyle(this.canvas);
    for (const [letter, variable] of Object.entries(this.colours)) {
      // a registered colour, so that light-dark() arrives as one colour
      context.fillStyle = style.getPropertyValue(variable);
      for (let page = 0; page < count; page++) {
        if (this.#pages[page] !== letter) continue;
        context.fillRect((page % this.#columns) * this.#cell, Math.floor(page / this.#columns) * this.#cell, cell, cell);
      }
    }
  }

  #pageAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / this.#cell);
    const page = Math.floor((event.clientY - box.top) / this.#cell) * this.#columns + column;
    return column < this.#columns && page < this.#pages.length ? page : null;
  }
}
