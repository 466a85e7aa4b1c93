// Says what keeps the element `this` from being acted on, or "ready". Needs: "enabled", "editable",
// "pointer" (the click would reach it), "still" (it does not move); "attached" needs nothing else, and
// with "control" a label stands for its control. `align` says where to scroll it to, where what is
// above it may not be there.
async function actionable(needs, align) {
  const ref = this;
  if (!ref.isConnected) return "missing";
  if (needs.includes("attached")) return "ready";
  const labelled = needs.includes("control") && ref instanceof HTMLLabelElement ? ref.control : null;
  const element = labelled ?? ref;
  const box = () => element.getBoundingClientRect();
  const isVisible = () => {
    const { width, height } = box();
    const style = getComputedStyle(element);
    if (style.display === "contents") return element.getClientRects().length > 0 || element.childElementCount > 0;
    return width > 0 && height > 0 && style.visibility === "visible";
  };
  if (!isVisible()) return "invisible";
  if (align) element.scrollIntoView({ block: align, inline: align, behavior: "instant" });
  if (needs.includes("still")) {
    const before = box();
    // A page that is not painted has no frames.
    await new Promise((done) => {
      requestAnimationFrame(done);
      setTimeout(done, 50);
    });
    if (!element.isConnected) return "missing";
    const after = box();
    const isSame = ["x", "y", "width", "height"].every((side) => before[side] === after[side]);
    if (!isSame) return "unstable";
    if (!isVisible()) return "invisible";
  }
  if (needs.includes("enabled") || needs.includes("editable")) {
    const disabler = element.closest("[aria-disabled]");
    if (element.matches(":disabled") || disabler?.getAttribute("aria-disabled") === "true") return "disabled";
  }
  if (needs.includes("editable")) {
    const takesText = element.matches("input,textarea,select") || element.isContentEditable;
    if (takesText && (element.readOnly || element.getAttribute("aria-readonly") === "true")) return "read-only";
  }
  if (needs.includes("pointer")) {
    const rectangles = [...element.getClientRects()];
    const at = rectangles.find(({ width, height }) => width * height > 0) ?? box();
    const middle = (from, to, most) => (Math.max(from, 0) + Math.min(to, most)) / 2;
    const x = middle(at.left, at.right, innerWidth);
    const y = middle(at.top, at.bottom, innerHeight);
    let hit = document.elementFromPoint(x, y);
    while (hit?.shadowRoot) {
      const inner = hit.shadowRoot.elementFromPoint(x, y);
      if (!inner || inner === hit) break;
      hit = inner;
    }
    const above = (node) => node.assignedSlot ?? node.parentElement ?? node.getRootNode().host;
    let isReached = hit?.closest?.("label")?.control === element;
    for (let node = hit; node && !isReached; node = above(node)) isReached = node === element;
    if (!isReached) return "covered";
  }
  return "ready";
}
