"use strict";

// Tables that sort by a click on a column's title, and filter by a text.
(() => {
  const { element } = massact;
  // Fewer rows are seen at a glance.
  const FILTER_FROM = 8;

  /** Makes a table sort, and filter from so many rows on; returns its state, for filters besides the text's. */
  massact.table = (box, filterFrom = FILTER_FROM) => {
    const table = box.querySelector("table");
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const state = { rows, text: "", also: () => true, changed: () => {} };
    const titles = [...table.tHead.rows[0].cells];
    if (rows.length > 1) titles.forEach((title, column) => sortable(title, column, titles, rows, body));
    const count = element("span", { class: "count", role: "status" });
    state.apply = () => {
      const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        const fits = words.every((word) => text.includes(word)) && state.also(row);
        row.hidden = !fits;
        shown += fits;
      }
      count.textContent = shown === rows.length ? `${rows.length} rows` : `${shown} of ${rows.length} rows`;
      state.changed();
    };
    if (rows.length >= filterFrom) {
      const input = element("input", { type: "search", placeholder: "Filter rows", "aria-label": "Filter rows" });
      input.addEventListener("input", () => {
        state.text = input.value;
        state.apply();
      });
      state.tools = element("div", { class: "tools filter" }, input, count);
      box.before(state.tools);
      state.apply();
    }
    return state;
  };

  function sortable(title, column, titles, rows, body) {
    const text = title.textContent;
    if (text.trim() === "") return;
    const button = element("button", { type: "button" }, text);
    title.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = title.getAttribute("aria-sort") === "ascending";
      for (const other of titles) other.removeAttribute("aria-sort");
      title.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = rows.map((row) => [key(row.cells[column]), row]);
      const numbers = keyed.every(([{ none, number }]) => none || !Number.isNaN(number));
      keyed.sort(([a], [b]) => compare(a, b, numbers, down));
      body.append(...keyed.map(([, row]) => row));
    });
  }

  /** A cell's number, where it begins with one, and its text. */
  function key(cell) {
    const text = (cell?.dataset.sort ?? cell?.textContent ?? "").trim();
    const plain = text.replaceAll(",", "").replace(/^[×+]/, "");
    const number = /^(inf|∞)$/.test(plain) ? Infinity : Number.parseFloat(plain);
    return { text, number, none: text === "" || text === "-" || text === "–" };
  }

  // What is missing stays at the end, whichever way.
  function compare(a, b, numbers, down) {
    if (a.none || b.none) return a.none - b.none;
    const numeric = () => (a.number === b.number ? 0 : a.number - b.number);
    const order = numbers ? numeric() : a.text.localeCompare(b.text, "en", { numeric: true });
    return down ? -order : order;
  }
})();
