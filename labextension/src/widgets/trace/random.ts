// Random traces for the tests of this folder, by fast-check: nested threads, streams, overlapping requests.

import fc from "fast-check";

import { derive, type Kind, type Lane, type Trace } from "./trace";

export interface Span {
  start: number;
  duration: number;
  name: number;
  lane: number;
  detail: number;
  link: number;
}

const NAMES = ["aten::mm", "aten::add", "Memcpy", "queue", "nn.Module: A"];
const DETAILS = ["", '{"shapes":[[2,3]]}', '{"request":"req-7"}', "not json"];
const LANES: Lane[] = [
  { process: "gateway", thread: "requests", depth: 0, kind: "gateway" },
  { process: "gateway", thread: "requests", depth: 1, kind: "gateway" },
  { process: "worker 0", thread: "main", depth: 0, kind: "cpu" },
  { process: "worker 0", thread: "main", depth: 1, kind: "cpu" },
  { process: "worker 0", thread: "main", depth: 2, kind: "cpu" },
  { process: "worker 0", thread: "stream 7", depth: 0, kind: "gpu" },
  { process: "worker 0", thread: "stream 9", depth: 0, kind: "gpu" },
  { process: "worker 1", thread: "main", depth: 0, kind: "cpu" },
];

/** Spans of one lane: gap and length of each. Lengths from nothing to long, as in real traces. */
const length = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 8 }), fc.integer({ min: 0, max: 400 }));
const steps = fc.array(fc.tuple(length, length, fc.nat(4), fc.nat(3), fc.nat(3)), { maxLength: 40 });

/** Traces with quarters of microseconds, which float32 holds exactly; a child mostly lies in a parent. */
export const traces: fc.Arbitrary<Trace> = fc.tuple(...LANES.map(() => steps)).map((lanes) => {
  const spans: Span[] = [];
  lanes.forEach((list, lane) => {
    let at = 0;
    for (const [gap, size, name, detail, link] of list) {
      at += gap / 4;
      spans.push({ start: at, duration: size / 4, name, lane, detail, link });
      at += size / 4;
    }
  });
  return traceOf(spans, LANES);
});

export function traceOf(spans: Span[], lanes: Lane[], names = NAMES, details = DETAILS): Trace {
  const ordered = [...spans].sort((a, b) => a.lane - b.lane || a.start - b.start);
  const columns = {
    start: Float64Array.from(ordered, (one) => one.start),
    duration: Float32Array.from(ordered, (one) => one.duration),
    name: Uint32Array.from(ordered, (one) => one.name),
    lane: Uint16Array.from(ordered, (one) => one.lane),
    detail: Uint32Array.from(ordered, (one) => one.detail),
    link: Uint32Array.from(ordered, (one) => one.link),
  };
  return derive(columns, { names, lanes, details, meta: {} });
}

export function lane(thread: string, depth: number, kind: Kind = "cpu", process = "worker 0"): Lane {
  return { process, thread, depth, kind };
}

/** Every index of a trace. */
export function all(trace: Trace): number[] {
  return Array.from({ length: trace.count }, (_, i) => i);
}

/** Ranges, some narrow, some wider than the trace. */
export const ranges = fc
  .tuple(
    fc.integer({ min: 0, max: 4000 }),
    fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 8000 })),
  )
  .map(([from, size]) => ({ from: from / 4, to: (from + size) / 4 }));
