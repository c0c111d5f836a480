// Points at the mark nearest to the mouse or finger. `TIPS`: for a group of marks by its id, a text for each in order.
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
    const found = nearest(all, event.clientX, event.clientY, event.pointerType === "touch" ? 30 : 14);
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
document.documentElement.dataset.tips = [...figures.values()].reduce((sum, all) => sum + all.length, 0);
