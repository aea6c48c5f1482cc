"use strict";
// Sorts and filters the table of runs. Without it the page is the table alone.
{
  const table = document.querySelector("table.runs"), form = document.querySelector("form.filters");
  const rows = [...table.tBodies[0].rows], heads = [...table.tHead.rows[0].querySelectorAll("th")];
  const cell = (row, head) => row.cells[head.cellIndex];

  // Text in the order of its letters, figures by their size; what is unknown comes last in both directions.
  const ordered = (head, sign) => {
    const figures = head.classList.contains("number");
    const key = (row) => (figures ? parseFloat(cell(row, head).dataset.value) : cell(row, head).textContent);
    const unknown = (value) => (figures ? Number.isNaN(value) : value === "\u2013");
    const compare = figures ? (a, b) => a - b : (a, b) => a.localeCompare(b, undefined, { numeric: true });
    return rows
      .map((row) => [key(row), row])
      .sort(([a], [b]) => unknown(a) - unknown(b) || (unknown(a) ? 0 : sign * compare(a, b)))
      .map(([, row]) => row);
  };

  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const first = head.dataset.key === "accuracy" ? "descending" : "ascending"; // the best first
      const now = before === null ? first : before === "ascending" ? "descending" : "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", now);
      table.tBodies[0].append(...ordered(head, now === "ascending" ? 1 : -1));
    });
  }

  const filter = () => {
    const words = form.elements.text.value.toLowerCase().split(/\s+/);
    const chosen = heads.map((head) => [head, form.elements[head.dataset.key]?.value]).filter(([, value]) => value);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(
        words.every((word) => text.includes(word)) &&
        chosen.every(([head, value]) => cell(row, head).textContent === value)
      );
    }
    const shown = rows.filter((row) => !row.hidden).length;
    form.querySelector("output").textContent = `${shown} of ${rows.length} runs`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  filter(); // a browser may bring back what was typed before
}
