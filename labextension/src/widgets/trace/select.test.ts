// Tables, search, batches and parents against definitions that look at every span.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";

import { boxes, fold, matching } from "./flame";
import { idleGaps } from "./gaps";
import { layout, rowAt, spanAt, threadsBetween } from "./lanes";
import { all, lane, ranges, traceOf, traces } from "./random";
import { Batches, everything, neighbour, operators, pieces, search, sorted, working, type Selection } from "./select";
import type { Trace } from "./trace";
import { detailLines, piecesLine, shapesOf, spanLines, threadRows } from "./words";

const near = (a: number, b: number): boolean => Math.abs(a - b) < 1e-6;
const threads = fc.option(fc.uniqueArray(fc.nat(4), { minLength: 1 }).map((list) => new Set(list)));
const selections: fc.Arbitrary<Selection> = fc
  .tuple(ranges, threads)
  .map(([range, chosen]) => ({ ...range, threads: chosen }));

function inside(trace: Trace, i: number, { from, to, threads }: Selection): number | undefined {
  const [start, end] = [trace.start[i]!, trace.end[i]!];
  if (threads && !threads.has(trace.threadOf[trace.lane[i]!]!)) return undefined;
  if (start === end ? start < from || start > to : end <= from || start >= to) return undefined;
  return Math.min(end, to) - Math.max(start, from);
}

test("a span's parent is the one above it on its thread", () => {
  fc.assert(
    fc.property(traces, (trace) => {
      for (const i of all(trace)) {
        const mine = trace.lanes[trace.lane[i]!]!;
        const above = all(trace).filter((p) => {
          const other = trace.lanes[trace.lane[p]!]!;
          const inLane =
            other.process === mine.process && other.thread === mine.thread && other.depth === mine.depth - 1;
          return (
            inLane && mine.kind !== "gateway" && trace.start[p]! <= trace.start[i]! && trace.end[i]! <= trace.end[p]!
          );
        });
        if (trace.parent[i]! >= 0) assert.ok(above.includes(trace.parent[i]!));
        // Where spans only touch, either may be meant: only what lies strictly within one is certain.
        const certain = above.filter(
          (p) => trace.start[p]! < trace.start[i]! && trace.start[i]! + 0.02 < trace.end[p]!,
        );
        if (certain.length) assert.deepEqual([trace.parent[i]!], certain);
      }
    }),
    { numRuns: 60 },
  );
});

test("the table of operators adds up what is selected", () => {
  fc.assert(
    fc.property(traces, selections, (trace, selection) => {
      const rows = operators(trace, selection);
      const wanted = new Map<string, { calls: number; total: number; self: number }>();
      const chosen = all(trace).filter((i) => inside(trace, i, selection) !== undefined);
      const kindOf = (i: number): string => trace.lanes[trace.lane[i]!]!.kind;
      const counted = chosen.some((i) => kindOf(i) !== "gateway")
        ? chosen.filter((i) => kindOf(i) !== "gateway")
        : chosen;
      for (const i of counted) {
        const time = inside(trace, i, selection)!;
        const key = `${trace.name[i]} ${kindOf(i)}`;
        const one = wanted.get(key) ?? { calls: 0, total: 0, self: 0 };
        const children = all(trace).filter((child) => trace.parent[child] === i);
        const nested = children.reduce((sum, child) => sum + (inside(trace, child, selection) ?? 0), 0);
        wanted.set(key, { calls: one.calls + 1, total: one.total + time, self: one.self + time - nested });
      }
      assert.deepEqual(new Set(rows.map((row) => `${row.name} ${row.kind}`)), new Set(wanted.keys()));
      for (const row of rows) {
        const one = wanted.get(`${row.name} ${row.kind}`)!;
        assert.equal(row.calls, one.calls);
        assert.ok(near(row.total, one.total) && near(row.self, one.self));
      }
      for (let i = 1; i < rows.length; i++) assert.ok(rows[i - 1]!.self >= rows[i]!.self);
    }),
    { numRuns: 100 },
  );
});

test("a table is sorted by any column, both ways", () => {
  const trace = traceOf(
    [0, 1, 2].map((name) => ({ start: 10 * name, duration: 1 + name, name, lane: 0, detail: 0, link: 0 })),
    [lane("main", 0)],
  );
  const rows = operators(trace, everything(trace));
  assert.deepEqual(
    sorted(trace, rows, "total", false).map((row) => row.name),
    [0, 1, 2],
  );
  assert.deepEqual(
    sorted(trace, rows, "name", true).map((row) => trace.names[row.name]),
    ["aten::mm", "aten::add", "Memcpy"].sort().reverse(),
  );
});

