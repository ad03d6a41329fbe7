import assert from "node:assert/strict";
import { test } from "node:test";

import { bytes, count, duration, percent } from "./format";

test("counts keep what says something", () => {
  assert.deepEqual([0, 0.4242, 7.06, 312.4, 9999, 12_400, 3.2e6].map(count), [
    "0",
    "0.42",
    "7.06",
    "312",
    "9999",
    "12.4k",
    "3.2M",
  ]);
});

test("durations change their unit", () => {
  assert.deepEqual([0, 0.042, 0.5, 12.34, 999, 1500, NaN].map(duration), [
    "0 ms",
    "42 µs",
    "0.5 ms",
    "12.3 ms",
    "999 ms",
    "1.5 s",
    "–",
  ]);
});

test("bytes and shares", () => {
  assert.equal(bytes(412_000_000), "412 MB");
  assert.equal(bytes(0), "0 B");
  assert.equal(percent(0.004), "<1 %");
  assert.equal(percent(0.126), "13 %");
});
