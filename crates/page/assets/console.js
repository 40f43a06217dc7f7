// The console: names to pick from, completion, colours, history, saved statements, rows by pages, a chart. Uses sql.js.
"use strict";

const HISTORY_MAX = 50;
const ROWS_A_PAGE = 200;
const OFFERS_MAX = 12;
const SERIES_MAX = 6;
const BARS_MAX = 60;

const COLUMNS = "select table_schema, table_name, column_name, data_type, numeric_precision, numeric_scale from information_schema.columns"
  + " where table_schema not in ('information_schema', 'pg_catalog') order by table_schema, table_name, ordinal_position";

/** Tables with their columns, as the server tells them to whoever asks. */
const readNames = async () => {
  const answer = await answerOf(await ask({ sql: COLUMNS })).catch(() => ({ rows: [] }));
  const tables = new Map();
  for (const [schema, name, column, type, precision, scale] of answer.rows ?? []) {
    const id = `${schema}.${name}`;
    if (!tables.has(id)) tables.set(id, { id, name, written: `${delimited(schema)}.${delimited(name)}`, columns: [] });
    const exactly = type === "numeric" && precision !== null ? `numeric(${precision},${scale})` : type;
    tables.get(id).columns.push({ name: column, type: exactly });
  }
  return [...tables.values()];
};

/** The list beside the text: a press puts a name where the cursor is. */
const startTree = (tables, insert) => {
  const list = $("#names");
  const name = (text, written, type) => {
    const button = make("button", { type: "button", textContent: text });
    button.addEventListener("click", () => insert(written));
    return type ? make("li", {}, button, make("span", { className: "quiet", textContent: type })) : button;
  };
  const items = tables.map((table) => {
    const columns = make("ul");
    const details = make("details", {}, make("summary", {}, ...table.id.split(/(?<=[._])/).flatMap((part) => [part, make("wbr")])), name("Insert the name", table.written), columns);
    details.addEventListener("toggle", () => {
      if (details.open && !columns.children.length) columns.append(...table.columns.map((column) => name(column.name, delimited(column.name), column.type)));
    });
    return [table, make("li", {}, details)];
  });
  list.replaceChildren(...items.map(([, item]) => item));
  const find = $("#find");
  find.addEventListener("input", () => {
    const word = find.value.trim().toLowerCase();
    for (const [table, item] of items) {
      const has = table.columns.some((column) => column.name.toLowerCase().includes(word));
      item.hidden = !(table.id.toLowerCase().includes(word) || has);
    }
  });
  if (matchMedia("(max-width: 900px)").matches) $("#tree").open = false;
};

