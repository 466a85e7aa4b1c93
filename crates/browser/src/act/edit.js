// Prepares `this` for a text to be inserted in place of what it has: focuses it and selects all.
// Answers "insert", "clear" (there is only something to delete), "done", or what is in the way.
function edit(text) {
  const element = this instanceof HTMLLabelElement && this.control ? this.control : this;
  const setValue = (value) => {
    element.focus();
    element.value = value;
    if (element.value !== value) return "malformed";
    element.dispatchEvent(new Event("input", { bubbles: true, composed: true }));
    element.dispatchEvent(new Event("change", { bubbles: true }));
    return "done";
  };
  if (element instanceof HTMLInputElement) {
    if (["color", "date", "datetime-local", "month", "range", "time", "week"].includes(element.type)) {
      const value = text.trim();
      return setValue(element.type === "color" ? value.toLowerCase() : value);
    }
    if (["button", "checkbox", "file", "hidden", "image", "radio", "reset", "submit"].includes(element.type)) {
      return "wrong-input-type";
    }
    if (element.type === "number" && Number.isNaN(Number(text.trim()))) return "not-numeric";
    element.select();
    element.focus();
  } else if (element instanceof HTMLTextAreaElement) {
    element.selectionStart = 0;
    element.selectionEnd = element.value.length;
    element.focus();
  } else if (element.isContentEditable) {
    const all = document.createRange();
    all.selectNodeContents(element);
    const selection = document.getSelection();
    selection.removeAllRanges();
    selection.addRange(all);
    element.focus();
  } else {
    return "not-editable";
  }
  return text === "" ? "clear" : "insert";
}
