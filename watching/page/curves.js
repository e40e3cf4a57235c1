// Under a strip, on its time axis: decisions about threads as marks, then what waits, answers a second, and p99.
//
// All sources share the scales, so that equal heights are equal numbers.

import {count, durationText, rate} from "./words.js";
import {indexAt} from "./history.js";

export const BAND = 13, PANEL = 50, BETWEEN = 17, AXIS = 17;  // css pixels
export const HEIGHT = BAND + 3 * (PANEL + BETWEEN) + AXIS;
const HOLD = 1;  // seconds between two samples beyond which the line breaks

const PANELS = [
  {name: "connections that wait, logarithmic", short: "waiting, log", lines: [
    {name: "kernel", colour: "kernel", dash: [], of: (s) => s.connections.kernel},
    {name: "queued", colour: "queued", dash: [5, 2], of: (s) => s.connections.queued},
    {name: "parked", colour: "parked", dash: [2, 2], of: (s) => s.connections.parked}]},
  {name: "answers a second", short: "answers a second", lines: [
    {name: "", colour: "answers", dash: [], of: (s) => s.responses.per_second}]},
  {name: "p99, logarithmic", short: "p99, log", lines: [
    {name: "its clients", colour: "clients", dash: [], of: (s) => s.clients?.p99, where: (scales) => scales.clients},
    {name: "once a thread has it", colour: "p99", dash: [5, 2], of: (s) => s.responses.p99}]},
];

const logarithm = (n) => Math.log10(1 + n);

// What all sources need: {waiting: most, answers: most, p99: [least, most]}, rounded so that they seldom change; and
// clients: whether any has clients of ours.
export function scalesFor(histories, since) {
  let waiting = 10, answers = 10, least = Infinity, most = 0, clients = false;
  for (const {samples} of histories) {
    for (let index = Math.max(0, indexAt(samples, since)); index < samples.length; index++) {
      const {connections, responses, clients: see} = samples[index];
      waiting = Math.max(waiting, connections.kernel ?? 0, connections.queued, connections.parked);
      answers = Math.max(answers, responses.per_second);
      clients ||= !!see;
      for (const p99 of [responses.p99, see?.p99]) {
        if (!(p99 > 0)) continue;
        least = Math.min(least, p99);
        most = Math.max(most, p99);
      }
    }
  }
  if (!most) [least, most] = [0.001, 0.1];
  const low = 10 ** Math.floor(Math.log10(least));
  const power = 10 ** Math.floor(Math.log10(waiting));
  return {clients, waiting: [power, 3 * power, 10 * power].find((n) => n >= waiting), answers: roundUp(answers),
          p99: [low, Math.max(10 ** Math.ceil(Math.log10(most) - 1e-9), low * 10)]};
}

function roundUp(n) {
  const unit = 10 ** Math.floor(Math.log10(n));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((m) => m * unit >= n) * unit;
}

export class Curves {
  constructor(canvas) {
    this.canvas = canvas;
    this.paint = canvas.getContext("2d", {alpha: false});
  }

  resize(geometry, palette) {
    this.g = geometry;
    this.palette = palette;
    this.canvas.width = geometry.width;
    this.canvas.height = Math.round(HEIGHT * geometry.ratio);
    this.canvas.style.height = `${HEIGHT}px`;
  }

  draw(history, now, scales) {
    const {paint, canvas, palette, g} = this;
    paint.setTransform(1, 0, 0, 1, 0, 0);
    paint.fillStyle = palette.panel;
    paint.fillRect(0, 0, canvas.width, canvas.height);
    const end = (Math.floor(now * g.perSecond) + 1) / g.perSecond;
    const from = Math.max(0, indexAt(history.samples, end - g.columns / g.perSecond));
    const to = indexAt(history.samples, now);
    this.#marks(history.decisions, end);
    const axes = [this.#waiting(scales.waiting), this.#answers(scales.answers), this.#p99(scales.p99)];
    PANELS.forEach((panel, number) => {
      const top = Math.round((BAND + BETWEEN + number * (PANEL + BETWEEN)) * g.ratio);
      const height = Math.round(PANEL * g.ratio), scale = axes[number];
      const lines = panel.lines.filter(({where}) => !where || where(scales));
      this.#frame(panel, lines, top, height, scale);
      paint.save();
      paint.beginPath();
      paint.rect(g.left, top - 2 * g.ratio, g.columns, height + 3 * g.ratio);
      paint.clip();
      for (const line of lines) this.#line(history.samples, from, to, end, line, top, height, scale.at);
      paint.restore();
    });
    this.#axis();
  }

  // Scales: at(value) is 0 at the bottom and 1 at the top.
  #waiting(most) {
    const full = logarithm(most), ticks = [[0, "0"]];
    for (let n = 10; n < most; n *= most > 500 ? 100 : 10) ticks.push([n, count(n)]);
    ticks.push([most, count(most)]);
    return {ticks, at: (n) => logarithm(n) / full};
  }

