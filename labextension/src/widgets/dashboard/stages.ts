// Where the time of a request goes: the stages in their order, their names and shares. Pure.

export interface Part {
  stage: string;
  label: string;
  ms: number;
  share: number;
}

/** In the order in which a request meets them; `batch` is the wait for the batch to be sent. */
export const ORDER: readonly [string, string][] = [
  ["queue", "queue"],
  ["batch", "batch wait"],
  ["decode", "decode"],
  ["preprocess", "preprocess"],
  ["inference", "inference"],
  ["postprocess", "postprocess"],
  ["encode", "encode"],
  ["transport", "transport"],
  ["network", "network"],
];

/** The stages that took any time, with their share of the whole. */
export function parts(stages: Record<string, number>): Part[] {
  const known = new Set(ORDER.map(([stage]) => stage));
  const others = Object.keys(stages).filter((stage) => !known.has(stage));
  const all = [...ORDER, ...others.map((stage): [string, string] => [stage, stage])];
  const total = Object.values(stages).reduce((sum, ms) => sum + Math.max(0, ms), 0);
  return all
    .map(([stage, label]) => ({ stage, label, ms: Math.max(0, stages[stage] ?? 0), share: 0 }))
    .filter((part) => part.ms > 0)
    .map((part) => ({ ...part, share: part.ms / total }));
}
