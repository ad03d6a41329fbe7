import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";

import { bars, meanSize } from "./batches";
import { describe, layout } from "./cores";
import { deviceLoad, isScarce } from "./device";
import { add, columns, KEPT } from "./series";
import { parts } from "./stages";
import { Tail } from "./tail";
import type { Core, Point, Worker } from "./types";

const point = (at: number, rate = 1): Point => ({
  at,
  requests_per_s: rate,
  errors_per_s: 0,
  p50_ms: 2,
  p99_ms: 3,
  queue: 4,
});

test("silence of the kernel was quiet time", () => {
  const points = add(add([], point(10, 5)), point(60, 7));
  assert.deepEqual(
    points.map((one) => [one.at, one.requests_per_s, one.p50_ms]),
    [
      [10, 5, 2],
      [11, 0, null],
      [59, 0, null],
      [60, 7, 2],
    ],
  );
  assert.deepEqual(columns(points, "queue")[1], [4, 4, 4, 4]);
});

test("points are bounded, ordered and not repeated", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 1000 })), (times) => {
      let points: Point[] = [];
      for (const at of times) points = add(points, point(at));
      assert.ok(points.length <= KEPT);
      for (let at = 1; at < points.length; at++) assert.ok(points[at]!.at > points[at - 1]!.at);
      if (times.length) assert.equal(points[points.length - 1]!.at, Math.max(...times));
    }),
  );
});

test("shares add up to one, in the order of a request", () => {
  const found = parts({ inference: 3, queue: 1, odd: 1, decode: 0 });
  assert.deepEqual(
    found.map(({ stage, share }) => [stage, share]),
    [
      ["queue", 0.2],
      ["inference", 0.6],
      ["odd", 0.2],
    ],
  );
  assert.deepEqual(parts({}), []);
});

test("bars count every batch and request, however wide the sizes", () => {
  fc.assert(
    fc.property(fc.dictionary(fc.integer({ min: 1, max: 500 }).map(String), fc.integer({ min: 1, max: 99 })), (sizes) => {
      const found = bars(sizes);
      const batches = Object.values(sizes).reduce((a, b) => a + b, 0);
      const requests = Object.entries(sizes).reduce((sum, [size, count]) => sum + Number(size) * count, 0);
      assert.equal(found.reduce((sum, bar) => sum + bar.batches, 0), batches);
      assert.equal(found.reduce((sum, bar) => sum + bar.requests, 0), requests);
      assert.ok(found.length <= 12);
      if (batches) assert.equal(meanSize(sizes), requests / batches);
    }),
  );
});

test("wide bars end at powers of two, where batches are full", () => {
  const labels = bars({ "1": 1, "32": 1 }).map((bar) => bar.label);
  assert.deepEqual(labels, ["1", "2", "3–4", "5–8", "9–16", "17–32"]);
});

test("cores hang together as the machine has them", () => {
  const core = (cpu: number, physical: number, l3: number, node = 0): Core => ({
    cpu,
    physical,
    sibling: cpu >= 4 ? 1 : 0,
    l3,
    node,
    tier: 0,
  });
  const cores = [core(0, 0, 0), core(4, 0, 0), core(1, 1, 0), core(5, 1, 0), core(2, 2, 1, 1), core(6, 2, 1, 1)];
  const workers = [
    { id: 0, cores: [1, 5] },
    { id: 1, cores: [5, 2] },
  ] as Worker[];
  const groups = layout(cores, workers, [0, 4]);
  assert.deepEqual(
    groups.map((group) => [group.node, group.cores.map((cells) => cells.map((cell) => cell.cpu))]),
    [
      [0, [[0, 4], [1, 5]]],
      [1, [[2, 6]]],
    ],
  );
  const cells = groups.flatMap((group) => group.cores.flat());
  assert.equal(cells.length, 6);
  assert.deepEqual(cells.map(describe).sort()[5], "CPU 6: free");
  assert.equal(describe(cells[0]!), "CPU 0: kept for gateway and notebook");
  assert.equal(describe(cells.find((cell) => cell.cpu === 5)!), "CPU 5: shared by workers 0, 1");
});

test("a tail keeps the last lines in order and counts what is gone", () => {
  const batch = fc.record({ lines: fc.array(fc.string()), leftOut: fc.nat(5) });
  fc.assert(
    fc.property(fc.array(batch), fc.integer({ min: 1, max: 20 }), (batches, most) => {
      const tail = new Tail(most);
      const all: (string | null)[] = [];
      for (const { lines, leftOut } of batches) {
        tail.add(lines, leftOut);
        all.push(...Array<null>(leftOut).fill(null), ...lines);
      }
      assert.equal(tail.count, all.length);
      const kept = all.slice(Math.max(all.lastIndexOf(null) + 1, all.length - most));
      const left = all.length - kept.length;
      assert.equal(tail.text(), (left ? [`(${left} earlier lines are not shown)`] : []).concat(kept as string[]).join("\n"));
    }),
  );
});

test("a GPU's memory is told with its limit, whose it is, and its load", () => {
  // Of an 80 GB card: mem_get_info and max_memory_reserved of one worker, beside a process of somebody else.
  const worker = {
    device: "cuda:0",
    device_total_bytes: 84_987_740_160,
    device_free_bytes: 60_129_542_144,
    device_own_bytes: 18_253_611_008,
    device_busy: 0.37,
  } as Worker;
  const load = deviceLoad(worker)!;
  assert.equal(load.text, "24.9 GB of 85 GB, 37 % busy");
  assert.match(load.told, /^cuda:0: .* at most 18.3 GB of it by this worker/);
  assert.deepEqual([load.own.toFixed(3), load.taken.toFixed(3), isScarce(load)], ["0.215", "0.292", false]);
  assert.equal(deviceLoad({ ...worker, device_busy: null })!.text, "24.9 GB of 85 GB");
  const full = deviceLoad({ ...worker, device_free_bytes: 1e9, device_own_bytes: 90e9 })!;
  assert.ok(isScarce(full) && full.own === full.taken && full.taken < 1, "a peak may be more than what is taken now");
  assert.equal(deviceLoad({ ...worker, device: "cpu", device_total_bytes: null, device_free_bytes: null }), null);
});
