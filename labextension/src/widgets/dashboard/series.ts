// The points of the charts: bounded, and with zeros where nothing came because nothing happened. Pure.

import type { Point } from "./types";

/** Points kept, one a second. */
export const KEPT = 180;
/** The kernel is silent while nothing changes: a hole longer than this was quiet time. */
const HOLE_S = 2.5;

/** Add a point to the end; older ones than `KEPT` go. A point that is not newer than the last replaces nothing. */
export function add(points: readonly Point[], point: Point): Point[] {
  const last = points[points.length - 1];
  if (last && point.at <= last.at) return [...points];
  const filled = last && point.at - last.at > HOLE_S ? [quiet(last.at + 1, last), quiet(point.at - 1, last)] : [];
  return [...points, ...filled, point].slice(-KEPT);
}

function quiet(at: number, before: Point): Point {
  return { at, requests_per_s: 0, errors_per_s: 0, p50_ms: null, p99_ms: null, queue: before.queue };
}

/** Columns as uPlot takes them: times first. */
export function columns(points: readonly Point[], ...keys: (keyof Point)[]): (number | null)[][] {
  return [points.map((point) => point.at), ...keys.map((key) => points.map((point) => point[key]))];
}