test("the flame graph folds the same times by path", () => {
  fc.assert(
    fc.property(traces, selections, (trace, selection) => {
      const flame = fold(trace, selection);
      const wanted = new Map<string, number>();
      for (const i of all(trace)) {
        const time = inside(trace, i, selection);
        if (time === undefined || trace.lanes[trace.lane[i]!]!.kind === "gateway") continue;
        const path: string[] = [];
        for (let k = i; k >= 0; k = trace.parent[k]!) path.unshift(trace.names[trace.name[k]!]!);
        const { process, thread } = trace.lanes[trace.lane[i]!]!;
        const key = ["all", `${process} · ${thread}`, ...path].join("|");
        wanted.set(key, (wanted.get(key) ?? 0) + time);
      }
      const pathOf = (node: number): string => {
        const above = flame.parent[node]!;
        return above < 0 ? flame.label[node]! : `${pathOf(above)}|${flame.label[node]}`;
      };
      const found = new Map(
        flame.label.map((_, node) => [pathOf(node), node]).filter(([, node]) => flame.depth[node as number]! > 1) as [
          string,
          number,
        ][],
      );
      assert.deepEqual(new Set(found.keys()), new Set(wanted.keys()));
      for (const [path, node] of found) assert.ok(near(flame.total[node]!, wanted.get(path)!), path);
      flame.label.forEach((_, node) => {
        const children = flame.children[node]!.reduce((sum, child) => sum + flame.total[child]!, 0);
        if (flame.depth[node]! < 2) assert.ok(near(flame.total[node]!, children));
        else assert.ok(near(flame.self[node]!, flame.total[node]! - children));
      });
    }),
    { numRuns: 100 },
  );
});

test("boxes of a flame graph lie within their parents", () => {
  fc.assert(
    fc.property(traces, (trace) => {
      const flame = fold(trace, everything(trace));
      for (let zoomed = 0; zoomed < flame.label.length; zoomed += 3) {
        const drawn = boxes(flame, zoomed, 0);
        assert.ok(drawn.some((box) => box.node === zoomed && box.x0 === 0 && box.x1 === 1));
        const places = new Map(drawn.map((box) => [box.node, box]));
        for (const box of drawn) {
          const above = places.get(flame.parent[box.node]!);
          if (above) assert.ok(box.x0 >= above.x0 - 1e-9 && box.x1 <= above.x1 + 1e-9 && box.depth === above.depth + 1);
        }
      }
      const { share } = matching(flame, "a");
      assert.ok(share >= 0 && share <= 1 + 1e-9);
    }),
    { numRuns: 50 },
  );
});

test("search finds names and request ids, in time order around the ends", () => {
  fc.assert(
    fc.property(traces, fc.constantFrom("ATEN", "req-7", "mm", "x"), (trace, text) => {
      const hits = search(trace, ` ${text} `);
      const wanted = all(trace).filter((i) => {
        return `${trace.names[trace.name[i]!]}\n${trace.details[trace.detail[i]!]}`
          .toLowerCase()
          .includes(text.toLowerCase());
      });
      assert.deepEqual([...hits], wanted);
      if (!wanted.length) return;
      const inTime = [...wanted].sort((a, b) => trace.start[a]! - trace.start[b]! || a - b);
      let at = -1;
      for (let k = 0; k <= inTime.length; k++) {
        const { index, place } = neighbour(trace, hits, at, 1);
        assert.deepEqual([index, place], [inTime[k % inTime.length], (k % inTime.length) + 1]);
        at = index;
      }
      assert.equal(neighbour(trace, hits, inTime[0]!, -1).index, inTime.at(-1));
    }),
    { numRuns: 100 },
  );
  assert.equal(search(traceOf([], [lane("main", 0)]), "").length, 0);
});

test("a batch has its spans, and arrows from its requests to its streams", () => {
  fc.assert(
    fc.property(traces, (trace) => {
      const batches = new Batches(trace);
      for (const link of [1, 2, 3, 9]) {
        assert.deepEqual(
          [...batches.of(link)],
          all(trace).filter((i) => trace.link[i] === link),
        );
        for (const [from, to] of batches.arrows(link, 100)) {
          assert.equal(trace.link[from], link);
          assert.equal(trace.link[to], link);
          assert.notEqual(trace.lane[from], trace.lane[to]);
        }
      }
      assert.equal(batches.of(0).length, 0);
    }),
    { numRuns: 50 },
  );
});

