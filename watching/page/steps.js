// Step by step: every step of a short time, with arrows for hand-offs, and below each step its connection's colour.

const AXIS = 18, LEAST_TEXT = 11;  // css pixels
const TICKS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];  // ms

export class Steps {
  constructor(canvas) {
    this.canvas = canvas;
    this.paint = canvas.getContext("2d", {alpha: false});
    this.full = document.createElement("canvas");
    this.chosen = 0;  // the connection that is made to stand out
  }

  resize(geometry, height, palette) {
    this.g = geometry;
    this.palette = palette;
    this.canvas.width = this.full.width = geometry.width;
    this.canvas.height = this.full.height = height;
    this.canvas.style.height = `${height / geometry.ratio}px`;
  }

  set(arranged) {
    this.data = arranged;
    const room = this.canvas.height - AXIS * this.g.ratio;
    const rows = Math.max(1, arranged.rows.length);
    this.rowHeight = Math.max(1, Math.min(Math.round(30 * this.g.ratio), Math.floor(room / rows)));
    this.render();
  }

  x(time) {
    return this.g.left + (time - this.data.begin) / this.data.seconds * this.g.columns;
  }

  // The piece at a place in css pixels from the canvas' corner, and how far it is along the time.
  at(x, y) {
    if (!this.data?.rows.length) return null;
    const row = Math.floor(y * this.g.ratio / this.rowHeight);
    const along = (x * this.g.ratio - this.g.left) / this.g.columns;
    if (row < 0 || row >= this.data.rows.length || along < 0 || along > 1) return null;
    const time = this.data.begin + along * this.data.seconds;
    return this.data.rows[row].pieces.findLast((piece) => piece.time <= time) ?? null;
  }

  choose(connection) {
    if (connection === this.chosen) return;
    this.chosen = connection;
    if (this.data) this.render();
  }

  // All of it, on the hidden canvas and on the one that is seen.
  render() {
    const paint = this.full.getContext("2d", {alpha: false}), {palette, g, rowHeight, data} = this;
    paint.fillStyle = palette.panel;
    paint.fillRect(0, 0, this.full.width, this.full.height);
    paint.fillStyle = palette.strip;
    paint.fillRect(g.left, 0, g.columns, data.rows.length * rowHeight);
    const gap = rowHeight >= 10 * g.ratio ? Math.round(3 * g.ratio) : rowHeight >= 4 * g.ratio ? 1 : 0;
    const band = rowHeight >= 6 ? Math.max(1, Math.round((rowHeight - gap) * 0.22)) : 0;
    paint.save();
    paint.beginPath();
    paint.rect(g.left, 0, g.columns, this.full.height);
    paint.clip();
    for (const {pieces} of data.rows) {
      for (const piece of pieces) this.#piece(paint, piece, rowHeight - gap, band);
      if (gap) {
        paint.fillStyle = palette.panel;
        paint.fillRect(g.left, (pieces[0].row + 1) * rowHeight - gap, g.columns, gap);
      }
    }
    if (rowHeight - gap >= LEAST_TEXT * g.ratio) this.#numbers(paint, rowHeight - gap, band);
    this.#arrows(paint, rowHeight, rowHeight - gap);
    paint.restore();
    this.#labels(paint, rowHeight - gap);
    this.draw(null);
  }

  // until: the time that slow motion has come to; null: all.
  draw(until) {
    const {paint, full, canvas, g, palette, data} = this;
    if (!data) return;
    paint.globalAlpha = 1;
    paint.drawImage(full, 0, 0);
    if (until === null) return;
    const x = Math.round(this.x(until)), bottom = Math.max(1, data.rows.length * this.rowHeight);
    if (x < g.left + g.columns) {
      paint.fillStyle = palette.panel;
      paint.globalAlpha = 0.9;
      paint.fillRect(x, 0, canvas.width - g.right - x, bottom);
      paint.globalAlpha = 1;
    }
    paint.fillStyle = palette.accent;
    paint.fillRect(x, 0, Math.max(1, Math.round(1.5 * g.ratio)), bottom);
  }

