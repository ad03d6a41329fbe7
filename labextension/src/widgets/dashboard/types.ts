// What the kernel sends: nbserve/notebook/widgets/{facts,watcher,actions}.py say it in full.

export interface Facts {
  name: string;
  version: string;
  /** When this was written; `now` has it from then on. */
  state: string;
  url: string;
  lines: [string, string][];
  warnings: string[];
  errors: string[];
  entries: [string, string, string, string][];
  curl: string;
  python: string;
  sample: { content_type: string; text: string | null; bytes: number } | null;
  cores: Core[];
  reserved: number[];
  snapshot: string;
  changed: string[];
  kept: string[];
  can_profile: boolean;
  max_batch_size: number;
  promote: { tag: string; base_image: string; output: string };
}

export interface Core {
  cpu: number;
  physical: number;
  sibling: number;
  l3: number;
  node: number;
  tier: number;
}

export interface Point {
  at: number;
  requests_per_s: number;
  errors_per_s: number;
  p50_ms: number | null;
  p99_ms: number | null;
  queue: number;
}

export interface Worker {
  id: number;
  state: string;
  pid: number | null;
  cores: number[];
  threads: number;
  device: string;
  restarts: number;
  batches: number;
  cores_used: number | null;
  own_bytes: number | null;
  total_bytes: number | null;
  resident_bytes: number | null;
  device_total_bytes: number | null;
  device_free_bytes: number | null;
  device_own_bytes: number | null;
  device_busy: number | null;
  error: string;
}

export interface Series {
  name: string;
  kind: string;
  help?: string;
  labels?: Record<string, string>;
  value?: number;
  count?: number;
}

export interface Now {
  version: string;
  state: string;
  default: boolean;
  point: Point;
  recent: {
    since_load: boolean;
    answered: number;
    stages_ms: Record<string, number> | null;
    batch_sizes: Record<string, number>;
    statuses: Record<string, number>;
  };
  requests: Record<string, number>;
  queue_items: number;
  queue_bytes: number;
  workers: Worker[];
  handler: Series[];
}

export interface Traits {
  facts: Facts;
  now: Now | Record<string, never>;
  ended: string;
  twin: string;
}

export interface Layer {
  what: string;
  bytes: number;
}

export interface Failure {
  id: string;
  at: number;
  status: number;
  error: string;
  where: string;
}

/** What an action came to, or the answer of a try. */
export interface Result {
  title?: string;
  text?: string;
  rows?: [string, string][];
  /** Text to be pasted elsewhere. */
  copies?: [string, string][];
  /** Ids of widgets to be shown. */
  views?: string[];
  /** Profiles that are kept. */
  profiles?: { id: string; text: string }[];
  pictures?: { src: string; alt: string }[];
  layers?: Layer[];
  failures?: Failure[];
  left_out?: number;
  status?: number;
  content_type?: string;
  request_id?: string;
  total_ms?: number;
  stages_ms?: Record<string, number>;
}

/** `text` and `done` only where they changed; `lines` are new ones, of which the first `left_out` were too many. */
export interface Progress {
  text?: string;
  done?: number | null;
  lines: string[];
  left_out: number;
}

export type JobMessage = { kind: "job"; id: string } & (
  | { state: "accepted" }
  | ({ state: "running" } & Progress)
  | { state: "done"; result: Result }
  | { state: "failed"; text: string; hint: string }
);

export type Message =
  | JobMessage
  | { kind: "log"; lines: string[] }
  | { kind: "history"; points: Point[]; lines: string[] };
