"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const say = (text) => { document.getElementById("said").textContent = text; };

  // tables: numbers before words, what is missing last
  const key = (row, column) => {
    const cell = row.cells[column];
    const text = (cell.querySelector(".figure") || cell).textContent.trim();
    const number = parseFloat(text.replace(/^[<+]/, ""));
    return { text, number, kind: text === "" ? 2 : Number.isNaN(number) || cell.tagName === "TH" ? 1 : 0 };
  };
  const sort = (header) => {
    const table = header.closest("table"), body = table.tBodies[0], column = header.cellIndex;
    const down = header.getAttribute("aria-sort") === "ascending";
    const rows = all("tr", body).map((row) => [key(row, column), row]);
    rows.sort(([a], [b]) => {
      if (a.kind !== b.kind) return a.kind - b.kind;
      const order = a.kind ? a.text.localeCompare(b.text, "en", { numeric: true }) : a.number - b.number;
      return down ? -order : order;
    });
    all("th", table.tHead).forEach((each) => each.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows.map(([, row]) => row));
    say(`sorted by ${header.textContent.trim()}, ${down ? "descending" : "ascending"}`);
  };
  all(".sortable thead button").forEach((button) => button.addEventListener("click", () => sort(button.closest("th"))));

  // what is asked for by the boxes
  const off = { mix: new Set(), classifier: new Set() };
  const shown = (mix, classifier) => !off.mix.has(mix) && !off.classifier.has(classifier);
  const filterTable = (table) => {
    const rows = [...table.tBodies[0].rows], named = (cell) => cell.dataset.mix !== undefined;
    const gone = (cell) => !shown(cell.dataset.mix, cell.dataset.classifier);
    const empty = (cells) => cells.some(named) && cells.filter(named).every(gone);
    const columns = [...table.tHead.rows[0].cells].map((_, i) => i > 0 && empty(rows.map((row) => row.cells[i])));
    // rows that are gone say nothing of a column
    const lost = rows.map((row) => empty([...row.cells]));
    const whole = lost.every(Boolean);
    rows.forEach((row, r) => {
      row.hidden = lost[r];
      [...row.cells].forEach((cell, c) => { cell.hidden = columns[c] && !whole; });
    });
    [...table.tHead.rows[0].cells].forEach((cell, c) => { cell.hidden = columns[c] && !whole; });
  };
  const filter = () => {
    all("table.sortable").forEach(filterTable);
    all("li[data-classifier], figure[data-mix], details[data-mix]").forEach((each) => {
      each.hidden = !shown(each.dataset.mix, each.dataset.classifier);
    });
    drawn.forEach(draw);
  };
  all("#filter input").forEach((box) => box.addEventListener("change", () => {
    off[box.dataset.toggle][box.checked ? "delete" : "add"](box.value);
    filter();
    say(`${box.value} ${box.checked ? "shown" : "hidden"}`);
  }));

  // charts, each drawn when it comes near the screen: some pages hold dozens
  const drawn = new Set();
  const specs = new Map(all(".plot").map((div) => [div, JSON.parse(document.getElementById(`spec-${div.dataset.spec}`).textContent)]));
  const traceShown = (trace) => {
    if (trace.meta && off.classifier.has(trace.meta.classifier)) return null;
    if (!trace.customdata) return trace;
    const kept = trace.customdata.map((mix, i) => [mix, i]).filter(([mix]) => !off.mix.has(mix)).map(([, i]) => i);
    const pick = (values) => kept.map((i) => values[i]);
    const error = trace.error_y;
    return { ...trace, x: pick(trace.x), y: pick(trace.y), customdata: pick(trace.customdata), text: trace.text && pick(trace.text),
      error_y: { ...error, array: pick(error.array), arrayminus: pick(error.arrayminus) } };
  };
  function draw(div) {
    const spec = specs.get(div), style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = (given) => ({ ...given, automargin: true, gridcolor: colour("--line"), linecolor: colour("--soft"), zeroline: false });
    const layout = { ...spec.layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("--ink"), family: "system-ui, sans-serif", size: 12 }, margin: { l: 50, r: 10, t: 10, b: 45 },
      xaxis: axis(spec.layout.xaxis), yaxis: axis(spec.layout.yaxis), legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" } };
    const traces = spec.data.map(traceShown).filter(Boolean);
    drawn.add(div);
    return Plotly.react(div, traces, layout, { displayModeBar: false, responsive: true });
  }
  const near = new IntersectionObserver((seen) => seen.filter((each) => each.isIntersecting).forEach((each) => {
    near.unobserve(each.target);
    draw(each.target);
  }), { rootMargin: "600px" });
  all(".plot").forEach((div) => near.observe(div));
  const redraw = (divs) => divs.forEach((div) => draw(div).then(() => Plotly.Plots.resize(div)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw([...drawn]));
  // on paper all of them, in its colours
  matchMedia("print").addEventListener("change", (event) => redraw(event.matches ? all(".plot") : [...drawn]));

  // from a figure to its records
  const open = (ids) => {
    all(".record.asked").forEach((each) => each.classList.remove("asked"));
    const found = ids.map((id) => document.getElementById(`cell-${id}`)).filter(Boolean);
    found.forEach((each) => { each.hidden = false; each.open = true; each.classList.add("asked"); });
    if (found.length) {
      found[0].querySelector("summary").focus({ preventScroll: true });
      found[0].scrollIntoView({ block: "start" });
    }
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-cells]");
    if (!link) return;
    event.preventDefault();
    history.pushState(null, "", link.getAttribute("href"));
    open(link.dataset.cells.split(" "));
  });
  const fromAddress = () => { if (location.hash.startsWith("#cell-")) open([location.hash.slice(6)]); };
  addEventListener("hashchange", fromAddress);
  fromAddress();
  all(".record").forEach((each) => each.addEventListener("toggle", () => {
    const text = each.querySelector("pre");
    if (text && !text.dataset.pretty) {
      text.textContent = JSON.stringify(JSON.parse(text.textContent), null, 1);
      text.dataset.pretty = "1";
    }
  }));
})();
