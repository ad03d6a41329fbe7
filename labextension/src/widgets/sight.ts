// Whether a reader can see an element: in the window, and the window not hidden behind others. Used by the widgets to
// tell the kernel, which sends nothing to nobody.

/** Calls `tell` with each change, once at the beginning; the returned function ends it, with a last "no". */
export function watchSight(element: Element, tell: (inSight: boolean) => void): () => void {
  let intersects = false;
  let told: boolean | undefined;
  const update = () => {
    const now = intersects && !document.hidden;
    if (now !== told) tell((told = now));
  };
  const observer = new IntersectionObserver((entries) => {
    intersects = entries[entries.length - 1]?.isIntersecting ?? false;
    update();
  });
  observer.observe(element);
  document.addEventListener("visibilitychange", update);
  return () => {
    observer.disconnect();
    document.removeEventListener("visibilitychange", update);
    if (told) tell(false);
  };
}

/** Calls `changed` when JupyterLab changes its theme, or the system its colour scheme. */
export function watchTheme(changed: () => void): () => void {
  const observer = new MutationObserver(() => requestAnimationFrame(changed));
  observer.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name", "data-jp-theme-light"] });
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", changed);
  return () => {
    observer.disconnect();
    scheme.removeEventListener("change", changed);
  };
}
