// Jobs: what the reader asks the kernel to do, and what comes back while it does. Shared by buttons, form and try-it box.

import type { Model } from "../model";
import type { JobMessage, Progress, Result, Traits } from "./types";

export interface Job {
  /** The kernel has it; not called where it answers at once with more. */
  accepted?(): void;
  /** No sign of the kernel for a while. */
  waits?(): void;
  running?(progress: Progress): void;
  done(result: Result): void;
  failed(text: string, hint: string): void;
}

/** After so long without a sign, the kernel is taken to be busy with a cell. */
const SILENCE_MS = 1200;

export class Jobs {
  private readonly open = new Map<string, { job: Job; timer: number }>();
  private number = 0;

  constructor(private readonly model: Model<Traits>) {}

  /** Ask; `job` hears what comes of it. */
  start(content: Record<string, unknown>, job: Job, buffers: ArrayBuffer[] = []): void {
    const id = `${Date.now().toString(36)}-${this.number++}`;
    const timer = window.setTimeout(() => job.waits?.(), SILENCE_MS);
    this.open.set(id, { job, timer });
    this.model.send({ ...content, id }, undefined, buffers);
  }

  /** A message of the kernel about one of these. */
  hear(message: JobMessage): void {
    const found = this.open.get(message.id);
    if (!found) return;
    window.clearTimeout(found.timer);
    const { job } = found;
    if (message.state === "accepted") job.accepted?.();
    else if (message.state === "running") job.running?.(message);
    else {
      this.open.delete(message.id);
      if (message.state === "done") job.done(message.result);
      else job.failed(message.text, message.hint);
    }
  }

  destroy(): void {
    for (const { timer } of this.open.values()) window.clearTimeout(timer);
    this.open.clear();
  }
}

export const WAITS = "The kernel is busy: it will be done when the running cell ends.";
