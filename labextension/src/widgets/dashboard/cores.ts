// The machine's cores as they hang together, and who runs where: what the picture of the workers is drawn from. Pure.

import type { Core, Worker } from "./types";

export interface Cell {
  cpu: number;
  owners: number[];
  reserved: boolean;
}

/** Hardware threads of one physical core. */
export type Physical = Cell[];

export interface Group {
  node: number;
  tier: number;
  cores: Physical[];
}

/** Groups of cores that share a last-level cache, node by node; who has more than one worker is shared. */
export function layout(cores: readonly Core[], workers: readonly Worker[], reserved: readonly number[]): Group[] {
  const kept = new Set(reserved);
  interface Found {
    group: Group;
    physical: Map<number, Physical>;
  }
  const groups = new Map<string, Found>();
  const sorted = [...cores].sort(
    (a, b) => a.node - b.node || a.tier - b.tier || a.l3 - b.l3 || a.physical - b.physical || a.sibling - b.sibling,
  );
  for (const core of sorted) {
    const key = `${core.node}/${core.tier}/${core.l3}`;
    const found: Found = groups.get(key) ?? { group: { node: core.node, tier: core.tier, cores: [] }, physical: new Map() };
    groups.set(key, found);
    let cells = found.physical.get(core.physical);
    if (!cells) {
      found.physical.set(core.physical, (cells = []));
      found.group.cores.push(cells);
    }
    const owners = workers.filter((worker) => worker.cores.includes(core.cpu)).map((worker) => worker.id);
    cells.push({ cpu: core.cpu, owners, reserved: kept.has(core.cpu) });
  }
  return [...groups.values()].map(({ group }) => group);
}

/** What a screen reader and a tooltip say of a cell. */
export function describe(cell: Cell): string {
  if (cell.owners.length > 1) return `CPU ${cell.cpu}: shared by workers ${cell.owners.join(", ")}`;
  if (cell.owners.length === 1) return `CPU ${cell.cpu}: worker ${cell.owners[0]}`;
  return `CPU ${cell.cpu}: ${cell.reserved ? "kept for gateway and notebook" : "free"}`;
}
