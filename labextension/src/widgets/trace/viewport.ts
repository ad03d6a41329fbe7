// The visible range of time: zoom, pan, ticks of its axis. Pure; used by timeline.ts, minimap.ts and controls.ts.

/** Microseconds. */
export interface Range {
  from: number;
  to: number;
}

/** A narrower view shows nothing more: the profiler's clock counts nanoseconds. */
export const MIN_RANGE_US = 0.05;

/** The range moved and cut so that it lies within [0, total]. */
export function clamp(range: Range, total: number): Range {
  const size = Math.min(Math.max(range.to - range.from, MIN_RANGE_US), Math.max(total, MIN_RANGE_US));
  const from = Math.min(Math.max(range.from, 0), Math.max(total - size, 0));
  return { from, to: from + size };
}

/** `factor` > 1 shows more. The time `at` stays where it is. */
export function zoom(range: Range, factor: number, at: number, total: number): Range {
  const size = Math.min(Math.max((range.to - range.from) * factor, MIN_RANGE_US), total);
  const share = (at - range.from) / (range.to - range.from);
  return clamp({ from: at - share * size, to: at + (1 - share) * size }, total);
}

/** Moved by a share of its own size. */
export function pan(range: Range, share: number, total: number): Range {
  const shift = share * (range.to - range.from);
  return clamp({ from: range.from + shift, to: range.to + shift }, total);
}

/** A span with room around it. */
export function around(from: number, to: number, total: number): Range {
  const margin = Math.max((to - from) * 0.75, MIN_RANGE_US);
  return clamp({ from: from - margin, to: to + margin }, total);
}

/** Between two ranges, part 0..1 of the way; sizes change by equal factors, as the eye expects of a zoom. */
export function between(one: Range, other: Range, part: number): Range {
  const sizes = [one.to - one.from, other.to - other.from] as const;
  const size = sizes[0] * (sizes[1] / sizes[0]) ** part;
  const moved = Math.abs(sizes[1] - sizes[0]) < 1e-9 * sizes[0] ? part : (size - sizes[0]) / (sizes[1] - sizes[0]);
  const from = one.from + (other.from - one.from) * moved;
  return { from, to: from + size };
}

export interface Tick {
  at: number;
  label: string;
}

/** Ticks at 1, 2 or 5 x 10^n microseconds, at most `most` of them. */
export function ticks(range: Range, most: number): Tick[] {
  const least = (range.to - range.from) / Math.max(most, 1);
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= least * (1 - 1e-9))!;
  const unit =
    range.to >= 1e6 && step >= 1e3
      ? ([1e6, "s"] as const)
      : range.to >= 1e3 && step >= 1
        ? ([1e3, "ms"] as const)
        : ([1, "µs"] as const);
  const digits = Math.max(0, Math.ceil(-Math.log10(step / unit[0]) - 1e-9));
  const found: Tick[] = [];
  for (let n = Math.ceil(range.from / step - 1e-9); n * step <= range.to + 1e-9 * step; n++) {
    found.push({ at: n * step, label: `${((n * step) / unit[0]).toFixed(digits)} ${unit[1]}` });
  }
  return found;
}
