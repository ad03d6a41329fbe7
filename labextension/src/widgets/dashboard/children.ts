// Other widgets shown inside the dashboard: the kernel makes them and says their ids. Used for the trace view.

import { h } from "../dom";
import type { Model } from "../model";

interface View {
  el: HTMLElement;
  remove(): void;
}

/** Places for these widgets, filled when the front end has them; `remove` takes them away. */
export class Children {
  readonly elements: HTMLElement[];
  private readonly views: View[] = [];
  private removed = false;

  constructor(model: Model<any>, ids: readonly string[]) {
    this.elements = ids.map((id) => {
      const place = h("div", { class: "jp-nbserve-child" }, h("p", { class: "jp-nbserve-faint" }, "loading the timeline …"));
      void this.show(model, id, place);
      return place;
    });
  }

  remove(): void {
    this.removed = true;
    for (const view of this.views.splice(0)) view.remove();
  }

  private async show(model: Model<any>, id: string, place: HTMLElement): Promise<void> {
    try {
      const manager = model.widget_manager;
      const view = (await manager.create_view(await manager.get_model(id))) as View;
      if (this.removed) return view.remove();
      this.views.push(view);
      place.replaceChildren(view.el);
    } catch (error) {
      place.replaceChildren(h("p", { class: "jp-nbserve-bad" }, `The timeline cannot be shown here: ${String(error)}`));
    }
  }
}
