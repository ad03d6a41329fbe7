// Times and counts as people read them. Pure; used wherever words are made.

/** Microseconds, in the unit in which they read best, with four digits. */
export function duration(us: number): string {
  const size = Math.abs(us);
  if (size >= 1e6) return `${digits(us / 1e6)} s`;
  if (size >= 1e3) return `${digits(us / 1e3)} ms`;
  return `${digits(us)} µs`;
}

export function percent(share: number): string {
  if (!Number.isFinite(share)) return "–";
  if (share > 0 && share < 0.01) return "<1 %";
  return `${share > 0.99 && share < 1 ? Math.floor(share * 100) : Math.round(share * 100)} %`;
}

export function count(value: number): string {
  return value.toLocaleString("en-US");
}

export function plural(value: number, word: string): string {
  return `${count(value)} ${word}${value === 1 ? "" : "s"}`;
}

function digits(value: number): string {
  const size = Math.abs(value);
  return String(Number(value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : 3)));
}
