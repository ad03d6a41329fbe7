// Times in which a process's GPU does nothing: none of its streams has a span. Pure; computed once for a trace.

import { Density } from "./lod";
import type { Trace } from "./trace";

/** By process: gaps between its first and last device span, as spans of their own. */
export function idleGaps(trace: Trace): Map<string, Density> {
  const lanes = new Map<string, number[]>();
  trace.lanes.forEach((lane, index) => {
    if (lane.kind === "gpu") lanes.set(lane.process, [...(lanes.get(lane.process) ?? []), index]);
  });
  return new Map([...lanes].map(([process, indices]) => [process, gapsOf(trace, indices)]));
}

/** Starts and ends, each sorted: where as many have ended as begun, nothing runs until the next start. */
function gapsOf(trace: Trace, lanes: number[]): Density {
  const starts = gather(trace.start, trace, lanes);
  const ends = gather(trace.end, trace, lanes);
  const from: number[] = [];
  const to: number[] = [];
  for (let i = 1; i < starts.length; i++) {
    if (ends[i - 1]! < starts[i]!) {
      from.push(ends[i - 1]!);
      to.push(starts[i]!);
    }
  }
  return new Density(Float64Array.from(from), Float64Array.from(to));
}

function gather(column: Float64Array, trace: Trace, lanes: number[]): Float64Array {
  const parts = lanes.map((lane) => column.subarray(trace.first[lane]!, trace.first[lane + 1]!));
  const all = new Float64Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all.sort();
}
