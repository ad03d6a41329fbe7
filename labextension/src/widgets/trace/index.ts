// The trace view as a widget: takes the trace's bytes from Python once, shows it, fetches the raw trace when asked.
// Python side: nbserve/notebook/widgets/trace.py.

import type { Rendered } from "../model";
import { hidingTwin } from "../twin";
import { element } from "./dom";
import type { Tab } from "./panels";
import style from "./style.css";
import { decode } from "./trace";
import { prepare, View, type Prepared } from "./view";

interface Traits {
  /** Header and columns, see trace.ts. */
  data: DataView;
  title: string;
  /** Name of the raw trace's file; empty: there is none. */
  filename: string;
  /** The one that is open at first. */
  tab: Tab;
  /** See ../twin.ts. */
  twin: string;
}

const GONE = "The trace is not kept in the notebook's file: run the cell again.";

/** Called once for each model: its views share what is computed from the trace. */
export default function widget(): { render(shown: Rendered<Traits>): () => void } {
  let prepared: Prepared | null = null;
  return {
    render({ model, el }) {
      const data = model.get("data");
      if (!prepared && data?.byteLength) prepared = prepare(decode(data));
      // Only here, not in Python: what a front end saves of the widget with the notebook has no trace in it then.
      model.set("data", new DataView(new ArrayBuffer(0)));
      el.append(element("style", { text: style }));
      if (prepared) el.append(element("style", { text: hidingTwin(model.get("twin")) }));
      else {
        el.append(element("div", { class: "jp-nbserve-trace-note", text: GONE }));
        return () => {};
      }
      const filename = model.get("filename");
      const ask = () => {
        view.status("asked for it; a busy kernel answers when its cell has ended");
        model.send({ kind: "raw" });
      };
      const view = new View(prepared, model.get("title"), filename ? ask : null, model.get("tab"));
      const receive = (message: { kind?: string; error?: string }, buffers: DataView[]): void => {
        if (message.kind !== "raw") return;
        view.status(message.error ?? "");
        if (!message.error && buffers[0]) save(buffers[0], filename);
      };
      model.on("msg:custom", receive);
      el.append(view.node);
      return () => {
        model.off("msg:custom", receive);
        view.dispose();
      };
    },
  };
}

function save(bytes: DataView, filename: string): void {
  const url = URL.createObjectURL(new Blob([bytes as DataView<ArrayBuffer>], { type: "application/gzip" }));
  const link = element("a", { href: url, download: filename });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
