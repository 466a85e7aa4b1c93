// Finds elements below `this` by a CSS selector, `xpath=…` (or `//…`) or `text=…`. CSS and text look
// into open shadow roots.
function findAll(selector) {
  const start = this;
  const owner = start.ownerDocument ?? start;
  const roots = (root) => {
    const inside = [];
    for (const element of root.querySelectorAll("*")) {
      if (element.shadowRoot) inside.push(element.shadowRoot, ...roots(element.shadowRoot));
    }
    return inside;
  };
  const xpath = selector.startsWith("xpath=") ? selector.slice(6) : /^\(*\/\//.test(selector) && selector;
  if (xpath) {
    const found = owner.evaluate(xpath, start, null, XPathResult.ORDERED_NODE_SNAPSHOT_TYPE, null);
    const elements = [];
    for (let at = 0; at < found.snapshotLength; at++) elements.push(found.snapshotItem(at));
    return elements.filter((node) => node.nodeType === Node.ELEMENT_NODE);
  }
  if (selector.startsWith("text=")) {
    const wanted = selector.slice(5).trim();
    const exact = /^(["'])(.*)\1$/.exec(wanted);
    const plain = (text) => text.replace(/\s+/g, " ").trim();
    const matches = (element) => {
      const text = plain(element.textContent ?? "");
      return exact ? text === plain(exact[2]) : text.toLowerCase().includes(plain(wanted).toLowerCase());
    };
    const elements = [start, ...roots(start)].flatMap((root) => [...root.querySelectorAll("*")]);
    return elements.filter((element) => !/^(SCRIPT|STYLE|NOSCRIPT|HEAD|TITLE)$/.test(element.tagName)
      && matches(element) && ![...element.children].some(matches));
  }
  const css = selector.startsWith("css=") ? selector.slice(4) : selector;
  const light = [...start.querySelectorAll(css)];
  // The common case does not walk the page for shadow roots.
  return light.length > 0 ? light : roots(start).flatMap((root) => [...root.querySelectorAll(css)]);
}
