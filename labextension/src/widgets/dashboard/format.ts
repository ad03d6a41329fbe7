// Numbers as people read them. Pure; used by every part of the dashboard.

/** A rate or count with at most three digits that say something: 0.42, 7.1, 312, 12.4k. */
export function count(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return `${trim(value / 1e6)}M`;
  if (size >= 1e4) return `${trim(value / 1e3)}k`;
  return trim(value);
}

/** Milliseconds, in the unit in which they read best. */
export function duration(ms: number): string {
  if (!Number.isFinite(ms)) return "–";
  if (ms >= 1000) return `${trim(ms / 1000)} s`;
  if (ms > 0 && ms < 0.1) return `${trim(ms * 1000)} µs`;
  return `${trim(ms)} ms`;
}

/** Bytes in decimal units, as the texts of nbserve have them. */
export function bytes(value: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 1000 && at < units.length - 1) {
    value /= 1000;
    at += 1;
  }
  return `${trim(value)} ${units[at]}`;
}

/** A share of one, as a percentage. */
export function percent(share: number): string {
  return `${share > 0 && share < 0.01 ? "<1" : Math.round(share * 100)} %`;
}

/** Of a unix time: hours and minutes here. */
export function clock(seconds: number): string {
  const at = new Date(seconds * 1000);
  return `${String(at.getHours()).padStart(2, "0")}:${String(at.getMinutes()).padStart(2, "0")}`;
}

function trim(value: number): string {
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : 2;
  return String(Number(value.toFixed(digits)));
}