  #piece(paint, piece, height, band) {
    if (piece.state === ".") return;
    const {palette} = this, x = this.x(Math.max(piece.time, this.data.begin)), y = piece.row * this.rowHeight;
    const width = Math.max(this.x(piece.until) - x, 0.6);
    paint.globalAlpha = this.chosen && piece.connection !== this.chosen ? 0.25 : 1;
    paint.fillStyle = palette.colour[piece.state] ?? palette.muted;
    paint.fillRect(x, y, width, height);
    if (piece.connection && band) {
      paint.fillStyle = connectionColour(piece.connection, palette.dark);
      paint.fillRect(x, y + height - band, width, band);
    }
    paint.globalAlpha = 1;
  }

  // The number of each connection, once in each row where it stays long enough.
  #numbers(paint, height, band) {
    const {palette, g} = this;
    paint.font = `600 ${Math.min(12, Math.max(10, (height - band) / g.ratio * 0.75)) * g.ratio}px ${palette.font}`;
    paint.textAlign = "left";
    paint.textBaseline = "middle";
    paint.lineJoin = "round";
    for (const {pieces} of this.data.rows) {
      for (let first = 0; first < pieces.length;) {
        const {connection, row, time} = pieces[first];
        let last = first;
        while (last + 1 < pieces.length && pieces[last + 1].connection === connection) last++;
        const x = this.x(Math.max(time, this.data.begin)) + 3 * g.ratio, width = this.x(pieces[last].until) - x;
        if (connection && (!this.chosen || connection === this.chosen)
            && paint.measureText(connection).width + 2 * g.ratio <= width) {
          const y = row * this.rowHeight + (height - band) / 2 + g.ratio / 2;
          paint.lineWidth = 3 * g.ratio;
          paint.strokeStyle = palette.dark ? "#000000b0" : "#ffffffd0";
          paint.strokeText(connection, x, y);
          paint.fillStyle = palette.dark ? "#ffffff" : "#000000";
          paint.fillText(connection, x, y);
        }
        first = last + 1;
      }
    }
  }

  #arrows(paint, rowHeight, height) {
    const {palette, g, data} = this, room = g.columns / g.ratio / data.handoffs.length;  // css pixels for each
    const many = room < 3, head = (many ? 0 : 4) * g.ratio;
    for (const {from, to, at} of data.handoffs) {
      if (this.chosen && from.connection !== this.chosen) continue;
      const x1 = this.x(Math.max(data.begin, Math.min(from.until, Math.max(from.time, at))));
      const x2 = Math.max(this.x(at), x1), down = to.row > from.row;
      const y1 = from.row * rowHeight + (down ? height : 0), y2 = to.row * rowHeight + (down ? 0 : height);
      paint.globalAlpha = this.chosen ? 1 : many ? 0.2 : 0.8;
      paint.strokeStyle = paint.fillStyle = palette.ink;
      paint.lineWidth = (this.chosen ? 2 : 1) * g.ratio;
      const angle = Math.atan2(y2 - y1, x2 - x1);
      paint.beginPath();
      paint.moveTo(x1, y1);
      paint.lineTo(x2 - Math.cos(angle) * head, y2 - Math.sin(angle) * head);
      paint.stroke();
      paint.beginPath();
      paint.moveTo(x2, y2);
      paint.lineTo(x2 - Math.cos(angle - 0.45) * head * 1.6, y2 - Math.sin(angle - 0.45) * head * 1.6);
      paint.lineTo(x2 - Math.cos(angle + 0.45) * head * 1.6, y2 - Math.sin(angle + 0.45) * head * 1.6);
      paint.fill();
    }
    paint.globalAlpha = 1;
  }

  #labels(paint, height) {
    const {palette, g, data, rowHeight} = this;
    paint.font = `${10.5 * g.ratio}px ${palette.font}`;
    paint.fillStyle = palette.muted;
    paint.textAlign = "right";
    paint.textBaseline = "middle";
    const every = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((n) => n * rowHeight >= 13 * g.ratio) ?? 1000;
    let free = 0;
    for (const {lane, pieces} of data.rows) {
      const y = pieces[0].row * rowHeight + height / 2;
      if (y < free || lane % every) continue;
      paint.fillText(lane, g.left - 6 * g.ratio, Math.max(y, 5 * g.ratio));
      free = y + 13 * g.ratio;
    }
    const top = data.rows.length * rowHeight, one = Math.max(1, Math.floor(g.ratio));
    paint.textBaseline = "top";
    const all = data.seconds * 1000, apart = TICKS.find((ms) => all / ms <= 5.5) ?? all;
    for (let ms = 0; ms <= all + 1e-6; ms += apart) {
      const x = Math.round(g.left + g.columns * ms / all), last = ms + apart > all + 1e-6;
      paint.fillRect(Math.min(x, g.left + g.columns - one), top, one, 3 * g.ratio);
      paint.textAlign = last ? "right" : ms ? "center" : "left";
      paint.fillText(`${+ms.toFixed(3)}${last ? " ms" : ""}`, x, top + 5 * g.ratio);
    }
  }
}

const connectionColour = (number, dark) => `hsl(${number * 137.508 % 360} ${dark ? "75% 65%" : "75% 40%"})`;
