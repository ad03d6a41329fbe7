// Batch sizes as bars: one for each size while these are few, up to powers of two beyond. Pure.

export interface Bar {
  label: string;
  batches: number;
  requests: number;
}

const MOST_BARS = 12;

/** Bars in the order of size. Empty where no batch ran. */
export function bars(sizes: Record<string, number>): Bar[] {
  const counted = Object.entries(sizes)
    .map(([size, batches]) => ({ size: Number(size), batches }))
    .filter(({ size, batches }) => size > 0 && batches > 0)
    .sort((a, b) => a.size - b.size);
  const largest = counted[counted.length - 1]?.size ?? 0;
  if (largest <= MOST_BARS) {
    return Array.from({ length: largest }, (_, at) => {
      const batches = counted.find(({ size }) => size === at + 1)?.batches ?? 0;
      return { label: String(at + 1), batches, requests: batches * (at + 1) };
    });
  }
  const found: Bar[] = [];
  for (let low = 1, high = 1; low <= largest; low = high + 1, high *= 2) {
    const inside = counted.filter(({ size }) => size >= low && size <= high);
    found.push({
      label: low === high ? String(low) : `${low}–${high}`,
      batches: inside.reduce((sum, { batches }) => sum + batches, 0),
      requests: inside.reduce((sum, { size, batches }) => sum + size * batches, 0),
    });
  }
  return found;
}

/** Requests in a batch on average; 0 where no batch ran. */
export function meanSize(sizes: Record<string, number>): number {
  let batches = 0;
  let requests = 0;
  for (const [size, count] of Object.entries(sizes)) {
    batches += count;
    requests += Number(size) * count;
  }
  return batches ? requests / batches : 0;
}
