// A widget's twin: what the notebook's file keeps of it, shown where no widget runs. Python side: widgets/static.py.

/** CSS that hides the twin for as long as it is on the page. `name`: letters and digits. */
export function hidingTwin(name: string): string {
  if (!/^\w+$/.test(name)) return "";
  return `.nbserve-static-${name}, .jp-OutputArea-child:has(> .jp-OutputArea-output .nbserve-static-${name}) { display: none; }`;
}
