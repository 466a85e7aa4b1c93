// Finds HTML elements of the light DOM that a user would click though their tag and role do not say
// so. Answers the elements themselves; the last entry is what is known about each, as JSON.
(() => {
  const CLICKABLE_TAGS = "a,button,input,select,textarea,details,summary";
  const CLICKABLE_ROLES = new Set(("button link textbox checkbox radio combobox listbox menuitem " +
    "menuitemcheckbox menuitemradio option searchbox slider spinbutton switch tab treeitem").split(" "));
  const MOST = 2000;
  const isPointer = (element) => getComputedStyle(element).cursor === "pointer";
  const found = [];
  const known = [];
  for (const element of document.body?.querySelectorAll("*") ?? []) {
    if (found.length === MOST) break;
    if (!(element instanceof HTMLElement) || element.matches(CLICKABLE_TAGS)) continue;
    if (CLICKABLE_ROLES.has((element.getAttribute("role") ?? "").toLowerCase())) continue;
    const hasPointer = isPointer(element);
    const hasOnclick = element.hasAttribute("onclick") || element.onclick !== null;
    const hasTabindex = (element.getAttribute("tabindex") ?? "-1") !== "-1";
    const isEditable = ["", "true"].includes(element.getAttribute("contenteditable"));
    if (!hasOnclick && !hasTabindex && !isEditable) {
      // A hand that is only inherited belongs to the element that it comes from.
      if (!hasPointer || (element.parentElement && isPointer(element.parentElement))) continue;
    }
    if (element.closest("[hidden],[aria-hidden='true']")) continue;
    const box = element.getBoundingClientRect();
    if (box.width <= 0 || box.height <= 0) continue;
    const input = element.querySelector("input[type='radio'],input[type='checkbox']");
    const style = input && getComputedStyle(input);
    const isHidden = input && (input.hidden || style.display === "none" || style.visibility === "hidden");
    const text = (element.textContent ?? "").replace(/\s+/g, " ").trim().slice(0, 100);
    found.push(element);
    known.push({
      // Half of a surrogate pair is no text.
      text: text.replace(/[\uD800-\uDBFF]$/, ""),
      hasPointer,
      hasOnclick,
      hasTabindex,
      isEditable,
      hiddenInput: isHidden ? input.type : "",
    });
  }
  return [...found, JSON.stringify(known)];
})()
