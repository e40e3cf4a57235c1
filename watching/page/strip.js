// The live strip: a row for each thread, a column for each moment, scrolling.
//
// A ring of one pixel for each row and column is drawn on as time goes by, only where it is new; to show it, it is
// copied, stretched in height, in two parts. So a frame costs the same with 8 rows or 100.

import {indexAt} from "./history.js";

const ROWS = [4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 50, 64, 80, 100, 128, 160, 200, 256, 320, 400, 512, 700, 1024, 2048];
const HOLD = 0.7;  // seconds that a sample is believed when none follows

// A few more than there are, so that one row more does not change everything.
export const capacityFor = (rows) => ROWS.find((n) => n >= rows) ?? rows;

export class Strip {
  constructor(canvas) {
    this.canvas = canvas;
    this.paint = canvas.getContext("2d", {alpha: false});
    this.ring = document.createElement("canvas");
    this.ringPaint = this.ring.getContext("2d", {alpha: false});
    this.rows = this.capacity = 0;
    this.drawn = null;  // the number of the last column in the ring, as columns are numbered since the server's zero
    this.shown = null;
  }

  // Geometry in device pixels: see page.js. All is drawn anew at the next draw().
  resize(geometry, height, rows, palette) {
    this.g = geometry;
    this.palette = palette;
    this.rows = rows;
    this.rowHeight = Math.max(1, Math.min(Math.round(28 * geometry.ratio), Math.floor(height / capacityFor(rows))));
    const capacity = this.capacity = Math.ceil(height / this.rowHeight);  // to the bottom, as rows without a thread
    this.canvas.width = geometry.width;
    this.canvas.height = height;
    this.canvas.style.height = `${height / geometry.ratio}px`;
    this.ring.width = geometry.columns;
    this.ring.height = capacity;
    this.drawn = this.shown = null;
  }

  fits(rows) {
    return rows <= this.capacity;
  }

  // A sample came for a time that has been drawn already.
  late(time) {
    if (this.drawn === null) return;
    const column = Math.floor(time * this.g.perSecond) - 1;
    if (column < this.drawn) this.drawn = Math.max(column, this.drawn - this.g.columns);
  }

  // Returns whether anything has moved.
  draw(samples, now, force = false) {
    const last = Math.floor(now * this.g.perSecond);
    if (last === this.shown && last === this.drawn && !force) return false;
    if (this.drawn === null || last - this.drawn > 40 || last < this.drawn) this.#drawAll(samples, last);
    else if (last > this.drawn) this.#drawNew(samples, last);
    this.drawn = this.shown = last;
    this.#show(samples, now);
    return true;
  }

  #drawAll(samples, last) {
    const {columns, perSecond} = this.g, {pixel, gapPixel} = this.palette;
    const image = new ImageData(columns, this.capacity), words = new Uint32Array(image.data.buffer);
    let index = indexAt(samples, (last - columns + 1) / perSecond), filled = null, from = 0;
    for (let column = last - columns + 1; column <= last; column++) {
      const time = column / perSecond, x = modulo(column, columns);
      while (index + 1 < samples.length && samples[index + 1].time <= time + 0.5 / perSecond) index++;
      const known = index >= 0 && time - samples[index].time < HOLD;
      const lanes = known ? samples[index].lanes : null;
      if (lanes && filled === lanes) {
        for (let row = 0; row < this.capacity; row++) words[row * columns + x] = words[row * columns + from];
      } else {
        const blank = known ? pixel["."] : gapPixel;
        for (let row = 0, at = x; row < this.capacity; row++, at += columns) {
          words[at] = lanes && row < lanes.length ? pixel[lanes[row].state] ?? blank : blank;
        }
        filled = lanes;
        from = x;
      }
    }
    this.ringPaint.putImageData(image, 0, 0);
  }

  #drawNew(samples, last) {
    const {columns, perSecond} = this.g, {colour, gap} = this.palette, paint = this.ringPaint;
    let begin = this.drawn + 1;
    while (begin <= last) {
      const time = begin / perSecond, index = indexAt(samples, time + 0.5 / perSecond);
      let end = begin + 1;
      while (end <= last && indexAt(samples, (end + 0.5) / perSecond) === index) end++;
      const known = index >= 0 && time - samples[index].time < HOLD;
      for (const [x, width] of pieces(begin, end, columns)) {
        paint.fillStyle = known ? colour["."] : gap;
        paint.fillRect(x, 0, width, this.capacity);
        if (!known) continue;
        const lanes = samples[index].lanes;
        let state = ".", row = 0;
        for (; row < lanes.length && row < this.capacity;) {  // neighbours of one colour at once
          state = lanes[row].state;
          let next = row + 1;
          while (next < lanes.length && lanes[next].state === state) next++;
          if (state !== ".") {
            paint.fillStyle = colour[state] ?? colour["."];
            paint.fillRect(x, row, width, next - row);
          }
          row = next;
        }
      }
      begin = end;
    }
  }

  #show(samples, now) {
    const {paint, canvas, rowHeight, capacity} = this, {left, columns, ratio} = this.g;
    paint.fillStyle = this.palette.panel;
    paint.fillRect(0, 0, canvas.width, canvas.height);
    const oldest = modulo(this.drawn + 1, columns), height = capacity * rowHeight;
    paint.imageSmoothingEnabled = false;
    paint.drawImage(this.ring, oldest, 0, columns - oldest, capacity, left, 0, columns - oldest, height);
    if (oldest) paint.drawImage(this.ring, 0, 0, oldest, capacity, left + columns - oldest, 0, oldest, height);
    const gap = rowHeight >= 8 * ratio ? Math.round(2 * ratio) : rowHeight >= 4 * ratio ? 1 : 0;
    if (gap) {
      paint.fillStyle = this.palette.panel;
      for (let y = rowHeight - gap; y < height; y += rowHeight) paint.fillRect(left, y, columns, gap);
    }
    this.#letters(samples, now, gap);
  }

  // On the left the rows' numbers, on the right the letter of each now, where there is room.
  #letters(samples, now, gap) {
    const {paint, rowHeight, rows} = this, {left, columns, ratio, right} = this.g, palette = this.palette;
    const size = Math.min(11 * ratio, Math.max(9 * ratio, (rowHeight - gap) * 0.8));
    paint.font = `${size}px ${palette.font}`;
    paint.textBaseline = "middle";
    paint.textAlign = "right";
    paint.fillStyle = palette.muted;
    const step = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((n) => n * rowHeight >= 13 * ratio) ?? 1000;
    for (let row = 0; row < rows; row += step) {
      paint.fillText(row, left - 6 * ratio, Math.max(size / 2, row * rowHeight + (rowHeight - gap) / 2));
    }
    const index = indexAt(samples, now);
    if (rowHeight < 11 * ratio || index < 0) return;
    paint.textAlign = "center";
    paint.fillStyle = palette.ink;
    for (const {lane, state} of samples[index].lanes) {
      if (state === ".") continue;
      paint.fillText(state, left + columns + right / 2, lane * rowHeight + (rowHeight - gap + ratio) / 2);
    }
  }
}

const modulo = (n, m) => (n % m + m) % m;

// Columns begin to end, not included, as [x, width] in the ring.
function pieces(begin, end, columns) {
  const x = modulo(begin, columns), width = Math.min(end - begin, columns);
  return x + width <= columns ? [[x, width]] : [[x, columns - x], [0, x + width - columns]];
}
