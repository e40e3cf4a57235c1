// What the page has heard: a clock that follows the server's, and the last samples of each source.

const KEEP = 50;  // seconds of samples; up to 45 are seen
const BURSTS = 12;

// The server's time.monotonic(), as far as can be told from samples that arrive late, each a little differently.
export class Clock {
  offset = null;

  heard(time, at = performance.now() / 1000) {
    const offset = time - at;
    if (this.offset === null || Math.abs(offset - this.offset) > 1) this.offset = offset;  // the first, or it slept
    else this.offset = Math.max(offset, this.offset - 0.0005);  // the least late of them is the nearest
  }

  now() {
    return this.offset === null ? null : performance.now() / 1000 + this.offset;
  }
}

// The samples of one source, the oldest first.
export class History {
  samples = [];
  decisions = new Map();  // all that were heard of, by what they are
  bursts = [];  // what the last recordings of steps told

  add(sample) {
    const last = this.samples.at(-1);
    if (last && sample.process !== last.process) {  // another process has its place, its counts begin anew
      this.samples = [];
      this.decisions.clear();
      this.bursts = [];
    }
    if (last && sample.time <= last.time && sample.process === last.process) return false;
    this.samples.push(sample);
    const {burst} = sample, known = this.bursts.at(-1)?.time ?? -Infinity;
    if (burst && burst.time > known) this.bursts = [...this.bursts, burst].slice(-BURSTS);
    if (!burst) this.bursts = [];  // the last was long ago
    const from = sample.time - KEEP;
    if (this.samples[0].time < from - 5) this.samples = this.samples.slice(indexAt(this.samples, from));
    for (const each of sample.decisions) {
      this.decisions.set(`${each.time} ${each.change} ${each.reason} ${each.threads}`, each);
    }
    if (this.decisions.size > 4000) this.decisions = new Map([...this.decisions].slice(-2000));
    return true;
  }

  // As it is now, whatever is added later.
  frozen() {
    const copy = new History();
    copy.samples = this.samples.slice();
    copy.decisions = new Map(this.decisions);
    copy.bursts = this.bursts;
    return copy;
  }
}

// The index of the last sample at or before `time`; -1 if all are later.
export function indexAt(samples, time) {
  let low = 0, high = samples.length;
  while (low < high) {
    const middle = low + high >> 1;
    if (samples[middle].time <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

// The sample that tells of `time`: none if there was none for long.
export function sampleAt(samples, time, patience = 0.7) {
  const index = indexAt(samples, time);
  return index >= 0 && time - samples[index].time < patience ? samples[index] : null;
}
