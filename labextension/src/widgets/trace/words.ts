// What is said of a span, of a lane, of a selection: plain text, for tooltips, tables and screen readers. Pure.

import { count, duration, percent, plural } from "./format";
import { SHORT_US, type Pieces } from "./select";
import type { Trace } from "./trace";

/** A span in lines: its name first. `batch`: how many spans belong to its batch. */
export function spanLines(trace: Trace, index: number, batch: number): string[] {
  const lane = trace.lanes[trace.lane[index]!]!;
  const lines = [
    trace.names[trace.name[index]!] ?? "",
    `${duration(trace.end[index]! - trace.start[index]!)}, from ${duration(trace.start[index]!)}`,
    `${lane.process}, ${lane.thread}`,
  ];
  if (trace.link[index]! > 0) lines.push(`batch ${trace.link[index]}: ${plural(batch, "span")}`);
  return [...lines, ...detailLines(trace.details[trace.detail[index]!] ?? "")];
}

const MOST_CHARACTERS = 300;

/** The JSON of a detail as `key: value` lines; what is no JSON object as it is. */
export function detailLines(text: string): string[] {
  if (!text) return [];
  const value = parsed(text);
  if (value === null || typeof value !== "object" || Array.isArray(value)) return [cut(text)];
  return Object.entries(value).map(([key, each]) =>
    cut(`${key}: ${typeof each === "string" ? each : JSON.stringify(each)}`),
  );
}

/** The shapes of a detail that are tensors', as one word. */
export function shapesOf(text: string): string {
  const value = text ? parsed(text) : null;
  const shapes = value !== null && typeof value === "object" ? (value as Record<string, unknown>)["shapes"] : undefined;
  if (!Array.isArray(shapes)) return "";
  const tensors = shapes.filter((shape) => Array.isArray(shape) && shape.length > 0);
  return cut(tensors.map((shape) => JSON.stringify(shape).replaceAll(",", ", ")).join(", "));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function cut(text: string): string {
  return text.length > MOST_CHARACTERS ? `${text.slice(0, MOST_CHARACTERS)}…` : text;
}

/** How a process's work is made up. `range`: length of the selection in microseconds. */
export function piecesLine(one: Pieces, range: number): string {
  const what = one.kind === "gpu" ? "device span" : "operator";
  const short =
    `${one.process}: ${plural(one.count, what)}, ${count(one.short)} (${percent(one.short / one.count)}) ` +
    `shorter than ${SHORT_US} µs, ${percent(one.busy > 0 ? one.shortBusy / one.busy : 0)} of the busy time`;
  return one.kind === "gpu" ? `${short}; GPU idle ${duration(one.idle)} (${percent(one.idle / range)})` : short;
}

/** A row for each thread: process, thread, spans, busy time of the outermost, share of the trace. */
export function threadRows(trace: Trace): string[][] {
  return trace.threads.map((lanes) => {
    const { process, thread } = trace.lanes[lanes[0]!]!;
    const spans = lanes.reduce((sum, lane) => sum + trace.first[lane + 1]! - trace.first[lane]!, 0);
    let busy = 0;
    for (let i = trace.first[lanes[0]!]!; i < trace.first[lanes[0]! + 1]!; i++) busy += trace.end[i]! - trace.start[i]!;
    return [process, thread, count(spans), duration(busy), percent(trace.total > 0 ? busy / trace.total : 0)];
  });
}
