// What a selection says: the table of operators, how many spans are short and how long the GPU idles; search; batches.
// Pure: one pass over typed arrays each. A selection is an interval of time and some threads.

import type { Density } from "./lod";
import { firstWhere, type Kind, type Trace } from "./trace";
import type { Range } from "./viewport";

export interface Selection extends Range {
  /** null: all of them. */
  threads: ReadonlySet<number> | null;
}

export function everything(trace: Trace): Selection {
  return { from: 0, to: trace.total, threads: null };
}

/** When the workers are at it, with room around: the first requests may have waited long for the profiler to begin. */
export function working(trace: Trace): Range {
  const range = { from: Infinity, to: 0 };
  trace.lanes.forEach(({ kind }, lane) => {
    const [first, last] = [trace.first[lane]!, trace.first[lane + 1]! - 1];
    if (kind === "gateway" || last < first) return;
    range.from = Math.min(range.from, trace.start[first]!);
    range.to = Math.max(range.to, trace.end[last]!);
  });
  if (range.to <= range.from) return { from: 0, to: trace.total };
  const room = 0.02 * (range.to - range.from);
  return { from: Math.max(0, range.from - room), to: Math.min(trace.total, range.to + room) };
}

/** Calls `visit` for each span that meets the selection with its time within; those around a span come before it. */
export function within(trace: Trace, selection: Selection, visit: (index: number, inside: number) => void): void {
  const { from, to, threads } = selection;
  for (const lane of trace.threads.filter((_, thread) => threads?.has(thread) ?? true).flat()) {
    const last = trace.first[lane + 1]!;
    for (let i = firstWhere(trace.first[lane]!, last, (k) => trace.end[k]! >= from); i < last; i++) {
      if (trace.start[i]! > to) break;
      if (!meets(trace, i, from, to)) continue;
      visit(i, Math.min(trace.end[i]!, to) - Math.max(trace.start[i]!, from));
    }
  }
}

/** Spans that only touch the interval are outside, those without length at its begin are not. */
function meets(trace: Trace, i: number, from: number, to: number): boolean {
  const [start, end] = [trace.start[i]!, trace.end[i]!];
  return start === end ? start >= from && start <= to : end > from && start < to;
}

export interface Operator {
  name: number;
  kind: Kind;
  calls: number;
  /** Microseconds within the selection, without what is nested in it. */
  self: number;
  total: number;
  /** Indices of details with their calls' total time, longest first. */
  details: [number, number][];
}

export type Column = "name" | "self" | "total" | "calls";

const KINDS: readonly Kind[] = ["gateway", "cpu", "gpu"];

/**
 * One row per name and kind of lane; longest self time first. A recursive operator's total counts each call, as torch's
 * table does. Requests that wait at the same time add up to more than there is: they count where they alone are chosen.
 */
export function operators(trace: Trace, selection: Selection): Operator[] {
  const size = trace.names.length * KINDS.length;
  const kinds = Uint8Array.from(trace.lanes, (lane) => KINDS.indexOf(lane.kind));
  const [calls, self, total] = [new Uint32Array(size), new Float64Array(size), new Float64Array(size)];
  const details = new Map<number, number>();
  const many = Math.max(trace.details.length, 1);
  within(trace, selection, (i, inside) => {
    const kind = kinds[trace.lane[i]!]!;
    const row = trace.name[i]! * KINDS.length + kind;
    calls[row]! += 1;
    self[row]! += inside;
    total[row]! += inside;
    if (trace.parent[i]! >= 0) self[trace.name[trace.parent[i]!]! * KINDS.length + kind]! -= inside;
    if (trace.detail[i]! > 0) {
      const key = row * many + trace.detail[i]!;
      details.set(key, (details.get(key) ?? 0) + inside);
    }
  });
  const byRow = new Map<number, [number, number][]>();
  for (const [key, time] of details) {
    const row = Math.floor(key / many);
    const list = byRow.get(row);
    if (list) list.push([key % many, time]);
    else byRow.set(row, [[key % many, time]]);
  }
  const found: Operator[] = [];
  for (let row = 0; row < size; row++) {
    if (!calls[row]) continue;
    const list = (byRow.get(row) ?? []).sort((a, b) => b[1] - a[1] || a[0] - b[0]);
    const [name, kind] = [Math.floor(row / KINDS.length), KINDS[row % KINDS.length]!];
    found.push({ name, kind, calls: calls[row]!, self: self[row]!, total: total[row]!, details: list });
  }
  const working = found.filter((row) => row.kind !== "gateway");
  return sorted(trace, working.length ? working : found, "self", true);
}

