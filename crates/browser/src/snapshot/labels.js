// Draws a box with its ref over each of the areas, in place of those that are drawn already. `top` is
// where the screenshot begins: a label that would be above it is drawn into its box.
function label(areas, top) {
  const NAME = "openclaw-node-labels";
  this.getElementById(NAME)?.remove();
  if (areas.length === 0) return;
  const layer = this.createElement("div");
  layer.id = NAME;
  const style = (element, styles) => Object.assign(element.style, { position: "absolute", pointerEvents: "none" }, styles);
  style(layer, { left: 0, top: 0, width: 0, height: 0, zIndex: 2147483647 });
  const pixels = (side) => `${Math.round(side)}px`;
  for (const { ref, x, y, width, height } of areas) {
    const box = this.createElement("div");
    style(box, {
      left: pixels(x), top: pixels(y), width: pixels(Math.max(width, 1)), height: pixels(Math.max(height, 1)),
      border: "2px solid #ffb020", boxSizing: "border-box",
    });
    const tag = this.createElement("div");
    tag.textContent = ref;
    style(tag, {
      left: pixels(x), top: pixels(y - top < 14 ? y + 2 : y - 14), padding: "0 4px", whiteSpace: "nowrap",
      background: "#ffb020", color: "#1a1a1a", font: "bold 11px/14px monospace",
    });
    layer.append(box, tag);
  }
  this.documentElement.append(layer);
}
