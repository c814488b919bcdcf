"use strict";
// One comparison: two pictures under a line, moments to choose from, and what was measured. Everything is in #data.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const MOST_ZOOM = 32, STEP = 1.25, LINE_STEP = 0.02, PAN_STEP = 60;
const films = data.films; // [{role, name, note}]
const view = { mode: "split", at: 0.5, zoom: 1, x: 0, y: 0, moment: 0, left: 0, right: 1 };
const [width, height] = data.shown; // of the picture, its pixels made square

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// ---- the picture ----

function fitted() {
  const stage = $("stage");
  return Math.min(stage.clientWidth / width, stage.clientHeight / height);
}

/** Keep the picture within the stage, or in its middle where it is smaller. */
function place() {
  const stage = $("stage"), scale = fitted() * view.zoom;
  const bounded = (at, room, size) => (size <= room ? (room - size) / 2 : Math.min(Math.max(at, room - size), 0));
  view.x = bounded(view.x, stage.clientWidth, width * scale);
  view.y = bounded(view.y, stage.clientHeight, height * scale);
  for (const image of [$("left"), $("right")]) {
    image.style.width = `${width}px`;
    image.style.height = `${height}px`;
    // Whole pixels: soft rims would show in the difference.
    const [across, down] = [Math.round(width * scale) / width, Math.round(height * scale) / height];
    image.style.transform = `translate(${Math.round(view.x)}px, ${Math.round(view.y)}px) scale(${across}, ${down})`;
    image.classList.toggle("coarse", scale * devicePixelRatio >= 2);
  }
  $("frame").classList.toggle("zoomed", view.zoom > 1);
  $("zoom").textContent = `${Math.round(100 * scale * devicePixelRatio)} %`;
  $("fit").disabled = $("out").disabled = view.zoom === 1;
  setLine(view.at);
}

/** Zoom by a factor about a point of the stage, its middle if none is given. */
function zoomBy(factor, px = $("stage").clientWidth / 2, py = $("stage").clientHeight / 2) {
  const most = Math.max(MOST_ZOOM / (fitted() * devicePixelRatio), 1);
  const zoom = Math.min(Math.max(view.zoom * factor, 1), most);
  const change = zoom / view.zoom;
  view.x = px - (px - view.x) * change;
  view.y = py - (py - view.y) * change;
  view.zoom = zoom;
  place();
}

function panBy(dx, dy) {
  view.x += dx;
  view.y += dy;
  place();
}

function setLine(at) {
  view.at = Math.min(Math.max(at, 0), 1);
  const percent = Math.round(100 * view.at);
  $("line").style.left = `${100 * view.at}%`;
  $("line").setAttribute("aria-valuenow", percent);
  $("line").setAttribute("aria-valuetext", `${percent} % ${films[view.left].role}, ${100 - percent} % ${films[view.right].role}`);
  const hidden = { split: 100 * (1 - view.at), left: 0, right: 100, difference: 0 }[view.mode];
  $("clip").style.clipPath = `inset(0 ${hidden}% 0 0)`;
}

function setMode(mode) {
  view.mode = mode;
  for (const name of ["split", "left", "right", "difference"]) $("frame").classList.toggle(name, name === mode);
  for (const button of $("modes").children) button.setAttribute("aria-pressed", button.dataset.mode === mode);
  setLine(view.at);
}