export function sorted(trace: Trace, rows: Operator[], by: Column, descending: boolean): Operator[] {
  const sign = descending ? -1 : 1;
  const text = (row: Operator): string => trace.names[row.name]!;
  const order = (a: Operator, b: Operator): number =>
    by === "name" ? sign * compare(text(a), text(b)) : sign * (a[by] - b[by]) || a.name - b.name;
  return [...rows].sort(order);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** A device kernel shorter than this takes less time than its launch does on the CPU, about 5 to 10 µs with PyTorch. */
export const SHORT_US = 10;

/** How much of a process's work is in short pieces, and how long its GPU has none. */
export interface Pieces {
  process: string;
  /** Spans of its streams; of a process without any, those of its threads in which nothing is nested. */
  kind: "gpu" | "cpu";
  count: number;
  short: number;
  busy: number;
  shortBusy: number;
  /** Microseconds without any device span between the first and the last one; 0 without a GPU. */
  idle: number;
}

export function pieces(trace: Trace, selection: Selection, gaps: ReadonlyMap<string, Density>): Pieces[] {
  const nested = new Uint8Array(trace.count);
  for (const parent of trace.parent) if (parent >= 0) nested[parent] = 1;
  const found = new Map<string, Pieces>();
  within(trace, selection, (i, inside) => {
    const { process, kind } = trace.lanes[trace.lane[i]!]!;
    if (nested[i] || kind === "gateway" || (kind === "cpu" && gaps.has(process))) return;
    let one = found.get(process);
    if (!one) {
      one = { process, kind, count: 0, short: 0, busy: 0, shortBusy: 0, idle: idle(gaps.get(process), selection) };
      found.set(process, one);
    }
    const isShort = trace.end[i]! - trace.start[i]! < SHORT_US;
    one.count += 1;
    one.busy += inside;
    one.short += isShort ? 1 : 0;
    one.shortBusy += isShort ? inside : 0;
  });
  return [...found.values()];
}

function idle(gaps: Density | undefined, { from, to }: Range): number {
  let sum = 0;
  for (let i = 0; gaps && i < gaps.start.length; i++) {
    sum += Math.max(0, Math.min(gaps.end[i]!, to) - Math.max(gaps.start[i]!, from));
  }
  return sum;
}

/** Spans whose name or detail (request ids, shapes) has the text in it, by index; upper and lower case are the same. */
export function search(trace: Trace, text: string): Uint32Array {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return new Uint32Array();
  const has = (words: string[]) => Uint8Array.from(words, (word) => +word.toLowerCase().includes(wanted));
  const [names, details] = [has(trace.names), has(trace.details)];
  const hits = new Uint32Array(trace.count);
  let count = 0;
  for (let i = 0; i < trace.count; i++) {
    if (names[trace.name[i]!] || details[trace.detail[i]!]) hits[count++] = i;
  }
  return hits.slice(0, count);
}

/** The hit before or after another span in time, around the ends, and its place among them from 1. */
export function neighbour(trace: Trace, hits: Uint32Array, at: number, step: 1 | -1): { index: number; place: number } {
  const before = (a: number, b: number): boolean => {
    return trace.start[a]! < trace.start[b]! || (trace.start[a] === trace.start[b] && a < b);
  };
  const outer = (a: number, b: number): boolean => (step > 0 ? before(a, b) : before(b, a));
  let index = -1;
  let extreme = -1;
  for (const hit of hits) {
    if (extreme < 0 || outer(hit, extreme)) extreme = hit;
    if (at >= 0 && outer(at, hit) && (index < 0 || outer(hit, index))) index = hit;
  }
  if (index < 0) index = extreme;
  let place = 1;
  for (const hit of hits) place += +before(hit, index);
  return { index, place };
}

/** Spans of each batch, by index. */
export class Batches {
  private readonly offsets: Uint32Array;
  private readonly order: Uint32Array;

  constructor(private readonly trace: Trace) {
    const most = trace.link.reduce((a, b) => Math.max(a, b), 0);
    this.offsets = new Uint32Array(most + 2);
    for (const link of trace.link) this.offsets[link + 1]!++;
    for (let link = 0; link <= most; link++) this.offsets[link + 1]! += this.offsets[link]!;
    const next = this.offsets.slice();
    this.order = new Uint32Array(trace.count);
    for (let i = 0; i < trace.count; i++) this.order[next[trace.link[i]!]!++] = i;
  }

  of(link: number): Uint32Array {
    if (link <= 0 || link + 1 >= this.offsets.length) return new Uint32Array();
    return this.order.subarray(this.offsets[link]!, this.offsets[link + 1]!);
  }

  /** How a batch goes through the processes: from each request's last wait to its worker, from there to each stream. */
  arrows(link: number, most: number): [from: number, to: number][] {
    const { lanes, lane, threadOf } = this.trace;
    const waits = new Map<number, number>();
    const begins = new Map<number, number>();
    for (const i of this.of(link)) {
      const thread = threadOf[lane[i]!]!;
      if (lanes[lane[i]!]!.kind === "gateway") {
        const before = waits.get(lane[i]!);
        if (before === undefined || this.trace.start[i]! > this.trace.start[before]!) waits.set(lane[i]!, i);
      } else if (!begins.has(thread) || this.trace.start[i]! < this.trace.start[begins.get(thread)!]!) {
        begins.set(thread, i);
      }
    }
    const first = [...begins.values()].sort((a, b) => this.trace.start[a]! - this.trace.start[b]!);
    const worker = first.find((i) => lanes[lane[i]!]!.kind === "cpu") ?? first[0];
    if (worker === undefined) return [];
    const from = [...waits.values()].map((wait): [number, number] => [wait, worker]);
    const to = first.filter((i) => i !== worker).map((i): [number, number] => [worker, i]);
    return [...to, ...from].slice(0, most);
  }
}
