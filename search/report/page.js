// What a page's figures and tables do. `TIPS`: for a group of marks by its id, a text for each in order. `FRAMES`: for a
// figure by its id, where its axes lie in its SVG, and the values at their ends.
"use strict";
const tip = document.getElementById("tip");
const figures = new Map(); // figure -> [{mark, text}]
for (const [id, texts] of Object.entries(TIPS)) {
  const group = document.getElementById(id);
  let marks = [...group.querySelectorAll("use")];
  if (marks.length !== texts.length) marks = [...group.querySelectorAll("path")].filter((p) => !p.closest("defs"));
  if (marks.length !== texts.length) throw new Error(`${id}: ${marks.length} marks for ${texts.length} texts`);
  const figure = group.closest("figure");
  figure.classList.add("tips");
  if (!figures.has(figure)) figures.set(figure, []);
  marks.forEach((mark, i) => figures.get(figure).push({ mark, text: texts[i] }));
}
document.documentElement.dataset.tips = [...figures.values()].reduce((sum, all) => sum + all.length, 0);

// Pointing shows the text of the mark nearest to the mouse or finger.
function nearest(all, x, y, reach) {
  let best = null;
  for (const each of all) {
    const box = each.mark.getBoundingClientRect();
    const far = Math.hypot(box.left + box.width / 2 - x, box.top + box.height / 2 - y);
    if (far <= reach) [reach, best] = [far, each]; // of equals the last, which is drawn on top
  }
  return best;
}
for (const [figure, all] of figures) {
  const point = (event) => {
    const inAxes = within(partOf(figure, "patch_2").getBoundingClientRect(), event.clientX, event.clientY);
    const found = inAxes && nearest(all, event.clientX, event.clientY, event.pointerType === "touch" ? 30 : 14);
    tip.hidden = !found;
    if (!found) return;
    tip.textContent = found.text;
    const box = tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, document.documentElement.clientWidth - box.width - 8);
    const above = event.clientY + 14 + box.height > window.innerHeight;
    tip.style.left = `${Math.max(4, left) + window.scrollX}px`;
    tip.style.top = `${(above ? event.clientY - box.height - 14 : event.clientY + 14) + window.scrollY}px`;
  };
  figure.addEventListener("pointermove", point);
  figure.addEventListener("pointerdown", point);
  figure.addEventListener("pointerleave", () => (tip.hidden = true));
}

