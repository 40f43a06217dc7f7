// Tidemill's page: what moves, charts, the graph's ways, the console. No framework, no eval, nothing inline.
"use strict";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const make = (name, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
};
const stored = {
  get(key) { try { return localStorage.getItem(key); } catch { return null; } },
  set(key, value) { try { localStorage.setItem(key, value); } catch { /* storage may be refused */ } },
};

/* ---- Theme ---- */

const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

$("#theme").addEventListener("click", () => {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  stored.set("tidemill-theme", theme);
  charts.forEach((chart) => chart.redraw());
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((chart) => chart.redraw()));

/* ---- Charts ---- */

/** The page's charts by element; each draws anew when its data, its width or the theme change. */
const charts = new Map();

const short = (value) => {
  if (value === null || value === undefined) return "–";
  return new Intl.NumberFormat("en", { notation: Math.abs(value) >= 1e4 ? "compact" : "standard", maximumSignificantDigits: 4 }).format(value);
};

class Chart {
  constructor(element) {
    this.element = element;
    this.data = JSON.parse(element.dataset.chart);
    this.redraw();
  }

  /** The legend stands before the chart and shows the values under the cursor, or the last ones. */
  legend(index) {
    const list = this.element.previousElementSibling;
    if (list.children.length !== this.data.series.length) {
      list.replaceChildren(...this.data.series.map((_, at) => make("li", { className: `series-${at % 6}` })));
    }
    const items = [...list.children];
    this.data.series.forEach((series, at) => {
      const value = series.values[index ?? series.values.length - 1];
      items[at].replaceChildren(`${series.name} `, make("b", { textContent: short(value) }));
    });
  }

  update(data) {
    const same = this.plot && data.series.length === this.data.series.length && data.time === this.data.time;
    this.data = data;
    if (!same) return this.redraw();
    this.plot.setData([data.x, ...data.series.map((series) => series.values)]);
    this.legend();
  }

  redraw() {
    this.plot?.destroy();
    this.width = this.element.clientWidth;
    if (!this.width || typeof uPlot === "undefined") return;
    const style = getComputedStyle(this.element);
    const color = (name) => Chart.resolve(style.getPropertyValue(name));
    const quiet = color("--quiet");
    const axis = {
      stroke: quiet, font: "11.5px system-ui, sans-serif",
      grid: { stroke: color("--line"), width: 1 }, ticks: { show: false },
    };
    const names = this.data.names;
    const xText = this.data.time ? Chart.clock : names.length ? (_, at) => at.map((n) => names[n] ?? "") : (_, at) => at.map(short);
    this.plot = new uPlot({
      width: this.width, height: 200, legend: { show: false }, cursor: { y: false, points: { size: 7 } },
      scales: { x: { time: this.data.time }, y: { range: (_, low, high) => Chart.range(low, high) } },
      padding: [10, 10, 0, 0],
      axes: [{ ...axis, size: 30, space: 74, values: xText }, { ...axis, size: 50, values: (_, at) => at.map(short) }],
      series: [{}, ...this.data.series.map((series, at) => ({
        label: series.name, stroke: color(`--series-${at % 6}`), width: 2, points: { show: this.data.x.length < 2 },
      }))],
      hooks: { setCursor: [(plot) => this.legend(plot.cursor.idx)] },
    }, [this.data.x, ...this.data.series.map((series) => series.values)], this.element);
    this.legend();
  }

  /** Marks of a time axis in the viewer's own zone: days where marks are days apart, else the clock. */
  static clock(_, at, axis, space, step) {
    const part = step >= 86400 ? { month: "short", day: "numeric" }
      : { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(step < 60 ? { second: "2-digit" } : {}) };
    const text = new Intl.DateTimeFormat("en", part);
    return at.map((seconds) => text.format(seconds * 1000));
  }

  /** Zero belongs to a chart of amounts unless all values are far from it. */
  static range(low, high) {
    if (low === null || high === null) return [0, 1];
    const from = low > 0 && low < high * 0.7 ? 0 : low;
    const room = (high - from) * 0.08 || Math.abs(high) * 0.1 || 1;
    return [from === 0 ? 0 : from - room, high + room];
  }

  /** A custom property may hold light-dark(): a canvas needs the colour that comes of it. */
  static resolve(value) {
    const probe = make("span");
    document.body.append(probe);
    probe.style.color = value;
    const color = getComputedStyle(probe).color;
    probe.remove();
    return color;
  }
}

const drawCharts = (root = document) => {
  $$("[data-chart]", root).forEach((element) => {
    charts.set(element, new Chart(element));
    widths.observe(element);
  });
};
const widths = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const chart = charts.get(target);
    if (chart && target.clientWidth !== chart.width) chart.redraw();
  }
});

/* ---- What moves ---- */

/** Elements by their key; made anew after HTML came that may hold others. */
let known = null;
const elementsOf = (key) => {
  known ??= Map.groupBy($$("[data-live]"), (element) => element.dataset.live);
  return known.get(key) ?? [];
};

