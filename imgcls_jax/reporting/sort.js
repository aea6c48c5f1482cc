"use strict";
// Sorts tables of the class "sortable" by a click on a head. Without it they are plain tables.
for (const table of document.querySelectorAll("table.sortable")) {
  const rows = [...table.tBodies[0].rows], heads = [...table.tHead.rows[0].querySelectorAll("th")];

  // Text in the order of its letters, figures by their size; what is unknown comes last in both directions.
  const ordered = (head, sign) => {
    const figures = head.classList.contains("number");
    const key = (row) => {
      const cell = row.cells[head.cellIndex];
      return figures ? parseFloat(cell.dataset.value ?? cell.textContent.replaceAll(",", "")) : cell.textContent;
    };
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
}
