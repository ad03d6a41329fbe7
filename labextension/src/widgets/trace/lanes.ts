// Where lanes stand in the picture: processes as groups that fold, threads in them, a row for each depth. Pure.
// Heights are CSS pixels. Used by timeline.ts to draw, by labels.ts and controls.ts to find what is where.

import { firstWhere, type Kind, type Trace } from "./trace";

export interface Row {
  y: number;
  height: number;
  /** More than one where a group is folded: its threads drawn over each other. */
  lanes: number[];
  kind: Kind;
}

export interface ThreadBox {
  thread: number;
  label: string;
  y: number;
  height: number;
  rows: Row[];
}

export interface Group {
  process: string;
  folded: boolean;
  y: number;
  height: number;
  threads: ThreadBox[];
  /** The threads of the process, shown or not. */
  members: number[];
}

export interface Layout {
  groups: Group[];
  rows: Row[];
  height: number;
}

export const HEADER = 22;
const THREAD_GAP = 4;
const GROUP_GAP = 6;
const MIN_THREAD = 16; // its label needs as much
const KINDS: Kind[] = ["gateway", "cpu", "gpu"];

/** Of a row: smaller where a thread has many, so that 256 requests at once still fit. */
export function rowHeight(rows: number): number {
  if (rows <= 10) return 16;
  return rows <= 32 ? 7 : rows <= 64 ? 5 : 3;
}

/** The picture from top to bottom: the gateway, then each process by name; CPU threads, then streams. */
export function layout(trace: Trace, folded: ReadonlySet<string>): Layout {
  const groups: Group[] = [];
  let y = 0;
  for (const [process, members] of byProcess(trace)) {
    const group: Group = { process, folded: folded.has(process), y, height: HEADER, threads: [], members };
    let bottom = y + HEADER;
    if (!group.folded) {
      for (const thread of members) {
        const box = threadBox(trace, thread, bottom);
        group.threads.push(box);
        bottom = box.y + box.height + THREAD_GAP;
      }
    }
    group.height = bottom - y;
    groups.push(group);
    y = bottom + GROUP_GAP;
  }
  return { groups, rows: groups.flatMap((group) => groupRows(trace, group)), height: y };
}

function groupRows(trace: Trace, group: Group): Row[] {
  if (!group.folded) return group.threads.flatMap((box) => box.rows);
  const lanes = group.members.flatMap((thread) => trace.threads[thread]!.slice(0, 1));
  return [{ y: group.y + 3, height: HEADER - 6, lanes, kind: trace.lanes[lanes[0]!]!.kind }];
}

function byProcess(trace: Trace): [string, number[]][] {
  const found = new Map<string, number[]>();
  trace.threads.forEach((lanes, thread) => {
    const { process } = trace.lanes[lanes[0]!]!;
    found.set(process, [...(found.get(process) ?? []), thread]);
  });
  const lane = (thread: number) => trace.lanes[trace.threads[thread]![0]!]!;
  const rank = (thread: number): number => KINDS.indexOf(lane(thread).kind);
  for (const members of found.values()) {
    members.sort((a, b) => rank(a) - rank(b) || +(lane(b).thread === "main") - +(lane(a).thread === "main") || a - b);
  }
  const order = new Intl.Collator("en", { numeric: true });
  const isGateway = (members: number[]): boolean => members.every((thread) => lane(thread).kind === "gateway");
  return [...found].sort((a, b) => +isGateway(b[1]) - +isGateway(a[1]) || order.compare(a[0], b[0]));
}

function threadBox(trace: Trace, thread: number, y: number): ThreadBox {
  const lanes = trace.threads[thread]!;
  const each = rowHeight(lanes.length);
  const rows = lanes.map((lane, at) => ({
    y: y + at * each,
    height: each - 1,
    lanes: [lane],
    kind: trace.lanes[lane]!.kind,
  }));
  const label = trace.lanes[lanes[0]!]!.thread;
  return { thread, label, y, height: Math.max(MIN_THREAD, each * lanes.length), rows };
}

/** The row at a height, if there is one. */
export function rowAt(layout: Layout, y: number): Row | undefined {
  return layout.rows.find((row) => y >= row.y && y <= row.y + row.height);
}

/** The row that shows a lane, if its process is not folded or it is among what a folded one shows. */
export function rowOf(layout: Layout, lane: number): Row | undefined {
  return layout.rows.find((row) => row.lanes.includes(lane));
}

/** Threads whose boxes (or folded groups) meet the heights from y0 to y1. */
export function threadsBetween(layout: Layout, y0: number, y1: number): Set<number> {
  const found = new Set<number>();
  for (const group of layout.groups) {
    if (group.folded && group.y < y1 && group.y + group.height > y0) group.members.forEach((one) => found.add(one));
    for (const box of group.threads) if (box.y < y1 && box.y + box.height > y0) found.add(box.thread);
  }
  return found;
}

/** The span of a row at a time, or the nearest within `slack`; -1 where there is none. */
export function spanAt(trace: Trace, row: Row, time: number, slack: number): number {
  let best = -1;
  let distance = slack;
  for (const lane of row.lanes) {
    const [from, to] = [trace.first[lane]!, trace.first[lane + 1]!];
    const next = firstWhere(from, to, (i) => trace.start[i]! > time);
    for (const i of [next - 1, next]) {
      if (i < from || i >= to) continue;
      const away = Math.max(trace.start[i]! - time, time - trace.end[i]!, 0);
      if (away < distance || (away === distance && best < 0)) [best, distance] = [i, away];
    }
  }
  return best;
}
