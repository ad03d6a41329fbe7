// A worker's GPU in words and shares: how much of its memory is taken, by this worker and by others, and its load. Pure.

import { bytes, percent } from "./format";
import type { Worker } from "./types";

export interface DeviceLoad {
  /** Shares of the device's memory: of this worker's own (at most), and of all that is taken. */
  own: number;
  taken: number;
  text: string;
  /** The same for who cannot see the bar. */
  told: string;
}

/** From where on memory is called scarce. */
const SCARCE = 0.9;

export function deviceLoad(worker: Worker): DeviceLoad | null {
  const { device_total_bytes: total, device_free_bytes: free, device_own_bytes: most, device_busy: busy } = worker;
  if (!total || free === null) return null;
  const taken = Math.min(1, Math.max(0, 1 - free / total));
  const own = Math.min(taken, (most ?? 0) / total);
  const load = busy === null ? "" : `, ${percent(busy)} busy`;
  return {
    own,
    taken,
    text: `${bytes(total - free)} of ${bytes(total)}${load}`,
    told: `${worker.device}: ${bytes(total - free)} of ${bytes(total)} taken, at most ${bytes(most ?? 0)} of it by this worker${load}`,
  };
}

export function isScarce(load: DeviceLoad): boolean {
  return load.taken >= SCARCE;
}
