// Tidemill's page: what moves, and charts. No framework, no eval, nothing inline. graph.js, rows.js and console.js use it.
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

/** A value as text: money below ten thousand has the digits of its currency, anything else four that count. */
const valueText = (value, digits) => {
  if (digits === undefined || typeof value !== "number" || Math.abs(value) >= 1e4) return short(value);
  return new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
};

const HOUR = 3600;
const DAY = 86400;
/** How far marks may be apart where every point is a day. */
const DAYS = [1, 2, 3, 5, 7, 10, 15, 30, 60, 90, 180, 365, 730, 1825, 3650].map((days) => days * DAY);

class Chart {
  constructor(element) {
    this.element = element;
    this.data = JSON.parse(element.dataset.chart);
    this.redraw();
  }

  /** The legend stands before the chart and shows the values under the cursor, or the last ones. */
  legend(index) {
    const list = this.element.previousElementSibling;
    const { series, x, open, prefix = "", suffix = "", digits } = this.data;
    if (list.children.length !== series.length) list.replaceChildren(...series.map(() => make("li")));
    const items = [...list.children];
    const at = index ?? x.length - 1;
    const soFar = open && at === x.length - 1 ? " so far" : "";
    series.forEach((one, number) => {
      const value = one.values[at];
      const text = typeof value === "number" && !one.second ? `${prefix}${valueText(value, digits)}${suffix}` : short(value);
      items[number].className = `series-${number % 6}${one.before ? " before" : ""}`;
      items[number].replaceChildren(`${one.name} `, make("b", { textContent: text }), one.before ? "" : soFar);
    });
  }

  /** What is drawn: of a time that is not over, the way to the last point is a line of its own. */
  plotted() {
    const { x, series, open } = this.data;
    if (!open) return [x, ...series.map(({ values }) => values)];
    const last = x.length - 1;
    const closed = series.map(({ values, before }) => (before ? values : values.map((value, at) => (at === last ? null : value))));
    const rest = series.map(({ values, before }) => values.map((value, at) => (!before && at >= last - 1 ? value : null)));
    return [x, ...closed, ...rest];
  }

  update(data) {
    const shape = ({ series, time, zoned, open }) => JSON.stringify([series.map(({ second, before }) => [second, before]), time, zoned, open]);
    const same = this.plot && shape(data) === shape(this.data);
    this.data = data;
    this.updated = true;
    if (!same || this.nothing() !== null) {
      this.redraw();
      if (!this.plot) this.legend();
      return;
    }
    this.plot.setData(this.plotted());
    this.legend();
  }

  /** Why there is nothing to draw: a grid without a line would look like a chart of zeros. */
  nothing() {
    const { x, series } = this.data;
    if (!x.length) return "No rows.";
    return series.some(({ values }) => values.some((value) => typeof value === "number")) ? null : "No values.";
  }

  redraw() {
    this.plot?.destroy();
    this.plot = null;
    const nothing = this.nothing();
    this.element.classList.toggle("nothing", nothing !== null);
    if (nothing !== null) {
      // Of a tile that failed at first it is not known: why it did stands above.
      if (this.updated || !this.element.dataset.live) this.element.replaceChildren(make("p", { className: "quiet", textContent: nothing }));
      return;
    }
    this.element.replaceChildren();
    this.width = this.element.clientWidth;
    if (!this.width || typeof uPlot === "undefined") return;
    const { time, zoned, names, series, open, x, prefix = "", digits } = this.data;
    const style = getComputedStyle(this.element);
    const color = (name) => Chart.resolve(style.getPropertyValue(name));
    const quiet = color("--quiet");
    const axis = {
      stroke: quiet, font: "11.5px system-ui, sans-serif",
      grid: { stroke: color("--line"), width: 1 }, ticks: { show: false },
    };
    const marks = (before) => ({
      // Marks of money have its digits where one of them has any.
      values: (_, at) => {
        const whole = !before || at.every((value) => value === null || Number.isInteger(value));
        return at.map((value) => `${before}${whole ? short(value) : valueText(value, digits)}`);
      },
      // As wide as its widest mark: none is cut.
      size: (plot, texts) => 12 + Math.max(24, ...(texts ?? []).map((text) => text.length * 6.9)),
    });
    const isDays = time && x.every((at) => at % DAY === 0);
    const days = isDays ? { incrs: DAYS } : {};
    const years = time && Chart.years(x, zoned);
    const xText = time ? Chart.clock(zoned, years) : names.length ? (_, at) => at.map((n) => names[n] ?? "") : (_, at) => at.map(short);
    const range = (_, low, high) => Chart.range(low, high);
    // One point alone stands in the middle of what is next to it.
    const beside = !time ? 1 : isDays ? DAY : HOUR;
    const along = (_, low, high) => {
      const places = this.data.x;
      return places[0] === places[places.length - 1] ? [places[0] - beside, places[0] + beside] : [low, high];
    };
    const line = (one, at, dash) => ({
      label: one.name, scale: one.second ? "second" : "y", stroke: one.before ? quiet : color(`--series-${at % 6}`),
      width: one.before ? 1.3 : 2, dash: one.before ? [2, 3] : dash, points: { show: x.length < 2 },
    });
    const second = series.some((one) => one.second) ? [{ ...axis, ...marks(""), scale: "second", side: 1, grid: { show: false } }] : [];
    this.plot = new uPlot({
      ...(time && !zoned ? { tzDate: (at) => uPlot.tzDate(new Date(at * 1e3), "Etc/UTC") } : {}),
      width: this.width, height: 200, legend: { show: false }, cursor: { y: false, points: { size: 7 } },
      scales: { x: { time, range: along }, y: { range }, second: { range } },
      // Marks at the ends are not cut: those with years are wider.
      padding: [10, second.length ? 0 : years ? 38 : 24, 0, years ? 12 : 0],
      axes: [{ ...axis, ...days, size: 30, space: years ? 92 : 74, values: xText }, { ...axis, ...marks(prefix) }, ...second],
      series: [{}, ...series.map((one, at) => line(one, at)), ...(open ? series.map((one, at) => line(one, at, [5, 4])) : [])],
      hooks: { setCursor: [(plot) => this.legend(plot.cursor.idx)] },
    }, this.plotted(), this.element);
    this.legend();
  }

  /** Marks of a time axis: days, or the clock where marks are less than a day apart. Times that have a zone are shown in the
   *  viewer's own, others as they stand in the rows. Days have their year where it is not this one alone. */
  static clock(zoned, years) {
    const format = (part) => new Intl.DateTimeFormat("en", { ...part, ...(zoned ? {} : { timeZone: "UTC" }) });
    const day = format({ month: "short", day: "numeric", ...(years ? { year: "numeric" } : {}) });
    return (_, at, axis, space, step) => {
      const clock = format({ hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(step < 60 ? { second: "2-digit" } : {}) });
      return at.map((seconds) => {
        const text = clock.format(seconds * 1000);
        return step >= DAY || /^00:00(:00)?$/.test(text) ? day.format(seconds * 1000) : text;
      });
    };
  }

  /** Whether times are of other years than this one. */
  static years(x, zoned) {
    const year = (seconds) => { const at = new Date(seconds * 1000); return zoned ? at.getFullYear() : at.getUTCFullYear(); };
    return x.length > 0 && [x[0], x[x.length - 1]].some((at) => year(at) !== new Date().getFullYear());
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

/* ---- Start ---- */

drawCharts();
$("nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
if (document.body.dataset.events) listen(document.body.dataset.events);
