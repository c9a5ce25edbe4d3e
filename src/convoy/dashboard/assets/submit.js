// Sends a folder that was dropped or chosen to the dashboard on this machine, as one body: a list of files, then their bytes.
"use strict";

// Returns all files of dropped entries as [path, File]; a folder is read to its end.
const walked = async (entries, prefix = "") => {
  const found = [];
  for (const entry of entries) {
    const path = prefix + entry.name;
    if (entry.isFile) {
      found.push([path, await new Promise((done, failed) => entry.file(done, failed))]);
    } else {
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((done, failed) => reader.readEntries(done, failed));
        if (!some.length) break;
        found.push(...(await walked(some, `${path}/`)));
      }
    }
  }
  return found;
};

// What stands in every path before the first slash is the folder's own name.
const within = (files) => files.map(([path, file]) => [path.slice(path.indexOf("/") + 1), file]);

const ascii = (text) => text.replace(/[\u007f-\uffff]/g, (it) => `\\u${it.charCodeAt(0).toString(16).padStart(4, "0")}`);

const framed = (files) => {
  const list = new TextEncoder().encode(ascii(JSON.stringify(files.map(([path, file]) => [path, file.size]))));
  const head = new DataView(new ArrayBuffer(4));
  head.setUint32(0, list.length, true);
  return new Blob([head.buffer, list, ...files.map(([, file]) => file)]);
};

const say = (place, text) => {
  place.querySelector("[data-upload-state]").textContent = text;
};

const upload = async (place, every) => {
  const skipped = new Set(place.dataset.skipped.split(" "));
  const files = every.filter(([path]) => !path.split("/").some((part) => skipped.has(part) || part.endsWith(".pyc")));
  const bytes = files.reduce((sum, [, file]) => sum + file.size, 0);
  if (!files.length) return say(place, "There are no files in it. Choose a job folder.");
  if (files.length > Number(place.dataset.mostFiles) || bytes > Number(place.dataset.mostBytes)) {
    return say(place, `${files.length} files of ${bytes} bytes are too many for a job. Keep data out of the job folder.`);
  }
  say(place, `Sending ${files.length} files to the dashboard on this computer.`);
  const headers = { "x-convoy-csrf": place.dataset.csrf, "content-type": "application/octet-stream" };
  const answer = await fetch(place.dataset.upload, { method: "POST", headers, body: framed(files) });
  const text = await answer.text();
  if (answer.ok) return location.assign(text);
  const fault = new DOMParser().parseFromString(text, "text/html").querySelector(".fault");
  say(place, fault ? [...fault.children].map((it) => it.textContent.trim()).join(" ") : `The dashboard answered ${answer.status}.`);
};

const failed = (place) => (problem) => say(place, `The folder could not be read: ${problem.message || problem.name}.`);

document.addEventListener("change", (event) => {
  const place = event.target.closest("[data-upload]");
  if (!place || event.target.type !== "file") return;
  const files = [...event.target.files].map((file) => [file.webkitRelativePath || `/${file.name}`, file]);
  upload(place, within(files)).catch(failed(place));
});

for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    const place = event.target instanceof Element && event.target.closest("[data-upload]");
    if (!place) return;
    event.preventDefault();
    place.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind !== "drop") return;
    const entries = [...event.dataTransfer.items].map((it) => it.webkitGetAsEntry()).filter(Boolean);
    const alone = entries.length === 1 && entries[0].isDirectory;
    walked(entries, alone ? "" : "/").then((found) => upload(place, within(found))).catch(failed(place));
  });
}
