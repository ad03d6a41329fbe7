// The pixels of a whole picture against a renderer that draws every span by itself.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";

import { colours, PALETTE, type Theme } from "./colours";
import { layout } from "./lanes";
import { barHeight, barLevel, paint, Raster, sceneOf, Shades } from "./raster";
import { all, ranges, traces } from "./random";
import { Batches } from "./select";
import type { Trace } from "./trace";

const THEME: Theme = {
  background: [255, 255, 255],
  raised: [240, 240, 240],
  border: [200, 200, 200],
  text: [20, 20, 20],
  muted: [90, 90, 90],
  brand: [25, 118, 210],
  warn: [245, 124, 0],
  font: "sans-serif",
};
const SHADES = new Shades(THEME);
const WIDTH = 160;

function picture(
  trace: Trace,
  from: number,
  scale: number,
  emphasis: Uint32Array | null,
): { raster: Raster; rows: ReturnType<typeof layout> } {
  const rows = layout(trace, new Set());
  const raster = new Raster(WIDTH, Math.ceil(rows.height));
  paint(
    raster,
    sceneOf(trace),
    rows.rows,
    { window: { start: from, scale, width: WIDTH }, top: 0, ratio: 1 },
    SHADES,
    emphasis,
  );
  return { raster, rows };
}

test("each column of a row has what is there, and nothing where nothing is", () => {
  fc.assert(
    fc.property(traces, ranges, fc.integer({ min: -6, max: 3 }), (trace, range, power) => {
      const scale = 2 ** power;
      const { raster, rows } = picture(trace, range.from, scale, null);
      for (const row of rows.rows.filter((each) => each.kind !== "gpu")) {
        const covered = columns(trace, row.lanes[0]!, range.from, scale);
        const y = Math.round(row.y + row.height) - 1; // bars stand on the bottom line
        for (let x = 0; x < WIDTH; x++) {
          const drawn = raster.pixels[y * WIDTH + x] !== SHADES.background;
          assert.equal(drawn, covered[x] === true, `row ${row.y}, column ${x}`);
        }
      }
    }),
    { numRuns: 200 },
  );
});

/** Whole pixels that a span takes are those of its drawing rule: at least one, the last of a wide one left free. */
function columns(trace: Trace, lane: number, from: number, scale: number): boolean[] {
  const covered: boolean[] = [];
  for (const i of all(trace).filter((each) => trace.lane[each] === lane && trace.end[each]! > from)) {
    const [x0, x1] = [(trace.start[i]! - from) * scale, (trace.end[i]! - from) * scale];
    const wide = x1 - x0 >= 1;
    const left = wide ? Math.max(-1, Math.floor(x0)) : Math.max(0, Math.floor(x0));
    const right = wide ? Math.max(left + 1, Math.round(x1)) : left + 1;
    for (let x = Math.max(0, left); x < (right - left > 3 ? right - 1 : right); x++) covered[x] = true;
  }
  return covered;
}

test("more spans in a pixel are stronger, and more time in it is higher", () => {
  assert.ok(barLevel(1) >= 4 && barLevel(2) > barLevel(1) && barLevel(16) === 8 && barLevel(1e6) === 8);
  assert.ok(barHeight(0) > 0.25 && barHeight(0.5) > barHeight(0.1) && barHeight(3) === 1);
});

test("what is emphasized keeps its colour, the rest is dimmed", () => {
  fc.assert(
    fc.property(traces, (trace) => {
      const scale = 2 ** -3;
      const batch = new Batches(trace).of(1);
      const { raster, rows } = picture(trace, 0, scale, batch);
      for (const i of batch) {
        const row = rows.rows.find((each) => each.lanes.includes(trace.lane[i]!))!;
        const x = Math.floor(trace.start[i]! * scale);
        if (x >= WIDTH || trace.end[i]! <= 0) continue;
        const colour = raster.pixels[Math.round(row.y) * WIDTH + x]!;
        const full = SHADES.full.map((levels) => levels[8]!);
        assert.ok(full.includes(colour), `span ${i}`);
      }
    }),
    { numRuns: 100 },
  );
});

test("names have colours of their own as long as there are enough", () => {
  const names = Array.from({ length: 2 * PALETTE.length }, (_, k) => `aten::op${k}`);
  const order = names.map((_, k) => k).reverse();
  const found = colours(names, order);
  for (const half of [order.slice(0, PALETTE.length), order.slice(PALETTE.length)]) {
    assert.equal(new Set(half.map((name) => found[name])).size, PALETTE.length);
  }
});
