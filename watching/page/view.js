// One source on the page: its name, its numbers, its sentence, its strip and curves.

import {Curves} from "./curves.js";
import {History, indexAt} from "./history.js";
import {decisionTexts} from "./inspect.js";
import {Strip} from "./strip.js";
import {count, duration, durationText, plural, rate, rates, story, threadsNow} from "./words.js";

const RATE_OVER = 2;  // seconds over which starts and hand-offs are averaged
const READ_OUT = 12;  // seconds between two sentences for a screen reader, at least
// Six are seen: "open" is among the small ones where there are clients of ours, who can tell what they see.
const TILES = [["clients", "p99 for its clients"], ["answers", "answers/s"], ["p99", "p99, once a thread has it"],
               ["threads", "threads now"], ["started", "threads started/s"], ["handoffs", "hand-offs/answer"],
               ["open", "connections open"]];
const SMALL = [["also-open", "open"], ["kernel"], ["queued"], ["parked"], ["refused"], ["answered"], ["errors", "5xx"],
               ["failures", "failures/s at its clients"]];

export class View {
  constructor(sample) {
    this.article = document.getElementById("live-template").content.firstElementChild.cloneNode(true);
    const find = (selector) => this.article.querySelector(selector);
    this.history = new History();
    this.held = null;  // the history as it was when the page was frozen
    this.stripPlot = find(".strip");
    this.curvesPlot = find(".curves");
    this.strip = new Strip(this.stripPlot.querySelector("canvas"));
    this.curves = new Curves(this.curvesPlot.querySelector("canvas"));
    this.story = find(".story");
    this.trouble = find(".trouble");
    this.decisions = find(".decisions");
    this.forReaders = find(".for-readers");
    this.readAt = 0;
    this.numbers = {};
    this.#makeNumbers(find(".numbers"));
    this.label = sample.label;
    for (const part of sample.label.split(/(?<=[:.])/)) find("h2").append(part, document.createElement("wbr"));
    this.model = find(".model");
    this.stripPlot.setAttribute("aria-label",
                                `${sample.label}: a row for each thread. Arrow keys move a cursor, Enter pins it`);
  }

  #makeNumbers(list) {
    for (const [key, label] of TILES) {
      const tile = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd");
      dt.textContent = label;
      dd.dataset.is = key;
      this.numbers[key] = dd;
      tile.append(dt, dd);
      list.append(tile);
    }
    const line = document.createElement("div");
    line.className = "counts";
    for (const [key, label] of SMALL) {
      const item = document.createElement("span"), number = document.createElement("b");
      item.append(`${label ?? key} `, number);
      number.dataset.is = key;
      this.numbers[key] = number;
      line.append(item);
    }
    list.append(line);
  }

  get shown() {
    return this.held ?? this.history;
  }

  add(sample) {
    if (this.history.add(sample)) this.strip.late(sample.time);
  }

  freeze(on) {
    this.held = on ? this.history.frozen() : null;
  }

  // The numbers of one sample, as they were sent.
  show(sample, history) {
    const {clients} = sample, {samples} = history, before = samples[Math.max(0, indexAt(samples, sample.time - RATE_OVER))];
    const r = rates(before, sample, history.bursts), {connections: c, responses} = sample, numbers = this.numbers;
    const set = (key, text, unit = "") => {
      if (numbers[key].dataset.shows === text + unit) return;
      numbers[key].dataset.shows = text + unit;
      numbers[key].textContent = text;
      if (!unit) return;
      const small = document.createElement("small");
      small.textContent = unit;
      numbers[key].append(small);
    };
    const see = (key, on) => { numbers[key].parentElement.hidden = !on; };
    const hot = (key, on) => numbers[key].parentElement.classList.toggle("hot", on);
    const limit = sample.max_thread_count === null ? "" : ` · serves ${count(sample.max_thread_count)} at once`;
    const name = sample.label.split(" ").includes(sample.name) ? "" : ` · ${sample.name}`;
    const words = `${sample.model}${limit}${name} · process ${sample.process}`;
    if (this.model.textContent !== words) this.model.textContent = words;
    set("answers", rate(responses.per_second));
    set("p99", ...duration(responses.p99));
    set("threads", count(threadsNow(sample)));
    set("started", rate(r.started));
    set("handoffs", rate(r.handoffs));
    set("open", count(c.open));
    set("also-open", count(c.open));
    set("clients", ...duration(clients?.p99));
    set("failures", count(clients?.failures));
    see("clients", clients);
    see("open", !clients);
    see("also-open", clients);
    see("failures", clients?.failures);
    hot("failures", true);
    for (const key of ["kernel", "queued", "parked", "refused"]) set(key, count(c[key]));
    set("answered", count(responses.total));
    const errors = responses.by_class["5xx"] ?? 0;
    see("errors", errors);
    set("errors", count(errors));
    hot("started", r.answers > 0 && r.started > 0.5 * r.answers);
    hot("handoffs", r.handoffs > 0.5);
    const said = story(sample, r);
    if (this.story.textContent !== said) this.story.textContent = said;
    this.#list(sample, history);
    this.#say(sample, said);
  }

  #list(sample, history) {
    const recent = [...history.decisions.values()].filter((d) => d.time <= sample.time);
    const lines = [];
    const totals = [...Object.entries(sample.grown).map(([reason, n]) => `+${count(n)} ${reason}`),
                    ...Object.entries(sample.shrunk).map(([reason, n]) => `−${count(n)} ${reason}`)];
    if (totals.length) lines.push(["since the start: ", totals.join(", ")]);
    const last = recent.slice(-20);
    for (const text of decisionTexts(last, 2).reverse()) lines.push(["lately: ", text]);
    const key = lines.flat().join("|");
    if (key === this.decisions.dataset.shows) return;
    this.decisions.dataset.shows = key;
    this.decisions.replaceChildren(...lines.map(([when, text]) => {
      const item = document.createElement("li"), words = document.createElement("b");
      words.textContent = text;
      item.append(when, words);
      return item;
    }));
  }

  #say(sample, said) {
    const now = performance.now() / 1000;
    if (now - this.readAt < READ_OUT) return;
    this.readAt = now;
    this.forReaders.textContent = `${this.label}: ${rate(sample.responses.per_second)} answers a second, `
      + (sample.clients ? `p99 ${durationText(sample.clients.p99)} for its clients, ` : "")
      + `p99 ${durationText(sample.responses.p99)} once a thread has it, ${plural(threadsNow(sample), "thread")}. ${said}`;
  }

  // What is wrong with this source, in words; null: nothing.
  complain(words) {
    this.trouble.hidden = !words;
    if (words && this.trouble.textContent !== words) this.trouble.textContent = words;
  }
}
