// The live page: hears ten samples a second, and draws sixty frames. See the other files for what it draws.

import {Cursor} from "./cursor.js";
import {scalesFor} from "./curves.js";
import {Detail} from "./detail.js";
import {Events} from "./events.js";
import {Clock, indexAt} from "./history.js";
import {Load} from "./load.js";
import {fillLegend, readPalette} from "./states.js";
import {capacityFor} from "./strip.js";
import {Theme} from "./theme.js";
import {View} from "./view.js";
import {limitsWords, threadsNow} from "./words.js";

const LAG = 0.15;  // seconds that the strips are behind, so that a sample is there when its time comes
const NUMBERS = 250;  // ms between two changes of the numbers, that they can be read
const LOST = 1.5;  // seconds without news
const LEFT = 50, RIGHT = 18;  // css pixels beside the strips, for the numbers of rows and axes, and for letters

const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const clock = new Clock(), views = new Map();
let geometry = null, palette = null, scales = null, frozenAt = null;
let numbersAt = 0, scalesAt = 0, dirty = true, playingAlone = false, wasLost = false;
let missing = new Map();  // label of a source that could not be asked -> why

const detail = new Detail(async (path) => {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
});
const load = new Load("load");
const page = {views, detail, get geometry() { return geometry; }, now: shownTime};
const cursor = new Cursor(page);
detail.made = (panel) => cursor.watchPanel(panel);
detail.changes = () => cursor.place?.kind === "step" && cursor.clear();
const events = new Events("events", heard);

// The time at the strips' right edge. For those who want no motion it goes in steps of a second.
function shownTime() {
  const time = frozenAt ?? clock.now() - LAG;
  return calm.matches && frozenAt === null ? Math.floor(time) : time;
}

function heard({sources, time, lost}) {
  clock.heard(time);
  missing = new Map((lost ?? []).map(({label, error}) => [label, error]));
  for (const sample of sources) {
    const key = `${sample.label} ${sample.name}`;
    let view = views.get(key);
    if (!view) {
      views.set(key, view = new View(sample));
      $("live").append(view.article);
      cursor.watchView(view);
      dirty = true;
    }
    sample.clients = load.seen(sample.name);
    view.add(sample);
    if (view.strip.g && frozenAt === null && !view.strip.fits(sample.lanes.length)) dirty = true;
    view.strip.rows = Math.max(view.strip.rows, sample.lanes.length);
  }
}

// Everything that follows from the window's size, the number of sources, and the theme.
function arrange() {
  dirty = false;
  const columns = Math.min(3, views.size), rows = Math.max(1, ...[...views.values()].map((v) => v.strip.rows));
  $("live").dataset.columns = $("steps").dataset.columns = columns;
  const wide = columns === 1 && innerWidth > 900;
  for (const numbers of document.querySelectorAll(".numbers")) numbers.classList.toggle("wide", wide);
  const first = views.values().next().value;
  if (!first) return;
  const ratio = window.devicePixelRatio || 1;
  geometry = measure(first.stripPlot.clientWidth, ratio);
  const room = Math.max(200, Math.min(360, (innerHeight - 560) / 2));
  const height = heightFor(rows, room, ratio);
  for (const view of views.values()) {
    view.strip.resize(geometry, height, view.strip.rows, palette);
    view.curves.resize(geometry, palette);
  }
  const panel = $("steps").querySelector(".plot");
  const steps = measure(panel ? panel.clientWidth : first.stripPlot.clientWidth, ratio);
  detail.resize(steps, heightFor(rows, room, ratio) + Math.round(18 * ratio), palette);
}

// A sample is a whole number of device pixels wide, and about thirty seconds are seen; fewer where there is no room.
function measure(width, ratio) {
  const all = Math.max(120, Math.round(width * ratio));
  const left = Math.round(LEFT * ratio), right = Math.round(RIGHT * ratio);
  const columns = all - left - right, each = Math.max(Math.round(2 * ratio), Math.floor(columns / 300));
  return {width: all, left, right, columns, ratio, perSecond: each * 10, seconds: columns / each / 10};
}

// Device pixels for so many rows, in about `room` css pixels: at least two a row, and not more than 24 each.
function heightFor(rows, room, ratio) {
  const capacity = capacityFor(rows), css = Math.max(2 * capacity, Math.min(room, Math.max(96, 24 * capacity)));
  return capacity * Math.floor(css * ratio / capacity);
}

function frame(at) {
  requestAnimationFrame(frame);
  if (clock.offset === null) return look();
  if (dirty) arrange();
  if (!geometry) return;
  const now = page.now(), force = frame.force;
  frame.force = false;
  if (at - scalesAt > 500 || !scales) {
    scalesAt = at;
    scales = scalesFor([...views.values()].map((v) => v.shown), now - geometry.seconds);
  }
  const numbers = at - numbersAt > NUMBERS && (frozenAt === null || force);
  if (numbers) numbersAt = at;
  for (const view of views.values()) {
    const history = view.shown;
    if (view.strip.draw(history.samples, now, force)) view.curves.draw(history, now, scales);
    if (numbers && history.samples.length) view.show(history.samples.at(-1), history);
  }
  cursor.update();
  if (numbers) say($("limits"), limitsWords([...views.values()].map(({shown}) => shown.samples.at(-1)).filter(Boolean)));
  if (!wasLost) load.lookAgain(at);
  detail.look(at);
  if (playingAlone && detail.over) slowMotion(false);
  look();
}

