// What is said about the place under the pointer, or under the cursor that the arrow keys move. Text only; no drawing.

import {STATES} from "./states.js";
import {count, durationText, plural, rate} from "./words.js";

// Lines of text; the first is the heading. lane: one of a sample. time: of that sample.
export function aboutLane(lane, time, now) {
  const lines = [lane.thread ?? `row ${lane.lane}`];
  const {since} = lane, age = lane.thread && typeof since === "number";  // where nobody knows it, it is null
  const lasts = age ? `, for ${durationText(Math.max(0, time - since))}` : "";
  lines.push(`${lane.state} – ${STATES[lane.state] ?? lane.state}${lasts}`);
  if (lane.connection) lines.push(`connection ${lane.connection}${lane.client ? ` from ${lane.client}` : ""}`);
  if (lane.request) lines.push(lane.request);
  lines.push(ago(time, now));
  return lines;
}

export function aboutSample(sample, time, now) {
  const {connections, responses, burst, clients} = sample, limit = connections.kernel_limit;
  return [
    `${rate(responses.per_second)} answers a second`,
    ...(clients ? [`for its clients: p50 ${durationText(clients.p50)}, p99 ${durationText(clients.p99)}, `
                   + (clients.failures ? plural(clients.failures, "failure") : "no failures")] : []),
    `once a thread has it: p50 ${durationText(responses.p50)}, p99 ${durationText(responses.p99)}`,
    ...(burst ? [`p99 of waiting: ${durationText(burst.kernel_wait_p99)} in the kernel, `
                 + `then ${durationText(burst.wait_p99)} for a thread`] : []),
    connections.kernel === null ? "in the kernel: the system does not tell"
      : `in the kernel ${count(connections.kernel)}${limit === null ? "" : ` of at most ${count(limit)}`}`,
    `queued ${count(connections.queued)}, parked ${count(connections.parked)}, open ${count(connections.open)}`,
    ago(time, now),
  ];
}

// decisions: those near the pointer.
export function aboutDecisions(decisions, now) {
  const lines = decisionTexts(decisions, 8);
  lines.unshift(plural(decisions.length, "decision"));
  lines.push(ago(decisions.at(-1).time, now));
  return lines;
}

// Equal ones that follow each other are one line: "+1 the last waiter was taken, 5 threads"
export function decisionTexts(decisions, most) {
  const lines = [];
  for (const {change, reason, threads} of decisions) {
    const words = `${change > 0 ? "+" : "−"}${Math.abs(change)} ${reason}`, last = lines.at(-1);
    if (last?.words === words) Object.assign(last, {times: last.times + 1, threads});
    else lines.push({words, times: 1, threads});
  }
  return lines.slice(-most).map(({words, times, threads}) =>
    `${words}${times > 1 ? ` (${count(times)} times)` : ""} → ${plural(threads, "thread")}`);
}

// One exact step, as steps.js has it. way: from row to row, in words, or null. begin: of what is shown.
export function aboutStep({lane, thread, time, until, state, connection, about}, way, begin) {
  const lines = [thread ?? `row ${lane}`, `${state} – ${STATES[state] ?? state}, for ${durationText(until - time)}`];
  if (connection) lines.push(`connection ${connection}`);
  const more = words(state, about);
  if (more) lines.push(more);
  if (way) lines.push(way);
  lines.push(`at ${((time - begin) * 1000).toFixed(3)} ms`);
  return lines;
}

export function words(state, about) {
  if (about === null || about === undefined) return "";
  if (!Array.isArray(about)) return String(about);
  if (state !== "Q") return about.join(" ");
  const [host, port, waited] = about;
  const from = host ? `from ${host}:${port}` : "from a UNIX socket";
  return typeof waited === "number" ? `${from}, had waited ${durationText(waited)} in the kernel` : from;
}

const ago = (time, now) => now - time < 0.05 ? "now" : `${(now - time).toFixed(1)} s ago`;
