// What is under the pointer, or under the cursor of the arrow keys: in a box beside it, and a line through all strips.

import {sampleAt} from "./history.js";
import {aboutDecisions, aboutLane, aboutSample, aboutStep} from "./inspect.js";
import {BAND} from "./curves.js";

export class Cursor {
  // page: {views, detail, geometry, now()}
  constructor(page) {
    this.page = page;
    this.box = document.getElementById("inspector");
    this.said = document.getElementById("said");
    this.place = null;  // {kind, view or panel, lane, ago or time, piece, x, y, by: "pointer" or "keys", pinned}
    document.addEventListener("scroll", () => this.#gone("pointer"), {passive: true});
  }

  clear() {
    if (this.place?.panel) this.place.panel.steps.choose(0);
    this.page.detail.pointed = false;
    this.place = null;
    this.box.hidden = true;
    for (const line of document.querySelectorAll("i.line, i.ring")) line.style.display = "none";
  }

  watchView(view) {
    this.#pointer(view.stripPlot, (x, y) => this.#onStrip(view, x, y));
    this.#pointer(view.curvesPlot, (x, y) => this.#onCurves(view, x, y));
    this.#keys(view.stripPlot, () => this.#begin({kind: "lane", view, lane: 0, ago: 1}),
               (event) => this.#moveLane(event));
  }

  watchPanel(panel) {
    this.#pointer(panel.plot, (x, y) => {
      const piece = panel.steps.at(x, y);
      return piece && {kind: "step", panel, piece};
    });
    this.#keys(panel.plot, () => this.#begin({kind: "step", panel, piece: panel.steps.data?.rows[0]?.pieces.at(-1)}),
               (event) => this.#moveStep(event));
  }

  #pointer(plot, place) {
    const move = (event) => {
      if (this.place?.pinned && event.type !== "click") return;
      const {left, top} = plot.getBoundingClientRect(), found = place(event.clientX - left, event.clientY - top);
      this.#set(found && {...found, x: event.clientX, y: event.clientY, by: "pointer"});
    };
    plot.addEventListener("pointermove", move);
    plot.addEventListener("pointerleave", () => this.#gone("pointer"));
    plot.addEventListener("click", (event) => {
      const was = this.place?.pinned;
      move(event);
      if (this.place && !was) this.#pin(true);
    });
  }

  #keys(plot, begin, move) {
    plot.addEventListener("focus", () => plot.matches(":focus-visible") && !this.place?.pinned && begin());
    plot.addEventListener("blur", () => this.#gone("keys"));
    plot.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.clear();
      else if (event.key === "Enter" && this.place) this.#pin(!this.place.pinned);
      else if (/^(Arrow|Home|End)/.test(event.key)) {
        if (!this.place) begin();
        else move(event);
      } else return;
      event.preventDefault();
    });
  }

  #gone(by) {
    if (this.place?.by === by && !this.place.pinned) this.clear();
  }

  #pin(on) {
    const place = this.place;
    place.pinned = on;
    if (place.ago === undefined) return;
    place.time = on ? this.page.now() - place.ago : undefined;  // a pinned place goes by with its moment
    if (!on) place.ago = Math.max(0, this.page.now() - (place.time ?? this.page.now()));
    this.update();
  }

  #begin(place) {
    if (place.kind === "lane" || place.piece) this.#set({...place, by: "keys"});
  }

  #set(place) {
    if (this.place?.panel && this.place.panel !== place?.panel) this.place.panel.steps.choose(0);
    if (!place) return this.clear();
    this.place = place;
    this.page.detail.pointed = place.kind === "step";  // what one reads does not change
    if (place.panel) place.panel.steps.choose(place.piece.connection);
    this.update();
    if (place.by === "keys") this.said.textContent = this.lines?.join(", ") ?? "";
  }

  #onStrip(view, x, y) {
    const {geometry: g} = this.page, lane = Math.floor(y * g.ratio / view.strip.rowHeight);
    const ago = (g.left + g.columns - x * g.ratio) / g.perSecond;
    if (ago < 0 || ago * g.perSecond > g.columns || lane >= view.strip.rows) return null;
    return {kind: "lane", view, lane, ago};
  }

  #onCurves(view, x, y) {
    const {geometry: g} = this.page, ago = (g.left + g.columns - x * g.ratio) / g.perSecond;
    if (ago < 0 || ago * g.perSecond > g.columns) return null;
    return {kind: y <= BAND ? "decisions" : "sample", view, ago};
  }

  #moveLane({key, shiftKey}) {
    const {geometry: g} = this.page, {view} = this.place, many = shiftKey ? 10 : 1, most = g.columns / g.perSecond;
    let {lane} = this.place, ago = this.#ago();
    if (key === "ArrowUp") lane -= many;
    if (key === "ArrowDown") lane += many;
    if (key === "ArrowLeft") ago += 0.1 * many;
    if (key === "ArrowRight") ago -= 0.1 * many;
    if (key === "Home") ago = most;
    if (key === "End") ago = 0;
    this.#set({kind: "lane", view, by: "keys", lane: Math.max(0, Math.min(view.strip.rows - 1, lane)),
               ago: Math.max(0, Math.min(most, ago))});
  }

  #moveStep({key, shiftKey}) {
    const {panel, piece} = this.place, {rows, begin} = panel.steps.data ?? {rows: []};
    const many = shiftKey ? 10 : 1, clip = (n, length) => Math.max(0, Math.min(length - 1, n));
    if (!rows.length) return;
    const down = {ArrowUp: -many, ArrowDown: many}[key] ?? 0, along = {ArrowLeft: -many, ArrowRight: many}[key] ?? 0;
    const row = clip(piece.row + down, rows.length), {pieces} = rows[row];
    let next;
    if (row !== piece.row) next = pieces.findLast((each) => each.time <= Math.max(piece.time, begin)) ?? pieces[0];
    else if (key === "Home") next = pieces[0];
    else if (key === "End") next = pieces.at(-1);
    else next = pieces[clip(piece.index + along, pieces.length)];
    this.#set({kind: "step", panel, piece: next, by: "keys"});
  }

  #ago() {
    return this.place.time === undefined ? this.place.ago : this.page.now() - this.place.time;
  }

  // Also called for each frame: what is under it moves on.
  update() {
    const {place, page} = this;
    if (!place) return;
    const g = page.geometry, now = page.now();
    if (place.kind === "step") return this.#updateStep(place, g);
    const ago = this.#ago(), time = now - ago, x = (g.left + g.columns) / g.ratio - ago * g.perSecond / g.ratio;
    if (ago * g.perSecond > g.columns) return this.clear();
    for (const view of page.views.values()) {
      for (const plot of [view.stripPlot, view.curvesPlot]) {
        const line = plot.querySelector(".line");
        line.style.display = "block";
        line.style.transform = `translateX(${Math.round(x)}px)`;
      }
      if (view !== place.view) view.stripPlot.querySelector(".ring").style.display = "none";
    }
    const {view} = place, {samples, decisions} = view.shown, sample = sampleAt(samples, time);
    if (place.kind === "decisions") {
      const reach = 5 * g.ratio / g.perSecond;
      const near = [...decisions.values()].filter((each) => Math.abs(each.time - time) <= reach);
      this.lines = near.length ? aboutDecisions(near, now) : null;
    } else if (!sample) this.lines = ["nothing is known of that moment"];
    else if (place.kind === "sample") this.lines = aboutSample(sample, time, now);
    else {
      const lane = sample.lanes[place.lane] ?? {lane: place.lane, thread: null, state: "."};
      this.lines = aboutLane(lane, sample.time, now);
      const rowHeight = view.strip.rowHeight / g.ratio;
      this.#ring(view.stripPlot, x - 4, place.lane * rowHeight - 2, 8, Math.max(4, rowHeight) + 3);
    }
    const box = view.stripPlot.getBoundingClientRect();
    this.#show(place.x ?? box.left + x, place.y ?? box.top + (place.lane + 1) * view.strip.rowHeight / g.ratio);
  }

  #updateStep({panel, piece, x, y}, g) {
    const {steps} = panel, {data} = steps;
    const handoff = data.handoffs.find((each) => each.from.connection === piece.connection && piece.connection);
    const way = handoff ? `accepted by row ${handoff.from.lane}, given to row ${handoff.to.lane}` : null;
    this.lines = aboutStep(piece, way, data.begin);
    const left = steps.x(Math.max(piece.time, data.begin)) / g.ratio, right = steps.x(piece.until) / g.ratio;
    const height = steps.rowHeight / g.ratio, box = panel.plot.getBoundingClientRect();
    this.#ring(panel.plot, left - 2, piece.row * height - 2, Math.max(3, right - left) + 3, Math.max(3, height) + 2);
    this.#show(x ?? box.left + left, y ?? box.top + (piece.row + 1) * height);
  }

  #ring(plot, x, y, width, height) {
    const ring = plot.querySelector(".ring");
    for (const other of document.querySelectorAll("i.ring")) if (other !== ring) other.style.display = "none";
    Object.assign(ring.style, {display: "block", transform: `translate(${x}px, ${y}px)`, width: `${width}px`,
                               height: `${height}px`});
  }

  #show(x, y) {
    this.box.hidden = !this.lines;
    if (!this.lines) return;
    const text = this.lines.join("\n");
    if (this.box.dataset.shows !== text) {
      this.box.dataset.shows = text;
      this.box.replaceChildren(...this.lines.map(
        (line) => Object.assign(document.createElement("p"), {textContent: line})));
      this.size = this.box.getBoundingClientRect();
    }
    const {width, height} = this.size;
    const left = x + 16 + width < innerWidth ? x + 16 : Math.max(4, x - 16 - width);
    const top = y + 14 + height < innerHeight ? y + 14 : Math.max(4, y - 14 - height);
    this.box.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }
}