// Is there news, and do the sources run?
function look() {
  events.look();
  const silent = events.silent, lost = silent > LOST, status = $("status");
  if (wasLost && !lost) load.look();
  wasLost = lost;
  say($("banner"), lost ? `No news for ${Math.floor(silent)} s; trying again.`
    : [...missing].map(([label, error]) => `${label}: ${error}`).join(" ")
      || (clock.offset !== null && !views.size ? "There is no server to watch yet." : ""));
  const is = lost ? "lost" : frozenAt !== null ? "frozen" : clock.offset === null ? "connecting" : "live";
  if (status.dataset.is !== is) {
    status.dataset.is = is;
    status.textContent = {lost: "no news", frozen: "frozen", connecting: "connecting", live: "live"}[is];
  }
  if (clock.offset === null || frozenAt !== null) return;
  const now = clock.now();
  for (const view of views.values()) {
    const sample = view.history.samples.at(-1);
    if (!sample) continue;
    view.complain(lost ? null : trouble(sample, now - sample.time));
  }
}

// Why there is nothing to see of a source whose last sample is so many seconds old; null: there is.
function trouble(sample, age) {
  if (age > LOST + 0.5) return `No news of it for ${Math.floor(age)} s: has process ${sample.process} ended?`;
  if (sample.lanes.length) return null;
  return threadsNow(sample) ? "Its threads run, but nobody records what they do." : "It has no threads yet.";
}

function say(element, text) {
  if (element.hidden !== !text) element.hidden = !text;
  if (text && element.textContent !== text) element.textContent = text;
}

function freeze(on) {
  if (on === (frozenAt !== null) || clock.offset === null) return;
  frozenAt = on ? shownTime() : null;
  for (const view of views.values()) view.freeze(on);
  if (on) {  // the numbers are those of the last sample that is seen
    for (const view of views.values()) {
      const {samples} = view.shown, sample = samples[Math.max(0, indexAt(samples, frozenAt))];
      samples.length = samples.indexOf(sample) + 1;
      if (sample) view.show(sample, view.shown);
    }
  }
  detail.freeze(on);
  press("freeze", on, on ? "Run" : "Freeze");
  if (!on) slowMotion(false);
  dirty = true;
}

function slowMotion(on) {
  if (on && !detail.panels.size) return;
  if (on) freeze(true);
  playingAlone = on;
  detail.play(on);
  press("slow", on, on ? "Stop" : "Slow motion");
  if (on) $("detail").scrollIntoView({block: "nearest", behavior: calm.matches ? "auto" : "smooth"});
}

function press(id, on, text) {
  $(id).setAttribute("aria-pressed", String(on));
  $(id).querySelector("span").textContent = text;
}

const theme = new Theme($("theme").querySelector("span"), () => {
  palette = readPalette();
  dirty = frame.force = true;
});
const windows = [0.002, 0.02, 0.2];
const actions = {
  " ": () => freeze(frozenAt === null),
  "s": () => slowMotion(!playingAlone),
  "d": () => $("trace").click(),
  "t": () => theme.toggle(),
  "k": () => load.toggle(),
  "w": () => detail.choose(windows[(windows.indexOf(detail.seconds) + 1) % 3]),
  "1": () => detail.slow(10), "2": () => detail.slow(100), "3": () => detail.slow(1000),
  "?": () => $("help-dialog").open ? $("help-dialog").close() : $("help-dialog").showModal(),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=number]")) return;
  if (event.key === " " && event.target.matches("button, a, input")) return;  // that is for them
  if (event.key === "Escape") cursor.clear();
  const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action || $("help-dialog").open && event.key !== "?") return;
  event.preventDefault();
  action();
});
for (const [id, key] of [["freeze", " "], ["slow", "s"], ["theme", "t"], ["help", "?"]]) {
  $(id).addEventListener("click", (event) => {
    actions[key]();
    if (event.detail) $(id).blur();  // by the pointer: the space bar is for the page again
  });
}

$("trace").addEventListener("click", () => {  // the browser shows no more than that it waits
  $("trace").querySelector("span").textContent = "Recording …";
  setTimeout(() => { $("trace").querySelector("span").textContent = "Record 5 s"; }, 5500);
});
fillLegend($("legend"));
load.look();
let width = 0;  // a scroll bar that comes or goes changes it too, and no event says so
new ResizeObserver(([entry]) => {
  if (entry.contentRect.width !== width) dirty = true;
  width = entry.contentRect.width;
}).observe(document.body);
addEventListener("resize", () => { dirty = true; });
requestAnimationFrame(frame);

// For tests, and for the curious at the console.
window.page = {views, detail, clock, get frozenAt() { return frozenAt; }};