function show(moment) {
  view.moment = Math.min(Math.max(moment, 0), data.moments.length - 1);
  const { pictures, seconds, figures } = data.moments[view.moment];
  for (const [side, film] of [["left", films[view.left]], ["right", films[view.right]]]) {
    $(side).src = pictures[films.indexOf(film)];
    $(side).alt = `${film.role}: ${film.name} at ${clock(seconds)}`;
    $(`${side}-tag`).textContent = film.name + (film.note ? ` (${film.note})` : "");
    $(`${side}-tag`).title = $(`${side}-tag`).textContent;
  }
  [...$("frames").children].forEach((button, i) => {
    button.setAttribute("aria-pressed", i === view.moment);
    if (i === view.moment) $("frames").scrollTo({ left: button.offsetLeft - 40 });
  });
  $("now-title").textContent = data.moments.length > 1 ? `At ${clock(seconds)}, against ${data.truth}` : `Against ${data.truth}`;
  $("now").replaceChildren(table(["", ...roles], data.metrics.map(({ key, title }) =>
    [title, ...best(key, roles.map((role) => figures[role]?.[key] ?? null))])));
  for (const plot of plots) plot.mark();
}

// ---- figures ----

const roles = Object.keys(data.series);
const named = (role) => `${role} against ${data.truth}`;
const digits = Object.fromEntries(data.metrics.map(({ key, digits }) => [key, digits]));
const unit = Object.fromEntries(data.metrics.map(({ key, unit }) => [key, unit]));
const said = (key, value) => (value === null ? "equal" : `${value.toFixed(digits[key])}${unit[key] && ` ${unit[key]}`}`);