test("the view begins where the workers do", () => {
  const spans = [
    { start: 0, duration: 900, name: 3, lane: 0, detail: 0, link: 1 },
    { start: 800, duration: 100, name: 0, lane: 1, detail: 0, link: 1 },
  ];
  const lanes = [lane("requests", 0, "gateway", "gateway"), lane("main", 0)];
  assert.deepEqual(working(traceOf(spans, lanes)), { from: 798, to: 900 });
  assert.deepEqual(working(traceOf(spans.slice(0, 1), lanes)), { from: 0, to: 900 });
});

test("short pieces and idle time are counted", () => {
  const spans = [
    { start: 0, duration: 2, name: 0, lane: 1, detail: 0, link: 0 },
    { start: 6, duration: 20, name: 1, lane: 1, detail: 0, link: 0 },
    { start: 0, duration: 100, name: 2, lane: 0, detail: 0, link: 0 },
  ];
  const trace = traceOf(spans, [lane("main", 0), lane("stream 7", 0, "gpu")]);
  const [one, ...others] = pieces(trace, everything(trace), idleGaps(trace));
  assert.deepEqual(one, { process: "worker 0", kind: "gpu", count: 2, short: 1, busy: 22, shortBusy: 2, idle: 4 });
  assert.equal(others.length, 0);
  assert.match(
    piecesLine(one!, 40),
    /2 device spans, 1 \(50 %\) shorter than 10 µs, 9 % of the busy time; GPU idle 4 µs \(10 %\)/,
  );
});

test("a place in the picture leads to a span, and a band to its threads", () => {
  fc.assert(
    fc.property(traces, (trace) => {
      const laid = layout(trace, new Set());
      for (let i = 0; i < trace.count; i += 7) {
        const row = laid.rows.find((each) => each.lanes.includes(trace.lane[i]!))!;
        assert.equal(rowAt(laid, row.y + row.height / 2), row);
        const found = spanAt(trace, row, (trace.start[i]! + trace.end[i]!) / 2, 0.1);
        assert.ok(found >= 0 && trace.start[found]! <= trace.end[i]! && trace.end[found]! >= trace.start[i]!);
      }
      assert.equal(threadsBetween(laid, 0, laid.height).size, trace.threads.length);
    }),
    { numRuns: 50 },
  );
});

test("folded processes are one row, the gateway comes first, rows do not overlap", () => {
  const trace = traceOf(
    [],
    [
      lane("main", 0, "cpu", "worker 10"),
      lane("main", 0, "cpu", "worker 2"),
      lane("requests", 0, "gateway", "zone gateway"),
      lane("stream 7", 0, "gpu", "worker 2"),
    ],
  );
  const open = layout(trace, new Set());
  assert.deepEqual(
    open.groups.map((group) => group.process),
    ["zone gateway", "worker 2", "worker 10"],
  );
  open.rows.slice(1).forEach((row, k) => assert.ok(row.y >= open.rows[k]!.y + open.rows[k]!.height));
  const folded = layout(trace, new Set(["worker 2"]));
  assert.deepEqual(folded.groups[1]!.threads, []);
  assert.deepEqual(folded.rows[1]!.lanes, [1, 3]);
  assert.ok(folded.height < open.height);
});

test("words of spans, details and threads", () => {
  const spans = [{ start: 5, duration: 1500, name: 0, lane: 0, detail: 1, link: 3 }];
  const trace = traceOf(spans, [lane("main", 0)]);
  assert.deepEqual(spanLines(trace, 0, 1), [
    "aten::mm",
    "1.5 ms, from 5 µs",
    "worker 0, main",
    "batch 3: 1 span",
    "shapes: [[2,3]]",
  ]);
  assert.deepEqual(detailLines("not json"), ["not json"]);
  assert.equal(detailLines(JSON.stringify({ text: "x".repeat(999) }))[0]!.length, 301);
  assert.equal(shapesOf('{"shapes":[[2,3],[],4,[5]]}'), "[2, 3], [5]");
  assert.equal(shapesOf("{"), "");
  assert.deepEqual(threadRows(trace), [["worker 0", "main", "1", "1.5 ms", "99 %"]]);
});
