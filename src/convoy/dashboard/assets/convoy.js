// The dashboard's own script: dialogs that confirm, the switch of colours. htmx does the rest.
"use strict";

const THEMES = ["auto", "light", "dark"];

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-dialog]");
  if (opener) {
    document.getElementById(opener.dataset.dialog).showModal();
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

// A page that a stream keeps up to date must not lose the keyboard's place when a part of it is replaced.
document.addEventListener("htmx:sseBeforeMessage", (event) => {
  const part = event.target;
  if (part instanceof Element && part.contains(document.activeElement) && document.activeElement !== part) {
    event.preventDefault(); // the next change is shown as soon as the focus is elsewhere
  }
});
