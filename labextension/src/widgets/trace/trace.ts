// The trace as it came from Python: typed arrays over one buffer, and what is derived from them once. Pure.
// Written by nbserve/notebook/widgets/trace.py; read by every other module here. A span is named by its index.

export type Kind = "gateway" | "cpu" | "gpu";

/** A row of the picture in which spans never overlap: each depth of nesting is a lane of its own. */
export interface Lane {
  process: string;
  thread: string;
  depth: number;
  kind: Kind;
}

/** Spans in columns, sorted by (lane, start); times in microseconds from 0. */
export interface Trace {
  count: number;
  start: Float64Array;
  end: Float64Array;
  name: Uint32Array;
  lane: Uint16Array;
  detail: Uint32Array;
  /** Number of the batch that a span belongs to; 0 = none. */
  link: Uint32Array;
  names: string[];
  lanes: Lane[];
  /** JSON text; the first is empty. */
  details: string[];
  meta: Record<string, unknown>;
  /** Lane n holds the spans from first[n] to first[n + 1]. */
  first: Uint32Array;
  /** The span that this one is nested in; -1 = none. */
  parent: Int32Array;
  /** Threads as lists of their lanes, outermost first; `threadOf` says which one a lane belongs to. */
  threads: number[][];
  threadOf: Uint16Array;
  /** End of the last span. */
  total: number;
}

export type Columns = Pick<Trace, "start" | "name" | "lane" | "detail" | "link"> & { duration: Float32Array };
export type Words = Pick<Trace, "names" | "lanes" | "details" | "meta">;

const ROUNDING_US = 0.01;
const ROUNDING_SHARE = 1e-6; // durations are float32, with 24 bits

/** A trace out of its buffer: u32 length of the header, the header as JSON, the columns at multiples of 8. */
export function decode(view: DataView): Trace {
  const buffer = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength) as ArrayBuffer;
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const base = Math.ceil((4 + length) / 8) * 8;
  const offsets = new Map<string, number>(header.columns.map((one: [string, string, number]) => [one[0], one[2]]));
  const at = (column: string): number => base + (offsets.get(column) ?? NaN);
  const count: number = header.events;
  const columns = {
    start: new Float64Array(buffer, at("start_us"), count),
    duration: new Float32Array(buffer, at("duration_us"), count),
    name: new Uint32Array(buffer, at("name"), count),
    lane: new Uint16Array(buffer, at("lane"), count),
    detail: new Uint32Array(buffer, at("detail"), count),
    link: new Uint32Array(buffer, at("link"), count),
  };
  const lanes = header.lanes.map(([process, thread, depth, kind]: [string, string, number, Kind]) => {
    return { process, thread, depth, kind };
  });
  return derive(columns, { names: header.names, lanes, details: header.details, meta: header.meta });
}

/** The trace with what is derived from its columns: ends, lanes' ranges, threads, parents. */
export function derive(columns: Columns, words: Words): Trace {
  const count = columns.start.length;
  const first = lanesFirst(columns.lane, words.lanes.length);
  const end = new Float64Array(count);
  let total = 0;
  for (let lane = 0; lane < words.lanes.length; lane++) {
    for (let i = first[lane]!; i < first[lane + 1]!; i++) {
      // A rounded duration may reach into the next span of the lane: cut there, so that ends are sorted as starts are.
      const next = i + 1 < first[lane + 1]! ? columns.start[i + 1]! : Infinity;
      end[i] = Math.min(columns.start[i]! + columns.duration[i]!, next);
      total = Math.max(total, end[i]!);
    }
  }
  const threads = groupThreads(words.lanes);
  const threadOf = new Uint16Array(words.lanes.length);
  threads.forEach((lanes, thread) => lanes.forEach((lane) => (threadOf[lane] = thread)));
  const { duration: _, ...rest } = columns;
  const trace: Trace = {
    count,
    ...rest,
    end,
    ...words,
    first,
    parent: new Int32Array(count).fill(-1),
    threads,
    threadOf,
    total,
  };
  for (const lanes of threads) {
    for (let at = 1; at < lanes.length; at++) nest(trace, lanes[at - 1]!, lanes[at]!);
  }
  return trace;
}

function lanesFirst(lane: Uint16Array, lanes: number): Uint32Array {
  const first = new Uint32Array(lanes + 1);
  for (const each of lane) first[each + 1]!++;
  for (let at = 0; at < lanes; at++) first[at + 1]! += first[at]!;
  return first;
}

/** Lanes of one (process, thread) together, by depth; threads in the order in which they first appear. */
function groupThreads(lanes: Lane[]): number[][] {
  const groups = new Map<string, number[]>();
  lanes.forEach((lane, index) => {
    const key = JSON.stringify([lane.process, lane.thread, lane.kind]);
    const group = groups.get(key);
    if (group) group.push(index);
    else groups.set(key, [index]);
  });
  return [...groups.values()].map((group) => group.sort((a, b) => lanes[a]!.depth - lanes[b]!.depth));
}

/** Find each span's parent one lane above. A gateway's depth is a place for what runs at once, not nesting. */
function nest(trace: Trace, above: number, lane: number): void {
  if (trace.lanes[lane]!.kind === "gateway") return;
  if (trace.lanes[lane]!.depth !== trace.lanes[above]!.depth + 1) return;
  let p = trace.first[above]!;
  const last = trace.first[above + 1]! - 1;
  for (let i = trace.first[lane]!; i < trace.first[lane + 1]!; i++) {
    const slack = ROUNDING_US + ROUNDING_SHARE * trace.end[i]!;
    while (p < last && trace.start[p + 1]! <= trace.start[i]! + ROUNDING_US) p++;
    if (p > last) continue;
    const inside = trace.start[p]! <= trace.start[i]! + ROUNDING_US && trace.end[i]! <= trace.end[p]! + slack;
    if (inside) trace.parent[i] = p;
  }
}

/** First index in [from, to) for which `holds` is true; it must be false before and true from there on. */
export function firstWhere(from: number, to: number, holds: (index: number) => boolean): number {
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (holds(middle)) to = middle;
    else from = middle + 1;
  }
  return from;
}
