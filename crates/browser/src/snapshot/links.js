// Lists the first 100 different links of the document `this` with their texts.
function links() {
  const byUrl = new Map();
  for (const link of this.querySelectorAll("a[href]")) {
    if (byUrl.size === 100) break;
    const url = link instanceof HTMLAnchorElement ? link.href : "";
    if (!url || byUrl.has(url)) continue;
    const text = (link.textContent || link.getAttribute("aria-label") || "").replace(/\s+/g, " ").trim();
    byUrl.set(url, text.slice(0, 120).replace(/[\uD800-\uDBFF]$/, "") || url);
  }
  return [...byUrl].map(([url, text]) => ({ text, url }));
}
