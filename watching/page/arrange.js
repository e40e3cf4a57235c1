// Steps as they come, to rows of pieces and hand-offs between them, and to words. No drawing: tests run it under node.

import {words} from "./inspect.js";
import {STATES} from "./states.js";
import {count, plural} from "./words.js";

// What /steps.json says of one source, for the last `seconds` of it: rows of pieces, and hand-offs between them.
// begun: how many hand-offs have begun before, with connections that have waited since; nobody knows on which row.
export function arrange(source, seconds) {
  const end = source.end, begin = Math.max(source.begin, end - seconds), rows = [], byConnection = new Map();
  seconds = Math.round((end - begin) * 1e6) / 1e6;  // fewer, where fewer are known
  for (const [lane, steps] of byLane(source.lanes)) {
    const pieces = [];
    steps.forEach(([time, state, connection, about, thread], index) => {
      const until = Math.min(end, index + 1 < steps.length ? steps[index + 1][0] : end);
      if (until <= begin || time >= end && index) return;
      const piece = {time, until, state, connection, about, thread, lane, row: rows.length, index: pieces.length};
      if (state === "_" && connection) {  // it has that one no more
        piece.connection = 0;
        piece.about = `connection ${connection}${about ? `: ${about}` : ""}`;
      }
      pieces.push(piece);
    });
    if (!pieces.some((piece) => piece.state !== ".")) continue;
    rows.push({lane, pieces});
    for (const piece of pieces) {
      if (!piece.connection) continue;
      if (!byConnection.has(piece.connection)) byConnection.set(piece.connection, []);
      byConnection.get(piece.connection).push(piece);
    }
  }
  const handoffs = [];
  let begun = 0;
  for (const pieces of byConnection.values()) {
    pieces.sort((one, other) => one.time - other.time);
    const {state, time, row, index} = pieces[0];  // whoever has accepted it itself was in accept() before, or at "Q"
    if (state === "R" && time > begin && rows[row].pieces[index - 1]?.state !== "A") begun++;
    for (let index = 0; index + 1 < pieces.length; index++) {  // whoever has it next: itself, or another
      const from = pieces[index], to = pieces[index + 1];
      if (from.state !== "Q" || to.row === from.row || to.time < begin) continue;
      const before = rows[to.row].pieces[to.index - 1];  // where a thread was started for it, it begins there
      handoffs.push({from, to, at: before && before.state === "S" && before.time >= from.time ? before.time : to.time});
    }
  }
  const events = rows.flatMap((row) => row.pieces.filter((p) => p.time > begin && p.state !== "." && p.state !== "_"));
  events.sort((one, other) => one.time - other.time);
  return {label: source.label, begin, end, seconds, rows, byConnection, handoffs, begun, events};
}

// [number, steps] of each row, a step with its thread. Threads that had it one after the other are lanes of one number.
function byLane(lanes) {
  const found = new Map();
  for (const {lane, thread, steps} of lanes) {
    found.set(lane, (found.get(lane) ?? []).concat(steps.map((step) => [...step, thread])));
  }
  for (const steps of found.values()) steps.sort((one, other) => one[0] - other[0]);  // stable: "." stays behind
  return found;
}

// "34 connections, 33 hand-offs (2 begun before), 33 threads started."
export function summary({byConnection, handoffs, begun, rows, begin}) {
  const starts = ({time, state}, index, pieces) =>
    time > begin && state !== "." && (!index || pieces[index - 1].state === ".");
  const started = rows.reduce((sum, {pieces}) => sum + pieces.filter(starts).length, 0);
  if (!byConnection.size) return "No connections.";
  const all = handoffs.length + begun;
  const given = all ? `${plural(all, "hand-off")}${begun ? ` (${count(begun)} begun before)` : ""}` : "no hand-offs";
  const threads = started ? plural(started, "thread") : "no thread";
  return `${plural(byConnection.size, "connection")}, ${given}, ${threads} started.`;
}

// "row 3 – in the handler, connection 17, GET /report"
export function eventText({lane, state, connection, about}) {
  const more = words(state, about);
  const parts = [`row ${lane} – ${STATES[state] ?? state}`, connection ? `connection ${connection}` : "", more];
  return parts.filter(Boolean).join(", ");
}
