"use strict";
(() => {
  const table = document.getElementById("tensors");
  const unfold = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const around = target && target.closest("details");
    if (around && !around.open) {
      around.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", unfold);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#t']");
    if (link && link.hash === location.hash) unfold();  // a second click on the same link changes no hash
  });
  unfold();

  const folded = [];
  addEventListener("beforeprint", () => {
    for (const tensor of document.querySelectorAll("details.tensor:not([open])")) {
      tensor.open = true;
      folded.push(tensor);
    }
  });
  addEventListener("afterprint", () => {
    for (const tensor of folded.splice(0)) tensor.open = false;
  });

  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const headers = [...table.tHead.rows[0].cells];
  const status = document.getElementById("status");
  let sorted = "in the order of the model";
  let shown = rows.length;

  const say = () => {
    status.textContent = `${shown} of ${rows.length} shown, ${sorted}`;
  };

  // nan counts as larger than every number, and what is not known comes last in either direction.
  const numbers = (column, sign) => {
    const of = (row) => row.cells[column].dataset.value;
    return (a, b) => {
      const [x, y] = [of(a), of(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const [p, q] = [Number(x), Number(y)];
      if (Number.isNaN(p) || Number.isNaN(q)) return sign * (Number.isNaN(p) - Number.isNaN(q));
      return p === q ? 0 : sign * (p < q ? -1 : 1);
    };
  };
  const collator = new Intl.Collator("en", { numeric: true });
  const texts = (column, sign) => (a, b) =>
    sign * collator.compare(a.cells[column].textContent.trim(), b.cells[column].textContent.trim());

  const directions = { none: "ascending", ascending: "descending", descending: "none" };
  headers.forEach((header, column) => {
    const name = header.textContent.trim();
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    header.replaceChildren(button);
    header.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const direction = directions[header.getAttribute("aria-sort")];
      for (const other of headers) other.setAttribute("aria-sort", "none");
      header.setAttribute("aria-sort", direction);
      const sign = direction === "descending" ? -1 : 1;
      const compare = header.dataset.kind === "number" ? numbers(column, sign) : texts(column, sign);
      body.append(...(direction === "none" ? rows : [...rows].sort(compare)));
      sorted = direction === "none" ? "in the order of the model" : `by ${name.toLowerCase()}, ${direction}`;
      say();
    });
  });

  const filter = document.getElementById("filter");
  const words = rows.map((row) => `${row.cells[0].textContent} ${row.cells[4].textContent}`.toLowerCase());
  filter.addEventListener("input", () => {
    const asked = filter.value.trim().toLowerCase();
    shown = 0;
    rows.forEach((row, place) => {
      const fits = words[place].includes(asked);
      row.hidden = !fits;
      document.getElementById(row.dataset.section).closest("details").hidden = !fits;
      shown += fits;
    });
    document.getElementById("none").hidden = shown > 0;
    say();
  });
  document.querySelector(".tools").hidden = false;
  say();
})();
