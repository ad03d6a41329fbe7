// What a widget gets from anywidget, as far as ours use it; imported by each widget's index.ts.

export interface Model<Traits> {
  get<K extends keyof Traits & string>(key: K): Traits[K];
  set<K extends keyof Traits & string>(key: K, value: Traits[K]): void;
  save_changes(): void;
  on(event: string, listener: (...args: any[]) => void): void;
  off(event: string, listener: (...args: any[]) => void): void;
  send(content: unknown, callbacks?: unknown, buffers?: ArrayBuffer[]): void;
  /** The front end's: knows the other widgets of the notebook. */
  widget_manager: { get_model(id: string): Promise<unknown>; create_view(model: unknown): Promise<unknown> };
}

export interface Rendered<Traits> {
  model: Model<Traits>;
  el: HTMLElement;
}
