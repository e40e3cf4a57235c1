// The panel "step by step": gets /steps.json now and then, shows it for every source, and plays it again slowly.

import {arrange, eventText, summary} from "./arrange.js";
import {Steps} from "./steps.js";

const EVERY = 2000;  // ms between two looks

export class Detail {
  constructor(get) {
    this.get = get;  // path -> Promise of JSON
    this.section = document.getElementById("detail");
    this.grid = document.getElementById("steps");
    this.words = document.getElementById("detail-words");
    this.panels = new Map();
    this.sources = [];  // as they came
    this.seconds = 0.02;
    this.slower = 1000;
    this.playing = null;  // when it began, ms
    this.frozen = this.pointed = false;
    this.asking = null;
    this.asked = -Infinity;
    for (const input of document.querySelectorAll("#window input")) {
      input.addEventListener("change", () => this.choose(Number(input.value)));
    }
    for (const input of document.querySelectorAll("#speed input")) {
      input.addEventListener("change", () => this.slow(Number(input.value)));
    }
  }

  choose(seconds) {
    this.seconds = seconds;
    document.querySelector(`#window input[value="${seconds}"]`).checked = true;
    this.slow(seconds > 0.1 ? 100 : 1000);  // it takes 2 or 20 seconds
    if (this.frozen && this.sources.every(({begin, end}) => end - begin > seconds * 0.99)) this.#arrange();
    else this.ask(true);
    if (this.playing !== null) this.play(true);
  }

  slow(times) {
    this.slower = times;
    document.querySelector(`#speed input[value="${times}"]`).checked = true;
    if (this.playing !== null) this.play(true);
  }

  freeze(on) {
    this.frozen = on;
    if (!on) this.play(false);
  }

  look(now) {
    if (!this.asking && now - this.asked > EVERY && !this.frozen && !this.pointed) this.ask();
    if (this.playing !== null) this.#step(now);
  }

  // chosen: somebody wants just this, also on a frozen page.
  async ask(chosen = false) {
    const {frozen, pointed} = this, mine = this.asking = {};
    this.asked = performance.now();
    try {
      const {sources} = await this.get(`steps.json?seconds=${this.seconds}`);
      if (mine !== this.asking) return;  // another has been asked for since
      if (!chosen && (this.frozen && !frozen || this.pointed && !pointed)) return;  // what is there stays since
      this.sources = sources;
      this.#arrange();
      if (this.playing !== null) this.play(true);
    } catch {
      // The server is away, or does not record: the page says so elsewhere.
    } finally {
      if (mine === this.asking) this.asking = null;
    }
  }

  resize(geometry, height, palette) {
    Object.assign(this, {geometry, height, palette});
    for (const {steps} of this.panels.values()) steps.resize(geometry, height, palette);
    this.#arrange();
  }

  play(on) {
    this.playing = on && this.panels.size ? performance.now() : null;
    if (on) return;
    for (const panel of this.panels.values()) {
      panel.steps.draw(null);
      if (panel.steps.data) panel.caption.textContent = summary(panel.steps.data);
    }
  }

  get over() {
    return this.playing !== null && performance.now() - this.playing > this.seconds * this.slower * 1000 + 400;
  }

  #step(now) {
    const gone = (now - this.playing) / 1000 / this.slower;
    for (const {steps, caption} of this.panels.values()) {
      if (!steps.data) continue;
      const until = Math.min(steps.data.begin + gone, steps.data.end);
      const event = steps.data.events.findLast((each) => each.time <= until);
      steps.draw(until);
      const text = event ? `${((event.time - steps.data.begin) * 1000).toFixed(2)} ms: ${eventText(event)}` : "";
      if (caption.textContent !== text) caption.textContent = text;
    }
  }

  #arrange() {
    if (!this.geometry) return;
    this.changes?.();
    const seen = new Set();
    for (const source of this.sources) {
      const key = `${source.label} ${source.name}`;
      seen.add(key);
      let panel = this.panels.get(key);
      if (!panel) this.panels.set(key, panel = this.#make(source, key));
      const arranged = arrange(source, this.seconds);
      panel.steps.set(arranged);
      panel.caption.textContent = summary(arranged);
    }
    for (const [key, panel] of this.panels) {
      if (!seen.has(key)) panel.article.remove(), this.panels.delete(key);
    }
    this.section.hidden = !this.panels.size;
    this.words.textContent = this.sources.length
      ? "Every step of each thread. Arrows are hand-offs; bands are connections." : "";
  }

  #make(source, key) {
    const article = document.getElementById("steps-template").content.firstElementChild.cloneNode(true);
    article.querySelector("h3").textContent = source.label;
    const plot = article.querySelector(".plot"), steps = new Steps(plot.querySelector("canvas"));
    plot.setAttribute("aria-label", `${source.label}, step by step. Arrow keys go from step to step, Enter pins`);
    this.grid.append(article);
    steps.resize(this.geometry, this.height, this.palette);
    const panel = {article, plot, steps, key, caption: article.querySelector(".caption")};
    this.made?.(panel);
    return panel;
  }
}
