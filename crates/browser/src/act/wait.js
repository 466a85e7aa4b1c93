// Whether the document `this` shows a text, without regard to case and white space.
function showsText(text) {
  const plain = (text) => text.replace(/\s+/g, " ").trim().toLowerCase();
  const wanted = plain(text);
  const isShown = (element) => {
    const { width, height } = element.getBoundingClientRect();
    return width > 0 && height > 0 && getComputedStyle(element).visibility === "visible";
  };
  const shows = (element) => {
    if (/^(SCRIPT|STYLE|NOSCRIPT|HEAD|TITLE)$/.test(element.tagName)) return false;
    if (element.shadowRoot && [...element.shadowRoot.children].some(shows)) return true;
    if (element instanceof HTMLInputElement) {
      const isButton = ["button", "submit", "reset"].includes(element.type);
      return isButton && plain(element.value).includes(wanted) && isShown(element);
    }
    const children = [...element.children];
    if (children.some(shows)) return true;
    return plain(element.textContent ?? "").includes(wanted) && isShown(element)
      && !children.some((child) => plain(child.textContent ?? "").includes(wanted));
  };
  return this.body !== null && shows(this.body);
}