/** HTML that came while somebody was inside of its element. */
const waiting = new Map();
const fill = (element, text) => {
  element.innerHTML = text;
  known = null;
};
const fillWhenLeft = (element) => element.addEventListener("focusout", () => requestAnimationFrame(() => {
  if (element.contains(document.activeElement)) return fillWhenLeft(element);
  fill(element, waiting.get(element));
  waiting.delete(element);
}), { once: true });

const patch = (key, text) => {
  for (const element of elementsOf(key)) {
    switch (key[0]) {
      case "t":
        if (element.textContent !== text) element.textContent = text;
        break;
      case "s": {
        const at = text.indexOf(" ");
        element.closest("[data-tone]").dataset.tone = text.slice(0, at);
        element.textContent = text.slice(at + 1);
        break;
      }
      case "w":
        element.setAttribute("width", text);
        break;
      case "h":
        // Whoever moves by keyboard inside of it is not thrown out: the newest waits until they leave.
        if (element.contains(document.activeElement)) {
          if (!waiting.has(element)) fillWhenLeft(element);
          waiting.set(element, text);
        } else {
          fill(element, text);
        }
        break;
      case "c":
        charts.get(element)?.update(JSON.parse(text));
        break;
    }
  }
};

const RETRY_MS = 3000;

const listen = (address) => {
  const connection = $("#connection");
  const events = new EventSource(address);
  const say = (tone, word) => {
    connection.dataset.tone = tone;
    connection.textContent = word;
  };
  events.addEventListener("open", () => say("good", "updating"));
  events.addEventListener("error", () => {
    say("warn", "reconnecting");
    // The browser tries again by itself, unless it was refused: then we do.
    if (events.readyState === EventSource.CLOSED) setTimeout(() => listen(address), RETRY_MS);
  });
  events.addEventListener("patch", (event) => {
    for (const [key, text] of Object.entries(JSON.parse(event.data))) patch(key, text);
  });
  // A page that is left holds no stream: browsers allow few connections to a host.
  addEventListener("pagehide", () => events.close());
  addEventListener("pageshow", (event) => event.persisted && location.reload());
};

/* ---- Graph ---- */

const traceWays = (graph) => {
  const paths = $$(".edges path", graph);
  const walk = (start, from, to) => {
    const seen = new Set([start]);
    const on = [];
    for (const node of seen) {
      for (const path of paths.filter((path) => path.dataset[from] === node)) {
        on.push(path);
        seen.add(path.dataset[to]);
      }
    }
    return [seen, on];
  };
  const show = (node) => {
    $$(".on", graph).forEach((element) => element.classList.remove("on"));
    graph.classList.toggle("traced", Boolean(node));
    if (!node) return;
    const [down, downPaths] = walk(node.dataset.node, "from", "to");
    const [up, upPaths] = walk(node.dataset.node, "to", "from");
    [...downPaths, ...upPaths].forEach((path) => path.classList.add("on"));
    $$(".node", graph).filter(({ dataset }) => down.has(dataset.node) || up.has(dataset.node)).forEach((element) => element.classList.add("on"));
  };
  graph.addEventListener("pointerover", (event) => show(event.target.closest(".node")));
  graph.addEventListener("pointerleave", () => show(null));
  graph.addEventListener("focusin", (event) => show(event.target.closest(".node")));
  graph.addEventListener("focusout", () => show(null));
  const picked = $(".picked", graph);
  const canvas = graph.parentElement;
  if (!picked) {
    // Sources stand in the middle of what reads them.
    canvas.scrollTo(0, (canvas.scrollHeight - canvas.clientHeight) / 2);
  } else {
    const [at, around] = [picked.getBoundingClientRect(), canvas.getBoundingClientRect()];
    canvas.scrollTo(at.left - around.left - (around.width - at.width) / 2, at.top - around.top - (around.height - at.height) / 2);
  }
};

/* ---- Console ---- */

const HISTORY_MAX = 50;

