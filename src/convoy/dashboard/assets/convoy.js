// The dashboard's own script: dialogs that confirm, the switch of colours. htmx does the rest.
"use strict";

const THEMES = ["auto", "light", "dark"];

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-dialog]");
  if (opener) {
    document.getElementById(opener.dataset.dialog).showModal();
    return;
  }
  const copier = event.target.closest("[data-copy]");
  if (copier) {
    const text = document.getElementById(copier.dataset.copy).textContent;
    navigator.clipboard.writeText(text).then(
      () => (copier.textContent = "Copied"),
      () => (copier.textContent = "Select and copy it by hand"),
    );
    return;
  }
  const theme = event.target.closest("[data-theme-switch]");
  if (theme) {
    const root = document.documentElement;
    const next = THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length];
    root.dataset.theme = next;
    theme.querySelector("[data-theme-name]").textContent = next;
    document.cookie = `convoy-theme=${next}; path=/; max-age=31536000; samesite=strict`;
    document.dispatchEvent(new CustomEvent("convoy:theme"));
  }
});

// Streams replace parts of a page while a person works on it. A part in which the keyboard or a selection is waits until the person
// has left it; a table that was scrolled stays where it was.
const waiting = new Map(); // part -> the newest HTML that it did not get yet

const REGIONS = ".scroll, .log"; // what scrolls by itself; it takes the focus so that keys can scroll it

const isUsed = (part) => {
  const selection = document.getSelection();
  const selects = selection && !selection.isCollapsed && selection.anchorNode && part.contains(selection.anchorNode);
  const focused = document.activeElement;
  return selects || (part.contains(focused) && !focused.matches(REGIONS));
};

const places = (part) =>
  [...part.querySelectorAll(REGIONS)].map((it) => [it.scrollLeft, it.scrollTop, it === document.activeElement]);

const restore = (part, kept) => {
  part.querySelectorAll(REGIONS).forEach((it, place) => {
    if (!kept[place]) return;
    [it.scrollLeft, it.scrollTop] = kept[place];
    if (kept[place][2]) it.focus({ preventScroll: true });
  });
};

document.addEventListener("htmx:sseBeforeMessage", (event) => {
  const part = event.target;
  if (isUsed(part)) {
    waiting.set(part, event.detail.data);
    event.preventDefault();
    return;
  }
  waiting.delete(part);
  const kept = places(part);
  if (kept.length) part.addEventListener("htmx:sseMessage", () => restore(part, kept), { once: true });
});

const catchUp = () => {
  for (const [part, html] of waiting) {
    if (isUsed(part)) continue;
    waiting.delete(part);
    if (!part.isConnected) continue;
    const kept = places(part);
    htmx.swap(part, html, { swapStyle: "innerHTML", swapDelay: 0, settleDelay: 0 });
    restore(part, kept);
  }
};

document.addEventListener("focusout", () => setTimeout(catchUp));
document.addEventListener("selectionchange", () => waiting.size && catchUp());

// A page that was made for nobody, or for another role, offers the wrong things: it is made again.
document.addEventListener("htmx:sseOpen", (event) => {
  event.detail.source.addEventListener("person", (told) => {
    if (told.data && told.data !== document.body.dataset.person) location.reload();
  });
});
