// The buffer from Python, the visible range, the axis.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";

import { duration, percent } from "./format";
import { decode } from "./trace";
import { around, between, clamp, MIN_RANGE_US, pan, ticks, zoom } from "./viewport";

function bytesOf(header: object, columns: ArrayBufferView[]): { buffer: Uint8Array } {
  const text = new TextEncoder().encode(JSON.stringify(header));
  const base = Math.ceil((4 + text.length) / 8) * 8;
  const size = columns.reduce((sum, column) => sum + Math.ceil(column.byteLength / 8) * 8, base);
  const buffer = new Uint8Array(size);
  new DataView(buffer.buffer).setUint32(0, text.length, true);
  buffer.set(text, 4);
  let at = base;
  for (const column of columns) {
    buffer.set(new Uint8Array(column.buffer, column.byteOffset, column.byteLength), at);
    at += Math.ceil(column.byteLength / 8) * 8;
  }
  return { buffer };
}

test("a buffer is read wherever it begins, and a rounded duration is cut at the next span", () => {
  const names = ["start_us", "duration_us", "name", "lane", "detail", "link"];
  const columns = [
    Float64Array.of(0, 1),
    Float32Array.of(1.5, 2),
    Uint32Array.of(0, 1),
    Uint16Array.of(0, 0),
    Uint32Array.of(0, 0),
    Uint32Array.of(0, 4),
  ];
  let offset = 0;
  const places = columns.map((column, k) => {
    const place = [names[k], "", offset];
    offset += Math.ceil(column.byteLength / 8) * 8;
    return place;
  });
  const header = {
    events: 2,
    columns: places,
    names: ["a", "ü"],
    lanes: [["p", "t", 0, "cpu"]],
    details: [""],
    meta: { name: "x" },
  };
  const { buffer } = bytesOf(header, columns);
  const shifted = new Uint8Array(buffer.length + 3);
  shifted.set(buffer, 3);
  const trace = decode(new DataView(shifted.buffer, 3));
  assert.deepEqual([...trace.end], [1, 3]);
  assert.deepEqual([...trace.link], [0, 4]);
  assert.deepEqual([trace.names[1], trace.total, trace.meta["name"], trace.lanes[0]!.kind], ["ü", 3, "x", "cpu"]);
});

const totals = fc.double({ min: 1, max: 1e9, noNaN: true });
const shares = fc.double({ min: 0, max: 1, noNaN: true });

test("a view stays within the trace and never vanishes", () => {
  fc.assert(
    fc.property(totals, shares, shares, fc.double({ min: 0.01, max: 100, noNaN: true }), (total, a, b, factor) => {
      const start = clamp({ from: a * total, to: a * total + b * total }, total);
      const at = start.from + b * (start.to - start.from);
      for (const range of [
        start,
        zoom(start, factor, at, total),
        pan(start, factor - 2, total),
        around(a * total, a * total, total),
      ]) {
        assert.ok(range.from >= 0 && range.to <= total * (1 + 1e-12) + 1e-6);
        assert.ok(range.to - range.from >= Math.min(MIN_RANGE_US, total) * 0.99);
      }
    }),
  );
});

test("what is under the pointer stays there", () => {
  const range = zoom({ from: 100, to: 200 }, 0.5, 125, 1000);
  assert.deepEqual(range, { from: 112.5, to: 162.5 });
  assert.deepEqual(zoom(range, 2, 125, 1000), { from: 100, to: 200 });
});

test("a glide begins and ends where it should", () => {
  const [one, other] = [
    { from: 0, to: 1000 },
    { from: 400, to: 410 },
  ];
  assert.deepEqual(between(one, other, 0), one);
  const end = between(one, other, 1);
  assert.ok(Math.abs(end.from - 400) < 1e-6 && Math.abs(end.to - 410) < 1e-6);
  assert.deepEqual(between(one, { from: 10, to: 1010 }, 0.5), { from: 5, to: 1005 });
});

test("ticks are round, and no more than there is room for", () => {
  fc.assert(
    fc.property(totals, shares, fc.integer({ min: 1, max: 20 }), (total, share, most) => {
      const found = ticks({ from: share * total, to: share * total + total / 7 }, most);
      assert.ok(found.length <= most + 1);
      assert.equal(new Set(found.map((tick) => tick.label)).size, found.length);
    }),
  );
  assert.deepEqual(
    ticks({ from: 0, to: 1000 }, 5).map((tick) => tick.label),
    ["0.0 ms", "0.2 ms", "0.4 ms", "0.6 ms", "0.8 ms", "1.0 ms"],
  );
  assert.deepEqual(
    ticks({ from: 0, to: 3e6 }, 3).map((tick) => tick.label),
    ["0 s", "1 s", "2 s", "3 s"],
  );
});

test("numbers read well", () => {
  assert.deepEqual([0.1234, 45.678, 999.94, 1234, 2.5e6].map(duration), [
    "0.123 µs",
    "45.68 µs",
    "999.9 µs",
    "1.234 ms",
    "2.5 s",
  ]);
  assert.deepEqual([0, 0.001, 0.5, 0.999, 1].map(percent), ["0 %", "<1 %", "50 %", "99 %", "100 %"]);
});