function clock(seconds) {
  const minutes = Math.floor(Math.max(seconds, 0) / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(2).padStart(5, "0")}`;
}

/** Cells, the best of several marked; null, which is equal to the truth, is above all. */
function best(key, values) {
  const rank = values.map((value) => value ?? Infinity), most = Math.max(...rank);
  return values.map((value, i) => ({ text: said(key, value), best: values.length > 1 && rank[i] === most }));
}

function table(head, rows) {
  const cells = (row, name) => row.map((cell) =>
    element(name, cell.best ? { class: "best" } : {}, cell.text ?? cell));
  return element("div", { class: "scroll" }, element("table", {},
    element("thead", {}, element("tr", {}, ...cells(head, "th"))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...cells(row, "td"))))));
}

function svg(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** One metric over time: a curve for each film, a mark for each stored moment; a press chooses the nearest. */
function plot({ key, title }) {
  const times = data.seconds, lines = roles.map((role) => [role, data.series[role][key]]);
  const finite = lines.flatMap(([, values]) => values.filter((value) => value !== null));
  if (times.length < 2 || !finite.length) return null;
  const room = { left: 46, right: 8, top: 8, bottom: 20, height: 170 };
  let low = Math.min(...finite), high = Math.max(...finite);
  const margin = (high - low) * 0.06 || Math.abs(high) * 0.01 || 1;
  [low, high] = [low - margin, high + margin];
  const readout = element("span", {});
  const drawing = svg("svg", { role: "img", "aria-label": `${title} over time. ` + lines.map(([role]) =>
    `${named(role)}: mean ${said(key, data.summary[role][key].mean)}`).join(", ") });
  const legend = lines.map(([role]) => element("span", {}, element("i", { class: `swatch ${role.toLowerCase()}` }), role));
  const figure = element("figure", {}, element("figcaption", {}, element("b", {}, title), readout,
    ...(lines.length > 1 ? legend : [])), drawing);
  let across = 1;
  const x = (seconds) => room.left + (seconds - times[0]) / (times.at(-1) - times[0] || 1) * (across - room.left - room.right);
  const y = (value) => room.top + (high - value) / (high - low) * (room.height - room.top - room.bottom);

  function draw() {
    across = Math.max(drawing.clientWidth, 120);
    drawing.replaceChildren();
    for (const value of ticks(low, high, 4)) {
      drawing.append(svg("line", { class: "grid", x1: room.left, x2: across - room.right, y1: y(value), y2: y(value) }),
        svg("text", { x: room.left - 6, y: y(value) + 4, "text-anchor": "end" }, Number(value.toPrecision(6))));
    }
    for (const seconds of ticks(times[0], times.at(-1), Math.max(Math.floor(across / 110), 2))) {
      drawing.append(svg("text", { x: x(seconds), y: room.height - 4, "text-anchor": "middle" }, `${Number(seconds.toPrecision(6))} s`));
    }
    for (const [role, values] of lines) {
      const pen = values.map((value, i) => value === null ? "" :
        `${i && values[i - 1] !== null ? "L" : "M"}${x(times[i]).toFixed(1)} ${y(value).toFixed(1)}`).join("");
      drawing.append(svg("path", { class: `curve ${role.toLowerCase()}`, d: pen }));
    }
    data.moments.forEach(({ seconds }) => drawing.append(svg("line",
      { class: "stored", x1: x(seconds), x2: x(seconds), y1: room.top, y2: room.height - room.bottom })));
    mark();
  }
  function mark() {
    drawing.querySelectorAll(".stored").forEach((line, i) => line.classList.toggle("chosen", i === view.moment));
  }
  const secondsAt = (event) => times[0] + (event.clientX - drawing.getBoundingClientRect().left - room.left) /
    (across - room.left - room.right) * (times.at(-1) - times[0]);
  drawing.addEventListener("pointermove", (event) => {
    const i = nearest(times, secondsAt(event));
    readout.textContent = `${clock(times[i])}: ` + lines.map(([role, values]) => `${role} ${said(key, values[i])}`).join(", ");
  });
  drawing.addEventListener("pointerleave", () => (readout.textContent = ""));
  drawing.addEventListener("click", (event) => show(nearest(data.moments.map(({ seconds }) => seconds), secondsAt(event))));
  new ResizeObserver(draw).observe(drawing);
  return { figure, mark };
}

function nearest(times, seconds) {
  return times.reduce((found, time, i) => (Math.abs(time - seconds) < Math.abs(times[found] - seconds) ? i : found), 0);
}

/** Round numbers from low to high, about `count` of them. */
function ticks(low, high, count) {
  const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((each) => each * power >= rough) * power;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) found.push(value);
  return found;
}

function csv() {
  const head = ["seconds", ...roles.flatMap((role) => data.metrics.map(({ key }) => `${key}_${role}`))];
  const rows = data.seconds.map((seconds, i) =>
    [seconds, ...roles.flatMap((role) => data.metrics.map(({ key }) => data.series[role][key][i] ?? "inf"))]);
  return [head, ...rows].map((row) => row.join(",")).join("\n");
}

// ---- hands ----

function listen() {
  const frame = $("frame"), line = $("line"), held = new Map();
  let onLine = false, spread = 0;
  const at = (event) => {
    const box = frame.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const distance = ([[ax, ay], [bx, by]]) => Math.hypot(ax - bx, ay - by) || 1;
  frame.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    held.set(event.pointerId, at(event));
    frame.setPointerCapture(event.pointerId);
    if (held.size === 2) spread = distance([...held.values()]);
    onLine = held.size === 1 && view.mode === "split" && (line.contains(event.target) || view.zoom === 1);
    if (onLine) {
      line.focus({ preventScroll: true, focusVisible: false });
      setLine(at(event)[0] / frame.clientWidth);
    } else frame.focus({ preventScroll: true, focusVisible: false });
    frame.classList.add("dragging");
    event.preventDefault();
  });
  frame.addEventListener("pointermove", (event) => {
    if (!held.has(event.pointerId)) return;
    const before = held.get(event.pointerId), now = at(event);
    held.set(event.pointerId, now);
    if (held.size === 2) {
      const fingers = [...held.values()], wide = distance(fingers);
      panBy((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
      zoomBy(wide / spread, (fingers[0][0] + fingers[1][0]) / 2, (fingers[0][1] + fingers[1][1]) / 2);
      spread = wide;
    } else if (onLine) setLine(now[0] / frame.clientWidth);
    else panBy(now[0] - before[0], now[1] - before[1]);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    frame.addEventListener(end, (event) => {
      held.delete(event.pointerId);
      onLine = onLine && held.size > 0;
      frame.classList.toggle("dragging", held.size > 0);
    });
  }
  frame.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(STEP ** (-event.deltaY / (event.deltaMode ? 3 : 100)), ...at(event));
  }, { passive: false });
  frame.addEventListener("dblclick", (event) => (view.zoom > 1 ? zoomBy(1e-9) : zoomBy(4, ...at(event))));
  $("modes").addEventListener("click", (event) => event.target.dataset.mode && setMode(event.target.dataset.mode));
  $("in").addEventListener("click", () => zoomBy(STEP * STEP));
  $("out").addEventListener("click", () => zoomBy(1 / STEP / STEP));
  $("fit").addEventListener("click", () => zoomBy(1e-9));
  for (const side of ["left", "right"]) {
    films.forEach(({ role, name }, i) => $(`${side}-film`).append(new Option(`${role}: ${name}`, i)));
    $(`${side}-film`).value = view[side];
    $(`${side}-field`).hidden = films.length < 3;
    $(`${side}-film`).addEventListener("change", (event) => {
      view[side] = Number(event.target.value);
      show(view.moment);
      setLine(view.at);
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    const arrows = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const onPicture = event.target === frame || event.target === line;
    if (arrows && onPicture) {
      if (event.target === line || view.zoom === 1) setLine(view.at - arrows[0] * LINE_STEP * (event.shiftKey ? 5 : 1));
      else panBy(arrows[0] * PAN_STEP, arrows[1] * PAN_STEP);
      if (arrows[1] && view.zoom === 1) return; // the page may scroll
    } else if (event.target === line && event.key === "Home") setLine(0);
    else if (event.target === line && event.key === "End") setLine(1);
    else {
      const act = { "+": () => zoomBy(STEP), "=": () => zoomBy(STEP), "-": () => zoomBy(1 / STEP), 0: () => zoomBy(1e-9),
        s: () => setMode("split"), 1: () => setMode("left"), 2: () => setMode("right"), d: () => setMode("difference"),
        ",": () => show(view.moment - 1), ".": () => show(view.moment + 1) }[event.key.toLowerCase()];
      if (!act) return;
      act();
    }
    event.preventDefault();
  });
}

// ---- the page ----

const plots = [];
document.documentElement.style.setProperty("--shape", `${width} / ${height}`);
$("headline").textContent = films.map(({ role, name }) => `${role} ${name}`).join("  \u00b7  ");
if (data.moments.length > 1) {
  data.moments.forEach(({ seconds, thumbnail }, i) => {
    const button = element("button", { "aria-pressed": "false" }, element("img", { src: thumbnail, alt: "" }), clock(seconds));
    button.addEventListener("click", () => show(i));
    $("frames").append(button);
  });
}
plots.push(...data.metrics.map(plot).filter(Boolean));
$("plots").append(...plots.map(({ figure }) => figure));
$("over-time").hidden = !plots.length;
$("csv").append(element("a", { download: "figures.csv", href: `data:text/csv;charset=utf-8,${encodeURIComponent(csv())}` },
  "All figures as CSV"));
$("whole").append(table(["", ...roles.flatMap((role) => [`${role}: mean`, "lowest"])], data.metrics.map(({ key, title }) => {
  const means = best(key, roles.map((role) => data.summary[role][key].mean));
  return [title, ...roles.flatMap((role, i) => {
    const { lowest, lowest_at_s: when } = data.summary[role][key];
    return [means[i], lowest === null ? "equal" : `${said(key, lowest)} at ${clock(when)}`];
  })];
})));
$("whole").parentElement.querySelector("h2").textContent = data.moments.length > 1 ? `All of it, against ${data.truth}` : "Notes";
$("whole").hidden = data.moments.length < 2;
$("notices").append(...data.notices.map((sentence) => element("li", {}, sentence)));
listen();
new ResizeObserver(place).observe($("stage"));
setMode("split");
show(0);
place();
