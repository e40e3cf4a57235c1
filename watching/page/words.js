// Numbers to text, and a sample to the sentence that tells its story. No DOM in here: tests run it under node.

const whole = new Intl.NumberFormat("en", {maximumFractionDigits: 0});

export const count = (n) => n === null || n === undefined ? "–" : whole.format(n);

// A rate or a ratio: 0, 0.03, 1.0, 12, 1,234
export function rate(n) {
  if (n === null || n === undefined || !Number.isFinite(n)) return "–";
  if (n >= 9.95) return whole.format(n);
  if (n < 0.005) return "0";
  return n < 0.095 ? n.toFixed(2) : n.toFixed(1);
}

// Seconds: [number, unit]
export function duration(s) {
  if (s === null || s === undefined || !Number.isFinite(s)) return ["–", ""];
  if (s < 0.0000095) return ["0", "ms"];
  if (s < 0.00095) return [short(s * 1e6), "µs"];
  if (s < 0.9995) return [short(s * 1e3), "ms"];
  if (s < 600) return [short(s), "s"];
  return [whole.format(s / 60), "min"];
}
const short = (n) => n >= 9.95 ? whole.format(n) : n.toFixed(1);
export const durationText = (s) => duration(s).join(" ").trim();

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

// What happened a second between two samples of one source, {answers, started, accepted}; and the hand-offs for each
// answer, as the last recordings of steps tell, the oldest first: null if there was none. Of several, because each is
// short: what is handed over in it may be answered after its end.
export function rates(before, after, bursts) {
  const seconds = before ? after.time - before.time : 0;
  const rise = (of) => seconds > 0 ? Math.max(0, of(after) - of(before)) / seconds : 0;
  return {
    answers: rise((sample) => sample.responses.total),
    started: rise((sample) => sample.threads_started),
    accepted: rise((sample) => sample.connections.accepted),
    handoffs: mean(bursts),
  };
}

// Over a hundred answers, or as many as there were. There is one hand-off at most for an answer; that more can be seen
// in a moment is because those handed over in it are answered later.
function mean(bursts) {
  let answers = 0, handoffs = 0;
  for (const burst of bursts.toReversed()) {
    if (burst.handoffs_per_request === null) continue;
    answers += burst.requests;
    handoffs += burst.requests * burst.handoffs_per_request;
    if (answers >= 100) break;
  }
  return answers ? Math.min(1, handoffs / answers) : null;
}

export const threadsNow = (sample) => Object.values(sample.threads).reduce((sum, n) => sum + n, 0);

// One sentence, with its full stop.
export function story(sample, r) {
  const {connections} = sample, threads = threadsNow(sample);
  const many = plural(connections.refused, "connection has", "connections have");
  const refused = connections.refused ? ` ${many} been refused.` : "";
  if (!threads) return `No threads yet.${refused}`;
  if (r.answers < 0.5) {
    const idle = sample.threads.accepting ? `${plural(sample.threads.accepting, "thread")} in accept().` : "";
    return `No answers at the moment. ${idle}${refused}`;
  }
  const parts = [];
  const each = r.accepted > 0 && r.started > 0.8 * r.accepted && r.started > 3;
  if (each) parts.push(`starts ${rate(r.started)} threads a second: one for each connection`);
  else if (r.started >= 1) parts.push(`starts ${rate(r.started)} threads a second`);
  if (!each && r.handoffs >= 0.005) {
    parts.push(`hands ${r.handoffs > 0.949 ? "one connection" : `${rate(r.handoffs)} connections`} over for each answer`);
  }
  if (!parts.length) parts.push(r.handoffs === null ? "no new threads" : "no hand-offs, no new threads");
  const said = parts.join(", and ");
  return `${said[0].toUpperCase()}${said.slice(1)}.${refused}`;
}

// Where models side by side may serve different numbers at once: that it is so, for then it is no equal contest. ""
// where they may not. samples: one of each.
export function limitsWords(samples) {
  const labels = new Map();
  for (const {label, max_thread_count: most} of samples) labels.set(most, [...labels.get(most) ?? [], label]);
  if (labels.size < 2) return "";
  const parts = [...labels].sort((one, other) => one[1].length - other[1].length);
  const others = parts.length === 2 && parts[0][1].length < parts[1][1].length;
  const said = parts.map(([most, names], index) => {
    const who = index && others ? names.length > 1 ? "the others" : names[0] : listed(names);
    const many = most === null ? "as many as come" : count(most);
    return index ? `${who} ${many}` : `${who} ${names.length > 1 ? "serve" : "serves"} ${many} at once`;
  });
  return `Not the same limits: ${said.join(", ")}.`;
}
const listed = (names) => names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names[0];

// The load of `watch --compare`, in words.
export function loadWords(load) {
  const clients = plural(load.clients, "client");
  const how = load.keep_alive ? "connections kept open" : "a new connection for each request";
  const sleep = +load.sleep_ms.toFixed(3);
  const wait = sleep ? `a handler that waits ${sleep} ms` : "a handler that does not wait";
  return load.clients ? `${clients}, ${how}, ${wait}.` : "No clients: nobody asks anything.";
}
