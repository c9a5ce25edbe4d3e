// Turns <figure class="chart" data-series="URL"> into a chart with a legend that follows the pointer, zoom by dragging, and a table.
//
// The URL answers {"x": {"label", "kind": "time" or "number", "values"}, "series": [{"label", "values"}], "unit", "whole"}; values are
// numbers or null, with "whole" of whole numbers. `x` may have "whole", too, and "from" and "to", which are shown even where there are no values yet. `data-refresh="NAME"`: the chart is read again when the page's stream sends the event NAME.
"use strict";

(() => {
  const MAX_ROWS = 500; // of the table; of longer series every n-th row is in it
  const REFRESH_MS = { pulse: 10000, round: 2000 }; // events that a chart may wait for; it is read at most once in this time
  const HEIGHT = 220;
  const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10000, 100000]; // steps between marks of whole numbers
  const charts = new Map(); // figure -> {plot, box, table, data, read}

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const shown = (value) => (value === null || value === undefined ? "-" : Number(value.toPrecision(5)).toLocaleString("en"));

  const moment = (seconds) => new Date(seconds * 1000).toLocaleTimeString();

  // What is shown while nobody has zoomed.
  function limits(data) {
    const values = data.x.values;
    return { min: data.x.from ?? values[0], max: data.x.to ?? values.at(-1) };
  }

  function options(data, width) {
    const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
    const times = data.x.kind === "time";
    return {
      width,
      height: HEIGHT,
      cursor: { drag: { x: true, y: false } },
      scales: { x: { time: times, ...limits(data) } },
      legend: { live: true },
      axes: [{ ...axis, ...(data.x.whole ? { incrs: WHOLE } : {}) }, { ...axis, size: 56, ...(data.whole ? { incrs: WHOLE } : {}) }],
      series: [
        { label: data.x.label, value: (_, at) => (at === null ? "-" : times ? moment(at) : shown(at)) },
        ...data.series.map((it, place) => ({
          label: it.label,
          stroke: colour(`--series-${(place % 8) + 1}`),
          dash: place >= 8 ? [6, 4] : undefined,
          width: 1.75,
          spanGaps: true,
          points: { show: data.x.values.length < 40, fill: colour("--card") },
          value: (_, value) => (value === null ? "-" : shown(value) + (data.unit ? ` ${data.unit}` : "")),
        })),
      ],
    };
  }

  function cell(kind, text) {
    const made = document.createElement(kind);
    made.textContent = text;
    if (kind === "th") made.scope = "col";
    return made;
  }

  function fill(table, data) {
    const head = document.createElement("tr");
    head.append(cell("th", data.x.label), ...data.series.map((it) => cell("th", it.label)));
    const every = Math.ceil(data.x.values.length / MAX_ROWS) || 1;
    const rows = [];
    for (let place = 0; place < data.x.values.length; place += every) {
      const row = document.createElement("tr");
      const at = data.x.values[place];
      row.append(cell("td", data.x.kind === "time" ? moment(at) : shown(at)), ...data.series.map((it) => cell("td", shown(it.values[place]))));
      rows.push(row);
    }
    const thead = document.createElement("thead");
    const tbody = document.createElement("tbody");
    thead.append(head);
    tbody.append(...rows);
    table.replaceChildren(thead, tbody);
  }

  function draw(figure, it) {
    if (it.plot) it.plot.destroy();
    const values = [it.data.x.values, ...it.data.series.map((one) => one.values)];
    it.plot = new uPlot(options(it.data, Math.max(it.box.clientWidth, 200)), values, it.box);
    it.plot.setScale("x", limits(it.data));
    it.plot.over.addEventListener("dblclick", () => it.plot.setScale("x", limits(it.data)));
  }

  function frame(figure) {
    const box = document.createElement("div");
    box.className = "plot";
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = "Show as a table";
    const scroll = document.createElement("div");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", "The chart's values");
    const table = document.createElement("table");
    scroll.append(table);
    details.append(summary, scroll);
    figure.append(box, details);
    sizes.observe(box);
    return { plot: null, box, table, details, data: null, read: 0, due: 0, shape: "" };
  }

  async function load(figure) {
    const it = charts.get(figure) || frame(figure);
    charts.set(figure, it);
    it.read = Date.now();
    const answer = await fetch(figure.dataset.series, { headers: { accept: "application/json" } });
    if (!answer.ok) {
      it.box.textContent = `The chart cannot be shown: the server answered ${answer.status}.`;
      return;
    }
    const before = it.data && limits(it.data);
    it.data = await answer.json();
    const shape = JSON.stringify(it.data.series.map((one) => one.label));
    if (it.plot && shape === it.shape) {
      const zoomed = it.plot.scales.x.min > before.min || it.plot.scales.x.max < before.max;
      it.plot.batch(() => {
        const shown = { min: it.plot.scales.x.min, max: it.plot.scales.x.max };
        it.plot.setData([it.data.x.values, ...it.data.series.map((one) => one.values)], false);
        it.plot.setScale("x", zoomed ? shown : limits(it.data));
      });
    } else {
      draw(figure, it);
    }
    it.shape = shape;
    fill(it.table, it.data);
  }

  function start() {
    for (const figure of charts.keys()) if (!figure.isConnected) charts.delete(figure);
    for (const figure of document.querySelectorAll("figure[data-series]")) if (!charts.has(figure)) load(figure);
  }

  function redraw() {
    for (const [figure, it] of charts) if (it.data && figure.isConnected) draw(figure, it);
  }

  const sizes = new ResizeObserver(() => {
    for (const it of charts.values()) {
      const width = it.box.clientWidth;
      if (it.plot && width && width !== it.plot.width) it.plot.setSize({ width, height: HEIGHT });
    }
  });
  document.addEventListener("convoy:theme", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  document.addEventListener("htmx:afterSettle", start);
  // Reads the charts of an event again: at once, or, if that was done a moment ago, at the end of the moment.
  const refresh = (name) => {
    for (const [figure, it] of charts) {
      if (figure.dataset.refresh !== name || !figure.isConnected || it.due) continue;
      const pause = it.read + REFRESH_MS[name] - Date.now();
      it.due = setTimeout(() => {
        it.due = 0;
        if (figure.isConnected) load(figure);
      }, Math.max(pause, 0));
    }
  };
  document.addEventListener("htmx:sseOpen", (opened) => {
    for (const name of Object.keys(REFRESH_MS)) opened.detail.source.addEventListener(name, () => refresh(name));
  });
  start();
})();
