// What the console and the rows of a page share: asking `POST /sql`, showing rows, reading SQL as tokens. Uses page.js.
"use strict";

const NUMBER = /^(smallint|integer|bigint|real|double precision|numeric)/;
const TIME = /^(date|timestamp)/;

/** A name as SQL reads it. */
const delimited = (name) => (/^[a-z_][a-z0-9_]*$/.test(name) && !WORDS.has(name) ? name : `"${name.replaceAll('"', '""')}"`);

const WORDS = new Set(("all and any array as asc between by case cast coalesce count cross current_date current_timestamp date date_trunc desc distinct"
  + " else end except exists explain extract false filter first from full group having ilike in inner intersect interval is join last lateral left like"
  + " limit max min not null nulls offset on or order outer over partition recursive right row_number rows select sum then timestamp true union unnest"
  + " using values when where window with").split(" "));

/** Pieces of a text: `[kind, text]`, where kind is a class of the style sheet or empty. Together they are the whole text. */
const tokens = (sql) => {
  const found = [];
  const pattern = /--[^\n]*|\/\*[^]*?(?:\*\/|$)|'(?:[^']|'')*(?:'|$)|"(?:[^"]|"")*(?:"|$)|\{[{%#][^]*?(?:[}%#]\}|$)|[\p{L}_][\p{L}\p{N}_$]*|\d+(?:\.\d+)?|\s+|[^]/gu;
  for (const [text] of sql.matchAll(pattern)) {
    const first = text[0];
    let kind = "";
    if (text.startsWith("--") || text.startsWith("/*")) kind = "comment";
    else if (first === "'") kind = "string";
    else if (first === "{" && text.length > 1) kind = "jinja";
    else if (/\d/.test(first)) kind = "digits";
    else if (WORDS.has(text.toLowerCase())) kind = "keyword";
    found.push([kind, text]);
  }
  return found;
};

const highlighted = (sql) => tokens(sql).map(([kind, text]) => (kind ? make("span", { className: `t-${kind}`, textContent: text }) : text));

/** Answers of `POST /sql`. Whole numbers beyond 2^53 stay as they were sent, not as this language rounds them. */
const exact = (key, value, context) => (typeof value === "number" && context?.source && String(value) !== context.source ? context.source : value);

const ask = (body, signal, accept = "application/json") => fetch("/sql", {
  method: "POST", signal, headers: { Accept: accept, "Content-Type": "application/json" }, body: JSON.stringify(body),
});

const answerOf = async (response) => JSON.parse(await response.text(), exact);

const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

const shownText = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));

/** A table of rows. */
const tableOf = ({ columns, rows }, caption) => {
  const sides = columns.map(({ type }) => (NUMBER.test(type) ? "number" : ""));
  const head = columns.map(({ name, type }, at) => make("th", { scope: "col", title: type, className: sides[at], textContent: name }));
  const cell = (value, at) => {
    const td = make("td", { className: sides[at] });
    if (value === null) td.append(make("span", { className: "null", textContent: "null" }));
    else if ((td.textContent = shownText(value)).length > 60) td.title = td.textContent;
    return td;
  };
  return make("table", { className: "grid" }, make("caption", { className: "away", textContent: caption }),
    make("thead", {}, make("tr", {}, ...head)),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(cell)))));
};

/** An error as people read it: what, where in the text, and what to do. */
const faultOf = (sql, error) => {
  const parts = [make("p", { textContent: error.code ? `${error.message} (${error.code})` : error.message })];
  if (error.position) {
    // Positions count characters, not the units of a JavaScript string.
    const before = [...sql].slice(0, error.position - 1).join("");
    const line = before.split("\n").length;
    const column = [...before.split("\n").at(-1)].length;
    const mark = make("pre", { textContent: `${sql.split("\n")[line - 1]}\n${" ".repeat(column)}^` });
    parts.push(mark, make("p", { className: "quiet", textContent: `Line ${line}, column ${column + 1}` }));
  }
  for (const part of [error.detail, error.hint]) if (part) parts.push(make("p", { textContent: part }));
  return parts;
};

$$("pre.sql code").forEach((code) => code.replaceChildren(...highlighted(code.textContent)));
