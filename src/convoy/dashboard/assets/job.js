// The pages of a job: clocks that run, and the log, whose lines come with the page's stream and are searched here.
"use strict";

(() => {
  const UNITS = [[86400, "d"], [3600, "h"], [60, "min"]];

  // The same words as `span` in rendering.py.
  const span = (seconds) => {
    for (const [length, unit] of UNITS) {
      if (seconds >= length) return `${(seconds / length).toFixed(seconds >= 10 * length ? 0 : 1)} ${unit}`;
    }
    return `${Math.max(seconds, 0).toFixed(0)} s`;
  };

  setInterval(() => {
    for (const it of document.querySelectorAll("time[data-since]")) {
      const text = span(Date.now() / 1000 - Number(it.dataset.since));
      if (it.textContent !== text) it.textContent = text;
    }
  }, 1000);

  const log = () => document.getElementById("log");

  const wanted = () => document.getElementById("log-find").value.toLowerCase();

  const mark = (line, text) => line.classList.toggle("match", text !== "" && line.textContent.toLowerCase().includes(text));

  const count = () => {
    const text = wanted();
    const found = log().querySelectorAll(".match").length;
    document.getElementById("log-count").textContent = text ? `${found} lines match` : "";
  };

  const search = () => {
    const text = wanted();
    for (const line of log().children) mark(line, text);
    log().classList.toggle("only", text !== "" && document.getElementById("log-only").checked);
    count();
  };

  const add = (lines) => {
    const list = log();
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    const text = wanted();
    const made = lines.map(([site, said]) => {
      const line = document.createElement("li");
      const who = document.createElement("span");
      who.className = "faint";
      who.textContent = site;
      line.append(who, ` ${said}`);
      mark(line, text);
      return line;
    });
    list.append(...made);
    while (list.children.length > Number(list.dataset.most)) list.firstElementChild.remove();
    if (atEnd) list.scrollTop = list.scrollHeight;
    if (text) count();
  };

  const jump = (step) => {
    const found = [...log().querySelectorAll(".match")];
    if (!found.length) return;
    const before = found.findIndex((line) => line.classList.contains("here"));
    const next = found[before < 0 ? (step > 0 ? 0 : found.length - 1) : (before + step + found.length) % found.length];
    for (const line of found) line.classList.toggle("here", line === next);
    next.scrollIntoView({ block: "center" });
  };

  document.addEventListener("input", (event) => {
    if (event.target.matches("#log-find, #log-only")) search();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-log-jump]");
    if (button) jump(Number(button.dataset.logJump));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.id === "log-find") jump(event.shiftKey ? -1 : 1);
  });

  const heard = new WeakSet(); // streams whose lines are listened to; one that opens again tells the log from its beginning
  document.addEventListener("htmx:sseOpen", (opened) => {
    if (!log()) return;
    log().replaceChildren();
    const source = opened.detail.source;
    if (heard.has(source)) return;
    heard.add(source);
    source.addEventListener("lines", (told) => log() && add(JSON.parse(told.data)));
  });
})();
