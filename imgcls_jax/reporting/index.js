// Filters the table of runs, which sort.js sorts. Without it the page is the table alone.
{
  const table = document.querySelector("table.runs"), form = document.querySelector("form.filters");
  const rows = [...table.tBodies[0].rows], heads = [...table.tHead.rows[0].querySelectorAll("th")];

  const filter = () => {
    const words = form.elements.text.value.toLowerCase().split(/\s+/);
    const chosen = heads.map((head) => [head, form.elements[head.dataset.key]?.value]).filter(([, value]) => value);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(
        words.every((word) => text.includes(word)) &&
        chosen.every(([head, value]) => row.cells[head.cellIndex].textContent === value)
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