  #answers(most) {
    return {ticks: [[0, "0"], [most / 2, short(most / 2)], [most, short(most)]], at: (n) => n / most};
  }

  #p99([low, high]) {
    const from = Math.log10(low), decades = Math.log10(high) - from, ticks = [], every = decades > 3.5 ? 2 : 1;
    for (let n = 0; n <= decades + 1e-9; n += every) {
      ticks.push([low * 10 ** n, durationText(low * 10 ** n).replace(".0", "")]);
    }
    return {ticks, at: (n) => n > 0 ? (Math.log10(n) - from) / decades : 0};
  }

  #frame(panel, lines, top, height, scale) {
    const {paint, palette, g} = this, size = 11 * g.ratio;
    paint.font = `${size}px ${palette.font}`;
    paint.textBaseline = "middle";
    paint.textAlign = "right";
    for (const [value, label] of scale.ticks) {
      const y = Math.round(top + height * (1 - scale.at(value)));
      paint.fillStyle = palette.grid;
      paint.fillRect(g.left, y, g.columns, Math.max(1, Math.floor(g.ratio)));
      paint.fillStyle = palette.muted;
      paint.fillText(label, g.left - 6 * g.ratio, y);
    }
    paint.textAlign = "left";
    paint.textBaseline = "alphabetic";
    let x = g.left;
    const y = top - 5 * g.ratio;
    const write = (text, colour) => {
      paint.fillStyle = colour;
      paint.fillText(text, x, y);
      x += paint.measureText(text).width;
    };
    const narrow = g.columns < 330 * g.ratio;
    write(narrow ? panel.short : panel.name, palette.muted);
    for (const line of lines) {
      if (!line.name) continue;
      x += 10 * g.ratio;
      paint.strokeStyle = palette[line.colour];
      paint.lineWidth = 2 * g.ratio;
      paint.setLineDash(line.dash.map((n) => n * g.ratio));
      paint.beginPath();
      paint.moveTo(x, y - 4 * g.ratio);
      paint.lineTo(x + 16 * g.ratio, y - 4 * g.ratio);
      paint.stroke();
      paint.setLineDash([]);
      x += 20 * g.ratio;
      write(line.name, palette.ink);
    }
  }

  #line(samples, from, to, end, line, top, height, at) {
    const {paint, palette, g} = this, right = g.left + g.columns;
    paint.strokeStyle = palette[line.colour];
    paint.lineWidth = 1.5 * g.ratio;
    paint.lineJoin = "round";
    paint.setLineDash(line.dash.map((n) => n * g.ratio));
    paint.beginPath();
    let before = null;
    for (let index = from; index <= to; index++) {
      const value = line.of(samples[index]), time = samples[index].time;
      if (value === null || value === undefined) {
        before = null;
        continue;
      }
      const x = right - (end - time) * g.perSecond;
      const y = top + height * (1 - Math.min(1.02, at(value)));
      if (before === null || time - before > HOLD) paint.moveTo(x, y);
      else paint.lineTo(x, y);
      before = time;
    }
    paint.stroke();
    paint.setLineDash([]);
  }

  // Up: a thread more; down: one less. Those of one column are one mark.
  #marks(decisions, end) {
    const {paint, palette, g} = this, size = 4 * g.ratio, middle = (BAND / 2) * g.ratio, seen = new Set();
    paint.fillStyle = palette.grid;
    paint.fillRect(g.left, Math.round(middle), g.columns, Math.max(1, Math.floor(g.ratio)));
    for (const {time, change} of decisions.values()) {
      const x = Math.round(g.left + g.columns - (end - time) * g.perSecond), key = change > 0 ? x : -x;
      if (x < g.left || x > g.left + g.columns || seen.has(key)) continue;
      seen.add(key);
      paint.fillStyle = change > 0 ? palette.answers : palette.kernel;
      const tip = change > 0 ? -size : size;
      paint.beginPath();
      paint.moveTo(x - size * 0.8, middle);
      paint.lineTo(x + size * 0.8, middle);
      paint.lineTo(x, middle + 1.3 * tip);
      paint.fill();
    }
  }

  // Seconds ago. The numbers stand still: it is the past that moves.
  #axis() {
    const {paint, palette, g, canvas} = this, right = g.left + g.columns, y = canvas.height - 5 * g.ratio;
    paint.font = `${11 * g.ratio}px ${palette.font}`;
    paint.textBaseline = "alphabetic";
    paint.fillStyle = palette.muted;
    const every = g.seconds > 14 ? 5 : g.seconds > 6 ? 2 : 1;
    for (let ago = 0; ago <= g.seconds - every * 0.4; ago += every) {
      const x = Math.round(right - ago * g.perSecond), label = ago ? `${ago} s ago` : "now";
      paint.fillRect(x - (ago ? 0 : 1), canvas.height - AXIS * g.ratio, Math.max(1, Math.floor(g.ratio)), 3 * g.ratio);
      paint.textAlign = ago ? "center" : "right";
      const half = paint.measureText(label).width / 2;
      if (x - half > 0) paint.fillText(g.seconds * 45 * g.ratio > g.columns * every && ago ? `${ago} s` : label, x, y);
    }
  }
}

const short = (n) => n >= 10000 ? `${rate(n / 1000)}k` : count(n);
