// Chooses the options of the select `this` that have the given values or labels. Answers "done", or
// "missing" where not every one is there, "none" where it is no select.
function select(values) {
  const element = this instanceof HTMLLabelElement && this.control ? this.control : this;
  if (!(element instanceof HTMLSelectElement)) return "none";
  const wanted = new Set(values);
  const chosen = [];
  for (const option of element.options) {
    const name = [option.value, option.label].find((name) => wanted.has(name));
    if (name === undefined || option.disabled) continue;
    chosen.push(option);
    wanted.delete(name);
    if (!element.multiple) break;
  }
  if (chosen.length === 0 || (element.multiple && wanted.size > 0)) return "missing";
  element.focus();
  for (const option of element.options) option.selected = chosen.includes(option);
  element.dispatchEvent(new Event("input", { bubbles: true, composed: true }));
  element.dispatchEvent(new Event("change", { bubbles: true }));
  return "done";
}