/** Colours under the text, and offers at the cursor. */
class Editor {
  constructor(text) {
    this.text = text;
    this.colours = $("#colours");
    this.list = $("#offers");
    this.tables = [];
    this.wrong = null;
    this.at = 0;
    text.addEventListener("input", () => { this.wrong = null; this.paint(); this.offer(false); });
    text.addEventListener("scroll", () => this.follow());
    text.addEventListener("keydown", (event) => this.key(event));
    text.addEventListener("blur", () => this.close());
    text.addEventListener("pointerdown", () => this.close());
    this.list.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      const item = event.target.closest("li");
      if (item) this.accept([...this.list.children].indexOf(item));
    });
    new ResizeObserver(() => this.follow()).observe(text);
    this.paint();
  }

  /** The text as it is coloured; a place that was wrong is marked until the text changes. */
  paint() {
    let from = 0;
    const pieces = tokens(this.text.value).map(([kind, piece]) => {
      const is = this.wrong !== null && from <= this.wrong && this.wrong < from + piece.length && piece.trim();
      from += piece.length;
      const classes = [kind && `t-${kind}`, is && "t-wrong"].filter(Boolean).join(" ");
      return classes ? make("span", { className: classes, textContent: piece }) : piece;
    });
    // A last line without letters has its height too.
    this.colours.replaceChildren(...pieces, "\n");
    this.follow();
  }

  follow() {
    this.colours.style.height = `${this.text.clientHeight}px`;
    this.colours.scrollTo(this.text.scrollLeft, this.text.scrollTop);
  }

  mark(offset) {
    this.wrong = offset;
    this.paint();
  }

  set(value) {
    this.text.value = value;
    this.wrong = null;
    this.close();
    this.paint();
  }

  insert(piece) {
    const { text } = this;
    text.setRangeText(piece, text.selectionStart, text.selectionEnd, "end");
    text.focus();
    this.wrong = null;
    this.paint();
  }

  /** The word before the cursor, and what it is behind: `o.sta` is `sta` of `o`. */
  word() {
    const before = this.text.value.slice(0, this.text.selectionStart);
    const [, owner, part] = before.match(/(?:([\w"]+)\.)?("?[\w]*)$/);
    return { owner: owner?.replaceAll('"', ""), part, before };
  }

  /** The tables that the statement names, with the names they go by in it. */
  named() {
    const words = tokens(this.text.value).filter(([kind, piece]) => kind !== "comment" && piece.trim()).map(([, piece]) => piece.replaceAll('"', ""));
    const found = [];
    words.forEach((word, at) => {
      if (!/^(from|join)$/i.test(word) && !(word === "," && found.length)) return;
      const whole = words[at + 2] === "." ? `${words[at + 1]}.${words[at + 3]}` : words[at + 1];
      const table = this.tables.find(({ id, name }) => id === whole || name === whole);
      if (!table) return;
      let next = at + (words[at + 2] === "." ? 4 : 2);
      if (/^as$/i.test(words[next] ?? "")) next += 1;
      const alias = words[next];
      found.push({ table, alias: /^[\w]+$/.test(alias ?? "") && !WORDS.has(alias.toLowerCase()) ? alias : table.name });
    });
    return found;
  }

  /** What could stand at the cursor, the nearest first. */
  candidates(asked) {
    const { owner, part, before } = this.word();
    const low = part.replaceAll('"', "").toLowerCase();
    if (!asked && low.length < 2 && !owner) return [];
    const inside = tokens(before).at(-1)?.[0];
    if (inside === "string" || inside === "comment") return [];
    const named = this.named();
    const column = ({ name, type }) => ({ text: name, written: delimited(name), type });
    const all = [];
    if (owner) {
      for (const { table, alias } of named) if (alias === owner || table.name === owner) all.push(...table.columns.map(column));
      for (const table of this.tables) if (table.id.startsWith(`${owner}.`)) all.push({ text: table.name, written: delimited(table.name), type: "table" });
    } else {
      for (const { table } of named) all.push(...table.columns.map(column));
      for (const table of this.tables) all.push({ text: table.id, written: table.written, type: "table", name: table.name });
      for (const word of WORDS) all.push({ text: word, written: word, type: "" });
    }
    const rank = ({ text, name }) => {
      const own = text.toLowerCase();
      if (own.startsWith(low) || name?.toLowerCase().startsWith(low)) return 0;
      return own.includes(low) && low.length > 1 ? 1 : 2;
    };
    const seen = new Set();
    const fitting = all.filter((one) => rank(one) < 2 && one.text.toLowerCase() !== low && !seen.has(one.text) && seen.add(one.text));
    return fitting.sort((a, b) => rank(a) - rank(b)).slice(0, OFFERS_MAX);
  }

  offer(asked) {
    this.offers = this.candidates(asked);
    this.list.hidden = !this.offers.length;
    if (!this.offers.length) return this.close();
    this.list.replaceChildren(...this.offers.map(({ text, type }, at) => {
      const item = make("li", { id: `offer-${at}`, role: "option" }, text, make("span", { className: "quiet", textContent: type }));
      item.setAttribute("aria-selected", "false");
      return item;
    }));
    this.pick(0);
    const { before, part } = this.word();
    const lines = before.split("\n");
    const style = getComputedStyle(this.text);
    const letter = Editor.letter(style);
    const left = Number.parseFloat(style.paddingLeft) + (lines.at(-1).length - part.length) * letter - this.text.scrollLeft;
    this.list.style.left = `${Math.max(0, Math.min(left, this.text.clientWidth - this.list.offsetWidth))}px`;
    this.list.style.top = `${Number.parseFloat(style.paddingTop) + lines.length * Number.parseFloat(style.lineHeight) - this.text.scrollTop + 4}px`;
  }

  static letter(style) {
    const context = make("canvas").getContext("2d");
    context.font = style.font;
    return context.measureText("m").width;
  }

  pick(at) {
    this.at = (at + this.offers.length) % this.offers.length;
    [...this.list.children].forEach((item, own) => item.setAttribute("aria-selected", String(own === this.at)));
    this.list.children[this.at].scrollIntoView({ block: "nearest" });
    this.text.setAttribute("aria-activedescendant", `offer-${this.at}`);
  }

  accept(at) {
    const { part } = this.word();
    const end = this.text.selectionStart;
    this.text.setRangeText(this.offers[at].written, end - part.length, end, "end");
    this.close();
    this.paint();
  }

  close() {
    this.list.hidden = true;
    this.text.removeAttribute("aria-activedescendant");
  }

  key(event) {
    if (event.key === " " && event.ctrlKey) {
      event.preventDefault();
      this.offer(true);
    } else if (!this.list.hidden && !event.ctrlKey && !event.metaKey) {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) this.pick(this.at + step);
      else if (event.key === "Tab" || event.key === "Enter") this.accept(this.at);
      else if (event.key === "Escape") this.close();
      else return;
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  }
}

/** A picture of an answer: lines over a time or a number, else bars; a text where it has nothing to draw. */
const pictureOf = ({ columns, rows }) => {
  const kind = ({ type }) => (TIME.test(type) ? "time" : NUMBER.test(type) ? "number" : "text");
  const number = (value) => (value === null ? null : Number(value));
  let x = columns.findIndex((column) => kind(column) === "time");
  if (x < 0) x = columns.findIndex((column) => kind(column) === "text");
  if (x < 0) x = 0;
  const drawn = columns.map((column, at) => ({ column, at })).filter(({ column, at }) => at !== x && kind(column) === "number").slice(0, SERIES_MAX);
  if (!rows.length || !drawn.length) return [make("p", { className: "quiet", textContent: "A chart needs rows, and a column of numbers beside one of times, numbers or names." })];
  if (kind(columns[x]) === "text") {
    const shown = rows.slice(0, BARS_MAX);
    const lengths = shown.flatMap((row) => drawn.map(({ at }) => number(row[at]) ?? 0));
    const [least, most] = [Math.min(0, ...lengths), Math.max(0, ...lengths)];
    const place = (value) => (most > least ? ((value - least) / (most - least)) * 100 : 0);
    // As page::chart draws them: those of negative values lead from zero to the left.
    const svg = (value) => {
      const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      picture.setAttribute("viewBox", "0 0 100 6");
      picture.setAttribute("preserveAspectRatio", "none");
      picture.setAttribute("aria-hidden", "true");
      const [zero, end] = [place(0), place(value)];
      const parts = [["track", 0, 100], ["bar", Math.min(zero, end), Math.abs(end - zero)]];
      if (least < 0) parts.push(["zero", Math.max(0, zero - 0.2), 0.4]);
      for (const [name, left, width] of parts) {
        const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        bar.setAttribute("class", name);
        bar.setAttribute("x", String(left));
        bar.setAttribute("width", String(width));
        bar.setAttribute("height", "6");
        picture.append(bar);
      }
      return picture;
    };
    const label = (value) => {
      const text = value === null ? "null" : shownText(value).trim() ? null : "empty";
      return make("span", { className: "label" }, text ? make("span", { className: "null", textContent: text }) : shownText(value));
    };
    const valueOf = (value, ...before) => make("span", { className: "value" }, ...before, value === null ? "null" : Number(value).toLocaleString("en", { maximumFractionDigits: 6 }));
    const isGrouped = drawn.length > 1;
    const bars = shown.map((row) => (isGrouped
      ? make("li", {}, label(row[x]), make("ul", {}, ...drawn.map(({ at, column }, series) => make("li", { className: `series-${series % 6}` },
        svg(number(row[at]) ?? 0), valueOf(row[at], make("span", { className: "away", textContent: `${column.name}: ` }))))))
      : make("li", {}, label(row[x]), valueOf(row[drawn[0].at]), svg(number(row[drawn[0].at]) ?? 0))));
    const names = drawn.map(({ column }) => column.name);
    const legend = isGrouped ? [make("ul", { className: "legend", ariaHidden: "true" }, ...names.map((name, series) => make("li", { className: `series-${series % 6}`, textContent: name })))] : [];
    const more = rows.length > BARS_MAX ? [make("p", { className: "quiet", textContent: `The first ${BARS_MAX} rows.` })] : [];
    return [make("h2", { textContent: `${names.join(", ")} by ${columns[x].name}` }), ...legend, make("ol", { className: isGrouped ? "bars grouped" : "bars" }, ...bars), ...more];
  }
  const place = (value) => (kind(columns[x]) === "time" ? Date.parse(`${String(value).replace(" ", "T")}${/[Z+]|-\d\d(:?\d\d)?$/.test(String(value).slice(10)) ? "" : String(value).length > 10 ? "Z" : ""}`) / 1000 : number(value));
  const points = rows.filter((row) => row[x] !== null && Number.isFinite(place(row[x]))).sort((a, b) => place(a[x]) - place(b[x]));
  const series = drawn.map(({ at, column }) => ({ name: column.name, values: points.map((row) => number(row[at])) }));
  const chart = make("div", { className: "chart" });
  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", `${series.map(({ name }) => name).join(", ")} by ${columns[x].name}, ${counted(points.length, "point")}`);
  chart.dataset.chart = JSON.stringify({ x: points.map((row) => place(row[x])), time: kind(columns[x]) === "time", zoned: /with time zone/.test(columns[x].type), names: [], series });
  return [make("h2", { textContent: `By ${columns[x].name}` }), make("ul", { className: "legend" }), chart];
};

const startConsole = (form) => {
  const [text, run, cancel, status, fault, rows, picture] = ["#sql", "#run", "#cancel", "#status", "#fault", "#rows", "#picture"].map((s) => $(s));
  const exports = [["#csv", "text/csv", "csv"], ["#json", "application/json", "json"]];
  const editor = new Editor(text);
  let running = null;
  let answered = null;
  let page = 0;

  /* History, and what was saved by name. */
  const list = (key) => { try { return JSON.parse(stored.get(key) ?? "[]"); } catch { return []; } };
  const showHistory = () => {
    const options = list("tidemill-history").map((sql) => make("option", { value: sql, textContent: sql.replace(/\s+/g, " ").slice(0, 80) }));
    $("#history").replaceChildren(make("option", { value: "", textContent: "Earlier" }), ...options);
  };
  const remember = (sql) => {
    stored.set("tidemill-history", JSON.stringify([sql, ...list("tidemill-history").filter((other) => other !== sql)].slice(0, HISTORY_MAX)));
    showHistory();
  };
  const showSaved = (chosen = "") => {
    const options = list("tidemill-saved").map(({ name }) => make("option", { value: name, textContent: name }));
    $("#saved").replaceChildren(make("option", { value: "", textContent: "Saved" }), ...options);
    $("#saved").value = chosen;
    $("#forget").hidden = !chosen;
  };
  const naming = (is) => {
    $("#naming").hidden = !is;
    if (is) $("#name").focus();
  };
  $("#history").addEventListener("change", ({ target }) => { if (target.value) editor.set(target.value); target.value = ""; text.focus(); });
  $("#saved").addEventListener("change", ({ target }) => {
    const found = list("tidemill-saved").find(({ name }) => name === target.value);
    if (found) editor.set(found.sql);
    $("#forget").hidden = !found;
  });
  $("#save").addEventListener("click", () => { $("#name").value = $("#saved").value; naming(true); });
  $("#dismiss").addEventListener("click", () => naming(false));
  const keep = () => {
    const name = $("#name").value.trim();
    if (!name || !text.value.trim()) return;
    const others = list("tidemill-saved").filter((other) => other.name !== name);
    stored.set("tidemill-saved", JSON.stringify([...others, { name, sql: text.value }].sort((a, b) => a.name.localeCompare(b.name))));
    showSaved(name);
    naming(false);
  };
  $("#keep").addEventListener("click", keep);
  $("#name").addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); keep(); } });
  $("#forget").addEventListener("click", () => {
    stored.set("tidemill-saved", JSON.stringify(list("tidemill-saved").filter(({ name }) => name !== $("#saved").value)));
    showSaved();
  });

  /* Running a statement. */
  const busy = (is) => {
    run.disabled = is;
    cancel.disabled = !is;
    exports.forEach(([button]) => { $(button).disabled = is || !answered; });
  };
  const showFault = (sql, error) => {
    fault.replaceChildren(...faultOf(sql, error));
    fault.hidden = false;
    if (text.value.trim() !== sql) return;
    let at = error.position ? [...sql].slice(0, error.position - 1).join("").length : -1;
    // Without a place, the name that the message quotes.
    if (at < 0) at = sql.indexOf(error.message.match(/"([^"]+)"/)?.[1].split(".").at(-1) || "\0");
    if (at < 0) return;
    const word = sql.slice(at).match(/^[\w"]+|^[^]/)?.[0] ?? "";
    const lead = text.value.indexOf(sql) + at;
    text.setSelectionRange(lead, lead + word.length);
    editor.mark(lead);
  };

  /** The rows of the page, or their picture. */
  const show = () => {
    if (!answered) return;
    const { answer } = answered;
    const pages = Math.max(1, Math.ceil(answer.rows.length / ROWS_A_PAGE));
    page = Math.min(page, pages - 1);
    const from = page * ROWS_A_PAGE;
    rows.replaceChildren(tableOf({ columns: answer.columns, rows: answer.rows.slice(from, from + ROWS_A_PAGE) }, "Rows of the statement"));
    rows.scrollTo(0, 0);
    const last = page === pages - 1;
    $("#looks").hidden = !answer.rows.length;
    $(".pages", $("#looks")).hidden = last && page === 0 && !answer.more;
    $("#part").textContent = `${(from + 1).toLocaleString("en")}–${Math.min(from + ROWS_A_PAGE, answer.rows.length).toLocaleString("en")} of ${answer.rows.length.toLocaleString("en")}${answer.more ? " and more" : ""}`;
    $("#previous").disabled = page === 0;
    $("#next").disabled = last && !answer.more;
    const drawn = $("#as-chart").getAttribute("aria-pressed") === "true" && answer.rows.length > 0;
    charts.forEach((_, element) => { if (!element.isConnected || picture.contains(element)) charts.delete(element); });
    picture.hidden = !drawn;
    rows.hidden = drawn;
    picture.replaceChildren(...(drawn ? pictureOf(answer) : []));
    if (drawn) drawCharts(picture);
  };

  const runStatement = async (sql, limit) => {
    if (!sql || running) return;
    const started = performance.now();
    const took = () => `${Math.max(1, Math.round(performance.now() - started)).toLocaleString("en")} ms`;
    fault.hidden = true;
    status.textContent = "Running …";
    answered = null;
    running = new AbortController();
    try {
      const reply = ask({ sql, limit }, running.signal);
      busy(true);
      remember(sql);
      const answer = await answerOf(await reply);
      if (answer.error) {
        $("#looks").hidden = picture.hidden = true;
        rows.replaceChildren();
        status.textContent = `Failed after ${took()}.`;
        showFault(sql, answer.error);
      } else {
        answered = { sql, limit, answer };
        const what = answer.more ? `The first ${counted(answer.row_count, "row")}; the next pages have more, CSV and JSON all` : counted(answer.row_count, "row");
        status.textContent = `${what} · step ${answer.step.toLocaleString("en")} · ${took()}.`;
        show();
      }
    } catch (error) {
      status.textContent = error.name === "AbortError" ? `Cancelled after ${took()}.` : "The answer was cut off: is Tidemill still running?";
    } finally {
      running = null;
      busy(false);
    }
  };

  const save = async (accept, extension) => {
    const before = status.textContent;
    running = new AbortController();
    try {
      const reply = ask({ sql: answered.sql }, running.signal, accept);
      busy(true);
      status.textContent = "Exporting …";
      const response = await reply;
      if (!response.ok) {
        showFault(answered.sql, (await response.json()).error);
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

  const rowsMax = Number(form.dataset.rows);
  const start = () => { page = 0; runStatement(text.value.trim(), rowsMax); };
  form.addEventListener("submit", (event) => { event.preventDefault(); start(); });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); start(); }
  });
  cancel.addEventListener("click", () => running?.abort());
  exports.forEach(([button, accept, extension]) => $(button).addEventListener("click", () => save(accept, extension)));
  for (const [own, other] of [["#as-rows", "#as-chart"], ["#as-chart", "#as-rows"]]) {
    $(own).addEventListener("click", () => {
      $(own).setAttribute("aria-pressed", "true");
      $(other).setAttribute("aria-pressed", "false");
      show();
    });
  }
  // Of a statement that failed, or that is still running, there are no pages.
  $("#previous").addEventListener("click", () => {
    if (!answered) return;
    page -= 1;
    show();
  });
  $("#next").addEventListener("click", () => {
    if (!answered) return;
    page += 1;
    // Behind the last row that was asked for, ten times as many are.
    if (page * ROWS_A_PAGE >= answered.answer.rows.length) runStatement(answered.sql, answered.limit * 10);
    else show();
  });
  showHistory();
  showSaved();
  readNames().then((tables) => {
    editor.tables = tables;
    startTree(tables, (name) => editor.insert(name));
  });
};

startConsole($("#console"));
