// What a thread can be doing: letters, words and colours. The words are those of acceptor/recording.py; a test compares
// them. The colours are in page.css, --state-A and so on, for both themes.

export const STATES = {
  "S": "starting",
  "A": "in accept()",
  "Q": "finds it a thread",
  "R": "reads a request",
  "H": "handler",
  "W": "writes the response",
  "K": "waits for its client",
  "C": "closes, refuses",
  "_": "between two steps, or waits",
  "X": "leaves",
  ".": "no thread",
};

const LEGEND = "AQSRHWKCX_";  // in the order of a connection's life

// {colour: {letter: "#rrggbb"}, word: {letter: [r, g, b]}, and the other colours of the theme by name}
export function readPalette() {
  const style = getComputedStyle(document.documentElement);
  const get = (name) => style.getPropertyValue(name).trim();
  const colour = {}, pixel = {};
  for (const letter of Object.keys(STATES)) {
    colour[letter] = get(letter === "." ? "--strip" : `--state-${letter}`);
    const n = parseInt(colour[letter].slice(1), 16);
    pixel[letter] = (0xff000000 | (n & 0xff) << 16 | (n & 0xff00) | n >> 16) >>> 0;  // as ImageData has it: ABGR
  }
  const gap = parseInt(get("--gap").slice(1), 16);
  return {
    colour, pixel, gapPixel: (0xff000000 | (gap & 0xff) << 16 | (gap & 0xff00) | gap >> 16) >>> 0,
    gap: get("--gap"), strip: get("--strip"), ink: get("--ink"), muted: get("--muted"), grid: get("--grid"),
    panel: get("--panel"), accent: get("--accent"),
    kernel: get("--curve-kernel"), queued: get("--curve-queued"), parked: get("--curve-parked"),
    answers: get("--curve-answers"), p99: get("--curve-p99"), clients: get("--curve-clients"),
    dark: get("--dark") === "1", font: get("--font"),
  };
}

export function fillLegend(list) {
  for (const letter of LEGEND) {
    const item = document.createElement("li"), swatch = document.createElement("b");
    swatch.textContent = letter;
    swatch.style.background = `var(--state-${letter})`;
    swatch.style.color = `var(--on-${letter})`;
    item.append(swatch, " ", STATES[letter]);
    list.append(item);
  }
}