const startConsole = (form) => {
  const [text, run, cancel, status, fault, rows] = ["#sql", "#run", "#cancel", "#status", "#fault", "#rows"].map((s) => $(s));
  const exports = [["#csv", "text/csv", "csv"], ["#json", "application/json", "json"]];
  let running = null;
  let answered = "";

  const history = () => JSON.parse(stored.get("tidemill-history") ?? "[]");
  const showHistory = () => {
    const options = history().map((sql) => make("option", { value: sql, textContent: sql.replace(/\s+/g, " ").slice(0, 80) }));
    $("#history").replaceChildren(make("option", { value: "", textContent: "Earlier statements" }), ...options);
  };
  const remember = (sql) => {
    stored.set("tidemill-history", JSON.stringify([sql, ...history().filter((other) => other !== sql)].slice(0, HISTORY_MAX)));
    showHistory();
  };

  const ask = (sql, accept, limit) => {
    running = new AbortController();
    return fetch("/sql", {
      method: "POST", signal: running.signal, headers: { Accept: accept, "Content-Type": "application/json" },
      body: JSON.stringify(limit ? { sql, limit } : { sql }),
    });
  };
  const busy = (is) => {
    run.disabled = is;
    cancel.disabled = !is;
    exports.forEach(([button]) => { $(button).disabled = is || !answered; });
  };

  const showFault = (sql, error) => {
    fault.replaceChildren(make("p", { textContent: `${error.message} (${error.code})` }));
    if (error.position) {
      // Positions count characters, not the units of a JavaScript string.
      const before = [...sql].slice(0, error.position - 1).join("");
      const line = before.split("\n").length;
      const column = [...before.split("\n").at(-1)].length;
      const marked = `${sql.split("\n")[line - 1]}\n${" ".repeat(column)}^`;
      fault.append(make("pre", { textContent: marked }), make("p", { className: "quiet", textContent: `Line ${line}, column ${column + 1}` }));
      const word = sql.slice(before.length).match(/^[\w"]+|^./)?.[0] ?? "";
      if (text.value.trim() === sql) {
        const lead = text.value.indexOf(sql) + before.length;
        text.setSelectionRange(lead, lead + word.length);
      }
    }
    for (const part of [error.detail, error.hint]) if (part) fault.append(make("p", { textContent: part }));
    fault.hidden = false;
  };

  const NUMBER = /^(smallint|integer|bigint|real|double precision|numeric)/;
  const cell = (value, isNumber) => {
    const td = make("td", { className: isNumber ? "number" : "" });
    if (value === null) td.append(make("span", { className: "null", textContent: "null" }));
    else td.textContent = typeof value === "object" ? JSON.stringify(value) : String(value);
    return td;
  };
  const showRows = ({ columns, rows: values }) => {
    const numbers = columns.map(({ type }) => NUMBER.test(type));
    const head = columns.map(({ name, type }, at) => make("th", { scope: "col", title: type, className: numbers[at] ? "number" : "", textContent: name }));
    const body = values.map((row) => make("tr", {}, ...row.map((value, at) => cell(value, numbers[at]))));
    rows.replaceChildren(make("table", { className: "grid" },
      make("caption", { className: "away", textContent: "Rows of the statement" }),
      make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)));
  };

  const runStatement = async () => {
    const sql = text.value.trim();
    if (!sql || running) return;
    const started = performance.now();
    fault.hidden = true;
    status.textContent = "Running …";
    answered = "";
    try {
      const reply = ask(sql, "application/json", Number(form.dataset.rows));
      busy(true);
      remember(sql);
      const response = await reply;
      // A number beyond 2^53 is shown as it was sent, not as this language rounds it.
      const exact = (key, value, context) => (Number.isInteger(value) && !Number.isSafeInteger(value) ? (context?.source ?? value) : value);
      const answer = JSON.parse(await response.text(), exact);
      const took = `${Math.max(1, Math.round(performance.now() - started)).toLocaleString("en")} ms`;
      if (answer.error) {
        rows.replaceChildren();
        status.textContent = `Failed after ${took}.`;
        showFault(sql, answer.error);
      } else {
        answered = sql;
        showRows(answer);
        const count = answer.row_count.toLocaleString("en");
        const more = answer.more ? `The first ${count} rows; CSV and JSON have all of them` : `${count} row${answer.row_count === 1 ? "" : "s"}`;
        status.textContent = `${more} · step ${answer.step.toLocaleString("en")} · ${took}.`;
      }
    } catch (error) {
      const cancelled = error.name === "AbortError";
      status.textContent = cancelled ? `Cancelled after ${Math.round(performance.now() - started).toLocaleString("en")} ms.` : "The answer was cut off: is Tidemill still running?";
    } finally {
      running = null;
      busy(false);
    }
  };

  const save = async (accept, extension) => {
    const before = status.textContent;
    try {
      const reply = ask(answered, accept);
      busy(true);
      status.textContent = "Exporting …";
      const response = await reply;
      if (!response.ok) {
        showFault(answered, (await response.json()).error);
        return;
      }
      const link = make("a", { href: URL.createObjectURL(await response.blob()), download: `tidemill.${extension}` });
      link.click();
      URL.revokeObjectURL(link.href);
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    } finally {
      status.textContent = before;
      running = null;
      busy(false);
    }
  };

  form.addEventListener("submit", (event) => { event.preventDefault(); runStatement(); });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); runStatement(); }
  });
  cancel.addEventListener("click", () => running?.abort());
  exports.forEach(([button, accept, extension]) => $(button).addEventListener("click", () => save(accept, extension)));
  $("#history").addEventListener("change", ({ target }) => { if (target.value) text.value = target.value; target.value = ""; text.focus(); });
  $("#names").addEventListener("change", ({ target }) => {
    if (target.selectedIndex > 0) text.setRangeText(target.value, text.selectionStart, text.selectionEnd, "end");
    target.selectedIndex = 0;
    text.focus();
  });
  showHistory();
};

/* ---- Start ---- */

drawCharts();
$("nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
if (document.body.dataset.events) listen(document.body.dataset.events);
$$("svg.graph").forEach(traceWays);
if ($("#console")) startConsole($("#console"));
