// A table's or model's page: its rows, searched and paged from the newest, and its tests, run when asked. Uses sql.js.
"use strict";

const PAGE = 50;

const startRows = (card) => {
  const { from } = card.dataset;
  const [order, columns] = [card.dataset.order, card.dataset.columns].map((names) => JSON.parse(names).map((name) => `"${name.replaceAll('"', '""')}"`));
  const [form, search, status, shown, newer, older] = ["form", "#search", "#rows-status", "#rows-shown", "#newer", "#older"].map((s) => $(s, card));
  const ordered = status.textContent;
  let [at, asked] = [0, null];

  const statement = (word) => {
    const holds = columns.map((column) => `strpos(lower(cast(${column} as text)), lower($1)) > 0`).join(" or ");
    const by = order.map((column) => `${column} desc nulls last`).join(", ");
    return `select * from ${from}${word && holds ? ` where ${holds}` : ""}${by ? ` order by ${by}` : ""} limit ${PAGE + 1} offset ${at}`;
  };

  const show = async () => {
    asked?.abort();
    const own = asked = new AbortController();
    const word = search.value.trim();
    const sql = statement(word);
    status.textContent = "Reading …";
    try {
      const answer = await answerOf(await ask(word && columns.length ? { sql, params: [word] } : { sql }, own.signal));
      if (answer.error) {
        status.textContent = ordered;
        shown.replaceChildren(make("div", { className: "trouble" }, ...faultOf(sql, answer.error)));
        return;
      }
      const rows = answer.rows.slice(0, PAGE);
      const none = word ? `No row holds “${word}”.` : "No rows.";
      status.textContent = rows.length || at
        ? `${ordered} Rows ${(at + 1).toLocaleString("en")} to ${(at + rows.length).toLocaleString("en")}${word ? ` of those that hold “${word}”` : ""}, at step ${answer.step.toLocaleString("en")}.` : none;
      shown.replaceChildren(tableOf({ columns: answer.columns, rows }, "Rows"));
      newer.disabled = at === 0;
      older.disabled = answer.rows.length <= PAGE;
    } catch (error) {
      if (error.name !== "AbortError") status.textContent = "No answer came: is Tidemill still running?";
    }
  };
  form.addEventListener("submit", (event) => { event.preventDefault(); at = 0; show(); });
  search.addEventListener("search", () => { if (!search.value) { at = 0; show(); } });
  newer.addEventListener("click", () => { at = Math.max(0, at - PAGE); show(); });
  older.addEventListener("click", () => { at += PAGE; show(); });
  show();
};

const startTests = (card) => {
  const run = $("#run-tests", card);
  run.addEventListener("click", async () => {
    run.disabled = true;
    for (const row of $$("tr[data-sql]", card).filter(({ dataset }) => dataset.sql)) {
      const state = $(".state", row);
      const say = (tone, text) => { state.dataset.tone = tone; state.textContent = text; };
      say("busy", "running");
      try {
        const answer = await answerOf(await ask({ sql: `select count(*) from (${row.dataset.sql}) as failing` }));
        const failing = Number(answer.rows?.[0][0] ?? 0);
        if (answer.error) say("bad", answer.error.message);
        else if (failing) say(row.cells[2].textContent === "warn" ? "warn" : "bad", `${counted(failing, "row")} fail${failing === 1 ? "s" : ""} at step ${answer.step.toLocaleString("en")}`);
        else say("good", `holds at step ${answer.step.toLocaleString("en")}`);
      } catch {
        say("warn", "no answer came");
      }
    }
    run.disabled = false;
  });
};

if ($("#rows")) startRows($("#rows"));
if ($("#tests")) startTests($("#tests"));
