// The level of detail against a brute-force renderer that looks at every span.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";

import { idleGaps } from "./gaps";
import { Density, scan, type Window } from "./lod";
import { all, ranges, traces } from "./random";
import type { Trace } from "./trace";

interface Drawn {
  spans: Map<number, [number, number]>;
  bins: Map<number, { count: number; filled: number; longest: number }>;
}

function byScan(spans: Density, from: number, to: number, window: Window): Drawn {
  const drawn: Drawn = { spans: new Map(), bins: new Map() };
  let last = -1;
  scan(spans, from, to, window, {
    span: (index, x0, x1) => drawn.spans.set(index, [x0, x1]),
    bin: (x, count, filled, longest) => {
      assert.ok(x >= last, "from left to right");
      last = x;
      const bin = drawn.bins.get(x); // a pixel may have spans before and after a wide one's end
      if (!bin) drawn.bins.set(x, { count, filled, longest });
      else
        drawn.bins.set(x, {
          count: bin.count + count,
          filled: bin.filled + filled,
          longest: longerOf(spans, bin.longest, longest),
        });
    },
  });
  return drawn;
}

function byBruteForce(spans: Density, from: number, to: number, { start, scale, width }: Window): Drawn {
  const drawn: Drawn = { spans: new Map(), bins: new Map() };
  for (let i = from; i < to; i++) {
    const [x0, x1] = [(spans.start[i]! - start) * scale, (spans.end[i]! - start) * scale];
    if (spans.end[i]! <= start || x0 >= width) continue;
    if (spans.length(i) * scale >= 1) {
      drawn.spans.set(i, [x0, x1]);
      continue;
    }
    const x = Math.max(0, Math.floor(x0));
    const bin = drawn.bins.get(x) ?? { count: 0, filled: 0, longest: i };
    drawn.bins.set(x, {
      count: bin.count + 1,
      filled: bin.filled + spans.length(i) * scale,
      longest: longerOf(spans, bin.longest, i),
    });
  }
  return drawn;
}

function longerOf(spans: Density, one: number, other: number): number {
  return spans.length(other) > spans.length(one) ? other : one;
}

function assertSame(found: Drawn, wanted: Drawn): void {
  assert.deepEqual([...found.spans], [...wanted.spans]);
  assert.deepEqual([...found.bins.keys()], [...wanted.bins.keys()]);
  for (const [x, bin] of wanted.bins) {
    const { count, filled, longest } = found.bins.get(x)!;
    assert.deepEqual({ count, longest }, { count: bin.count, longest: bin.longest });
    assert.ok(Math.abs(filled - bin.filled) < 1e-6);
  }
}

// Powers of two, so that both compute exactly the same pixels.
const scales = fc.integer({ min: -9, max: 4 }).map((power) => 2 ** power);
const widths = fc.integer({ min: 1, max: 300 });

test("every span of a lane is drawn, alone or counted", () => {
  fc.assert(
    fc.property(traces, ranges, scales, widths, (trace: Trace, range, scale, width) => {
      const density = new Density(trace.start, trace.end);
      const window = { start: range.from, scale, width };
      trace.lanes.forEach((_, lane) => {
        const [from, to] = [trace.first[lane]!, trace.first[lane + 1]!];
        assertSame(byScan(density, from, to, window), byBruteForce(density, from, to, window));
      });
    }),
    { numRuns: 300 },
  );
});

test("a long span that begins in the pixel of a tiny one is seen", () => {
  const density = new Density(Float64Array.of(0, 0.5), Float64Array.of(0.25, 90));
  const drawn = byScan(density, 0, 2, { start: 0, scale: 1, width: 100 });
  assert.deepEqual([...drawn.spans.keys()], [1]);
  assert.equal(drawn.bins.get(0)!.count, 1);
});

test("the longest of any range, with blocks of blocks", () => {
  const size = 5000;
  const start = Float64Array.from({ length: size }, (_, i) => 1000 * i);
  const end = start.map((at, i) => at + ((i * 7919) % 997));
  const density = new Density(start, end);
  fc.assert(
    fc.property(fc.nat(size - 1), fc.nat(size - 1), (a, b) => {
      const [from, to] = [Math.min(a, b), Math.max(a, b) + 1];
      let best = from;
      for (let i = from; i < to; i++) if (density.length(i) > density.length(best)) best = i;
      assert.equal(density.longest(from, to), best);
    }),
  );
});

test("the work grows with the pixels, not with the spans", () => {
  const start = Float64Array.from({ length: 400_000 }, (_, i) => i);
  const density = new Density(
    start,
    start.map((at) => at + 0.5),
  );
  let told = 0;
  scan(
    density,
    0,
    start.length,
    { start: 0, scale: 1000 / 400_000, width: 1000 },
    { span: () => told++, bin: () => told++ },
  );
  assert.equal(told, 1000);
});

test("idle gaps are where no stream of a process works", () => {
  fc.assert(
    fc.property(traces, (trace) => {
      const gaps = idleGaps(trace);
      const gpu = all(trace).filter((i) => trace.lanes[trace.lane[i]!]!.kind === "gpu");
      const found = gaps.get("worker 0")!;
      found.start.forEach((from, k) => assert.ok(from < found.end[k]! && from >= (found.end[k - 1] ?? 0)));
      const first = Math.min(...gpu.map((i) => trace.start[i]!));
      const last = Math.max(...gpu.map((i) => trace.start[i]!));
      for (let at = 0; gpu.length && at <= trace.total; at += 0.125) {
        const works = gpu.some((i) => trace.start[i]! <= at && at <= trace.end[i]!);
        const idle = found.start.findIndex((from, k) => from < at && at < found.end[k]!) >= 0;
        assert.equal(idle, !works && at > first && at < last, `at ${at}`);
      }
    }),
    { numRuns: 60 },
  );
});
