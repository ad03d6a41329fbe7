// The flame graph of a selection: spans folded by the path of names that they lie in. Pure; drawn by flameview.ts.

import { within, type Selection } from "./select";
import type { Trace } from "./trace";

/** Nodes in columns, parents before children. Node 0 is the whole; its children are threads. */
export interface Flame {
  label: string[];
  parent: number[];
  depth: number[];
  children: number[][];
  /** Microseconds. */
  total: number[];
  self: number[];
  calls: number[];
}

/** A node where it is drawn: from x0 to x1, shares of the width. */
export interface Box {
  node: number;
  depth: number;
  x0: number;
  x1: number;
}

/** Requests in the gateway wait at the same time as others: their sum is no share of anything, and is left out. */
export function fold(trace: Trace, selection: Selection): Flame {
  const flame: Flame = { label: [], parent: [], depth: [], children: [], total: [], self: [], calls: [] };
  add(flame, "all", -1);
  const nodeOf = new Int32Array(trace.count).fill(-1);
  const byName: Map<number, number>[] = [];
  const threads = new Map<number, number>();
  within(trace, selection, (i, inside) => {
    if (trace.lanes[trace.lane[i]!]!.kind === "gateway") return;
    const above = trace.parent[i]! >= 0 ? nodeOf[trace.parent[i]!]! : -1;
    const parent = above >= 0 ? above : threadNode(flame, trace, threads, trace.threadOf[trace.lane[i]!]!);
    const children = (byName[parent] ??= new Map());
    let node = children.get(trace.name[i]!);
    if (node === undefined) {
      node = add(flame, trace.names[trace.name[i]!]!, parent);
      children.set(trace.name[i]!, node);
    }
    nodeOf[i] = node;
    flame.total[node]! += inside;
    flame.self[node]! += inside;
    flame.calls[node]! += 1;
    if (above >= 0) flame.self[above]! -= inside;
  });
  for (const node of threads.values()) {
    flame.total[node] = flame.children[node]!.reduce((sum, child) => sum + flame.total[child]!, 0);
    flame.total[0]! += flame.total[node]!;
  }
  flame.children.forEach((children) => children.sort((a, b) => flame.total[b]! - flame.total[a]! || a - b));
  return flame;
}

function threadNode(flame: Flame, trace: Trace, known: Map<number, number>, thread: number): number {
  let node = known.get(thread);
  if (node === undefined) {
    const lane = trace.lanes[trace.threads[thread]![0]!]!;
    node = add(flame, `${lane.process} · ${lane.thread}`, 0);
    known.set(thread, node);
  }
  return node;
}

function add(flame: Flame, label: string, parent: number): number {
  const node = flame.label.length;
  flame.label.push(label);
  flame.parent.push(parent);
  flame.depth.push(parent < 0 ? 0 : flame.depth[parent]! + 1);
  flame.children.push([]);
  for (const column of [flame.total, flame.self, flame.calls]) column.push(0);
  flame.children[parent]?.push(node);
  return node;
}

/** What is drawn when the picture is zoomed to a node: those above it in full width, those below by their time. */
export function boxes(flame: Flame, zoomed: number, least: number): Box[] {
  const found: Box[] = [];
  for (let node = flame.parent[zoomed]!; node >= 0; node = flame.parent[node]!) {
    found.unshift({ node, depth: flame.depth[node]!, x0: 0, x1: 1 });
  }
  place(flame, zoomed, 0, 1, least, found);
  return found;
}

function place(flame: Flame, node: number, x0: number, x1: number, least: number, found: Box[]): void {
  found.push({ node, depth: flame.depth[node]!, x0, x1 });
  let x = x0;
  const scale = flame.total[node]! > 0 ? (x1 - x0) / flame.total[node]! : 0;
  for (const child of flame.children[node]!) {
    const width = flame.total[child]! * scale;
    if (width < least) return; // they are sorted: the rest is smaller still
    place(flame, child, x, x + width, least, found);
    x += width;
  }
}

/** Share of all time in nodes whose label has the text in it; a node within such a node counts once. */
export function matching(flame: Flame, text: string): { nodes: Set<number>; share: number } {
  const wanted = text.trim().toLowerCase();
  const nodes = new Set<number>();
  let time = 0;
  if (!wanted) return { nodes, share: 0 };
  const covered = new Uint8Array(flame.label.length);
  for (let node = 1; node < flame.label.length; node++) {
    covered[node] = covered[flame.parent[node]!]!;
    if (!flame.label[node]!.toLowerCase().includes(wanted)) continue;
    nodes.add(node);
    if (!covered[node]) time += flame.total[node]!;
    covered[node] = 1;
  }
  return { nodes, share: flame.total[0]! > 0 ? time / flame.total[0]! : 0 };
}