// A rectangle drawn in a figure becomes its axes; a double click or the button shows all again.
function partOf(figure, name) {
  return figure.querySelector(`[id="${figure.id}-${name}"]`);
}
function within(box, x, y) {
  return box.left <= x && x <= box.right && box.top <= y && y <= box.bottom;
}
function svgElement(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
function clipped(path) { // moves without its clip: that stays with a group around it
  const group = svgElement("g", { "clip-path": path.getAttribute("clip-path") });
  path.removeAttribute("clip-path");
  path.replaceWith(group);
  group.append(path);
  return path;
}
function ticks(low, high) { // round values and their texts
  const rough = (high - low) / 6, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((k) => k * power >= rough);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const values = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) values.push(k * step);
  return values.map((value) => [value, value.toFixed(digits)]);
}
function makeZoomable(figure, { box: [left, top, right, bottom], x, y, names }) {
  const svg = figure.querySelector("svg");
  const drawn = (selector) =>
    [...partOf(figure, "axes_1").querySelectorAll(selector)].filter(
      (element) => !element.closest('[id*="matplotlib.axis_"], [id*="legend_"], defs'),
    );
  const marked = new Set(figures.get(figure).map((each) => each.mark));
  const uses = drawn("use").map((use) => [use, +use.getAttribute("x"), +use.getAttribute("y")]);
  const paths = drawn("path[clip-path]").map(clipped);
  const lines = paths.filter((path) => !marked.has(path));
  const alone = paths.filter((path) => marked.has(path)).map((path) => {
    const { x, y, width, height } = path.getBBox();
    return [path, x + width / 2, y + height / 2];
  });
  const fromX = (value) => left + ((value - x[0]) / (x[1] - x[0])) * (right - left);
  const fromY = (value) => bottom - ((value - y[0]) / (y[1] - y[0])) * (bottom - top);
  const toX = (at) => x[0] + ((at - left) / (right - left)) * (x[1] - x[0]);
  const toY = (at) => y[0] + ((bottom - at) / (bottom - top)) * (y[1] - y[0]);
  alone.push(...names.map(([a, b], k) => [partOf(figure, `name-${k}`), fromX(a), fromY(b)]));
  lines.forEach((line) => line.setAttribute("vector-effect", "non-scaling-stroke"));
  const button = document.createElement("button");
  button.textContent = "show all";
  button.hidden = true;
  figure.querySelector("figcaption").append(" ", button);
  let view, scale, shift; // the part of the box that is shown, and how what lies in it is drawn

  function drawAxis(letter, values, place) {
    const across = letter === "x";
    const old = [...figure.querySelectorAll(`[id^="${figure.id}-${letter}tick_"]`)];
    const model = old[0], at = +model.querySelector("use").getAttribute(letter);
    model.parentNode.querySelectorAll(".zoomed").forEach((tick) => tick.remove());
    old.forEach((tick) => (tick.style.display = values ? "none" : ""));
    for (const [value, text] of values ?? []) {
      const tick = model.cloneNode(true), move = place(value) - at;
      tick.classList.add("zoomed");
      [tick, ...tick.querySelectorAll("[id]")].forEach((element) => element.removeAttribute("id"));
      tick.querySelector("defs")?.remove();
      tick.style.display = "";
      tick.setAttribute("transform", across ? `translate(${move} 0)` : `translate(0 ${move})`);
      tick.querySelector("text").textContent = text;
      model.before(tick);
    }
  }
  function show(part) {
    view = part;
    const [x0, y0, x1, y1] = part, whole = button.hidden = part === all;
    scale = [(right - left) / (x1 - x0), (bottom - top) / (y1 - y0)];
    shift = [left - scale[0] * x0, top - scale[1] * y0];
    const moved = (a, b) => [scale[0] * a + shift[0], scale[1] * b + shift[1]];
    for (const [use, a, b] of uses) {
      const [c, d] = moved(a, b);
      use.setAttribute("x", c);
      use.setAttribute("y", d);
    }
    for (const [element, a, b] of alone) {
      const [c, d] = moved(a, b);
      element.setAttribute("transform", `translate(${c - a} ${d - b})`);
      element.style.display = left <= c && c <= right && top <= d && d <= bottom ? "" : "none";
    }
    for (const line of lines) line.setAttribute("transform", `matrix(${scale[0]} 0 0 ${scale[1]} ${shift.join(" ")})`);
    drawAxis("x", whole ? null : ticks(toX(x0), toX(x1)), (value) => moved(fromX(value), 0)[0]);
    drawAxis("y", whole ? null : ticks(toY(y1), toY(y0)), (value) => moved(0, fromY(value))[1]);
  }
  const all = [left, top, right, bottom];
  show(all);

  let start = null, rectangle = null;
  const point = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [Math.min(Math.max(at.x, left), right), Math.min(Math.max(at.y, top), bottom)];
  };
  const corners = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
  const stop = () => {
    rectangle?.remove();
    start = rectangle = null;
  };
  svg.addEventListener("pointerdown", (event) => {
    if (event.button || !within(partOf(figure, "patch_2").getBoundingClientRect(), event.clientX, event.clientY)) return;
    start = point(event);
    rectangle = svgElement("rect", { class: "zoom" });
    svg.append(rectangle);
    event.preventDefault(); // selects no text
  });
  document.addEventListener("pointermove", (event) => {
    if (!start) return;
    const [x0, y0, x1, y1] = corners(start, point(event));
    for (const [key, value] of Object.entries({ x: x0, y: y0, width: x1 - x0, height: y1 - y0 }))
      rectangle.setAttribute(key, value);
  });
  document.addEventListener("pointerup", (event) => {
    if (!start) return;
    let [x0, y0, x1, y1] = corners(start, point(event));
    stop();
    if (x1 - x0 < 6 && y1 - y0 < 6) return; // a click
    if (x1 - x0 < 6) [x0, x1] = [left, right]; // a line is of the other axis alone
    if (y1 - y0 < 6) [y0, y1] = [top, bottom];
    const back = (at, k) => (at - shift[k]) / scale[k];
    const part = [back(x0, 0), back(y0, 1), back(x1, 0), back(y1, 1)];
    const least = 1e-4; // of the axes
    if (part[2] - part[0] > least * (right - left) && part[3] - part[1] > least * (bottom - top)) show(part);
  });
  document.addEventListener("pointercancel", stop);
  svg.addEventListener("dblclick", () => show(all));
  button.addEventListener("click", () => show(all));
}
for (const [id, frame] of Object.entries(FRAMES)) makeZoomable(document.getElementById(id), frame);

// A table's heads sort its rows: upwards, downwards, as they were. What has no figure stays at the end.
const NUMBER = /^([-+]?[\d,]*\.?\d+(?:e[-+]?\d+)?)([kMG]?)%?\*?( ± [\d.]+)?$/;
function numeric(text) {
  const [, digits, unit] = text.match(NUMBER) ?? [];
  return digits === undefined ? NaN : digits.replaceAll(",", "") * { k: 1e3, M: 1e6, G: 1e9, "": 1 }[unit];
}
function compare(a, b) { // texts, the numbers in them by their size
  const [first, second] = [a, b].map((text) => text.split(/(\d+(?:\.\d+)?)/)); // every other piece is a number
  for (let k = 0; k < Math.min(first.length, second.length); k++) {
    const order = k % 2 ? first[k] - second[k] : first[k].localeCompare(second[k]);
    if (order) return order;
  }
  return first.length - second.length;
}
function sort(table, bodies, column, order) {
  const texts = new Map(bodies.map((body) => [body, body.rows[0].cells[column].textContent]));
  const filled = bodies.filter((body) => texts.get(body)), empty = bodies.filter((body) => !texts.get(body));
  const numbers = filled.every((body) => NUMBER.test(texts.get(body)));
  const less = (a, b) => (numbers ? numeric(a) - numeric(b) : compare(a, b));
  const sign = order === "ascending" ? 1 : -1;
  if (order) filled.sort((a, b) => sign * less(texts.get(a), texts.get(b)));
  table.append(...(order ? [...filled, ...empty] : bodies));
}
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells], bodies = [...table.tBodies];
  heads.forEach((head, column) => {
    if (!head.textContent) return;
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = { ascending: "descending", descending: "" }[head.getAttribute("aria-sort")] ?? "ascending";
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      if (order) head.setAttribute("aria-sort", order);
      sort(table, bodies, column, order);
    });
  });
}
