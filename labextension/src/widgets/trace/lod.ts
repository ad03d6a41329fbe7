// Level of detail: what of a lane is drawn at a scale, without a look at every span, and without losing one. Pure.
// Called by timeline.ts for spans and for idle gaps; checked against a brute-force renderer in lod.test.ts.

import { firstWhere } from "./trace";

/** Which times are drawn on which pixels. */
export interface Window {
  /** Time at the left edge of pixel 0, in microseconds. */
  start: number;
  /** Pixels per microsecond. */
  scale: number;
  /** Pixels. */
  width: number;
}

/** Takes what `scan` finds, from left to right. */
export interface Sink {
  /** A span at least a pixel wide, from x0 to x1 (both may lie outside the window). */
  span(index: number, x0: number, x1: number): void;
  /** The narrower spans that begin in pixel x: how many, how much of the pixel they fill, the longest of them. */
  bin(x: number, count: number, filled: number, longest: number): void;
}

const FANOUT = 16;

/** Spans with sums and maxima over any range of them. Within a range that is scanned they are sorted and apart. */
export class Density {
  /** busy[i] = time filled by spans before i. */
  readonly busy: Float64Array;
  /** Level n: the longest span of each aligned block of 16 ^ (n + 1). */
  private readonly levels: Uint32Array[] = [];

  constructor(
    readonly start: Float64Array,
    readonly end: Float64Array,
  ) {
    this.busy = new Float64Array(start.length + 1);
    for (let i = 0; i < start.length; i++) this.busy[i + 1] = this.busy[i]! + end[i]! - start[i]!;
    let below: Uint32Array | null = null;
    for (let blocks = start.length; blocks > 1; blocks = Math.ceil(blocks / FANOUT)) {
      below = this.summarize(below, blocks);
      this.levels.push(below);
    }
  }

  private summarize(below: Uint32Array | null, size: number): Uint32Array {
    const level = new Uint32Array(Math.ceil(size / FANOUT));
    for (let i = 0; i < size; i++) {
      const candidate = below ? below[i]! : i;
      const block = (i / FANOUT) | 0;
      if (i % FANOUT === 0 || this.length(candidate) > this.length(level[block]!)) level[block] = candidate;
    }
    return level;
  }

  length(index: number): number {
    return this.end[index]! - this.start[index]!;
  }

  /** The longest span of [from, to), the first of equals. */
  longest(from: number, to: number): number {
    let best = from;
    for (let i = from; i < to;) {
      let size = 1;
      let level = -1;
      while (level + 1 < this.levels.length && i % (size * FANOUT) === 0 && i + size * FANOUT <= to) {
        size *= FANOUT;
        level += 1;
      }
      const candidate = level < 0 ? i : this.levels[level]![i / size]!;
      if (this.length(candidate) > this.length(best)) best = candidate;
      i += size;
    }
    return best;
  }
}

/** Tell the sink what is seen of the spans [from, to): work grows with the pixels, not with the spans. */
export function scan(spans: Density, from: number, to: number, window: Window, sink: Sink): void {
  const { start, end } = spans;
  const { start: origin, scale, width } = window;
  let i = firstWhere(from, to, (k) => end[k]! > origin);
  while (i < to) {
    const x0 = (start[i]! - origin) * scale;
    if (x0 >= width) return;
    if ((end[i]! - start[i]!) * scale >= 1) {
      sink.span(i, x0, (end[i]! - origin) * scale);
      i += 1;
      continue;
    }
    const pixel = Math.max(0, Math.floor(x0));
    let next = gallop(start, i + 1, to, origin, scale, pixel);
    // They do not overlap: of those that begin in this pixel only the last can reach beyond the next one.
    if (next - i > 1 && (end[next - 1]! - start[next - 1]!) * scale >= 1) next -= 1;
    const filled = (spans.busy[next]! - spans.busy[i]!) * scale;
    sink.bin(pixel, next - i, filled, next - i > 1 ? spans.longest(i, next) : i);
    i = next;
  }
}

/** First span of [from, to) that begins right of the pixel: steps that double, then halves. */
function gallop(start: Float64Array, from: number, to: number, origin: number, scale: number, pixel: number): number {
  const beyond = (k: number): boolean => Math.floor((start[k]! - origin) * scale) > pixel;
  let low = from;
  let step = 1;
  while (low + step <= to && !beyond(low + step - 1)) {
    low += step;
    step *= 2;
  }
  return firstWhere(low, Math.min(to, low + step), beyond);
}
