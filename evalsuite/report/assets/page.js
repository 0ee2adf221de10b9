// Draws the figures of a page, switches its language, and gives away what stands behind its tables.
// Labels of figures come escaped from evalsuite/report/page.py (plain).
(function () {
  "use strict";
  const D = JSON.parse(document.getElementById("data").textContent);
  const root = document.getElementById("page");
  document.body.classList.remove("no-script");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const named = (value) => typeof value === "string" && value.startsWith("--") ? css(value.slice(2)) : value;
  /** Replace colours named like CSS variables ("--real") by what they are in this theme. */
  function themed(value) {
    if (Array.isArray(value)) return value.map(themed);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v)]));
    return named(value);
  }
  function draw() {
    const axis = () => ({ gridcolor: css("line"), zerolinecolor: css("line"), linecolor: css("line"), automargin: true });
    document.querySelectorAll("[data-figure]").forEach((box) => {
      const figure = D.figures[Number(box.dataset.figure)];
      const layout = themed(figure.layout);
      // Where the window changes its size, plotly takes the height of the box: it must have one.
      box.style.height = figure.height + "px";
      Plotly.react(box, themed(figure.data), {
        font: { family: css("sans"), size: 12, color: css("ink") }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        height: figure.height, margin: { l: 10, r: 16, t: 10, b: 40 }, hoverlabel: { align: "left" }, ...layout,
        xaxis: { ...axis(), ...(layout.xaxis || {}) }, yaxis: { ...axis(), ...(layout.yaxis || {}) },
      }, { responsive: true, displaylogo: false, displayModeBar: false });
    });
  }

  // ---- what stands behind a table or a figure --------------------------------------------------
  const raw = (s) => s.replace(/<br>/g, " · ").replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");
  const AXES = ["x", "y"];
  /** The points of a figure as rows, with the ends of their intervals; columns without a value go. */
  function points(figure) {
    const rows = figure.data.flatMap((trace) => {
      const n = Math.max(...AXES.map((a) => (trace[a] || []).length));
      return Array.from({ length: n }, (_, i) => {
        const row = { series: trace.name ? raw(trace.name) : null };
        for (const a of AXES) {
          const value = (trace[a] || [])[i];
          const error = trace["error_" + a];
          const end = (list, way) => (error && typeof value === "number" ? value + way * (list || error.array)[i] : null);
          Object.assign(row, { [a]: typeof value === "string" ? raw(value) : value ?? null, [a + "_low"]: end(error && error.arrayminus, -1), [a + "_high"]: end(error && error.array, 1) });
        }
        row.text = Array.isArray(trace.text) ? raw(trace.text[i]) : null;
        return row;
      });
    });
    const columns = Object.keys(rows[0] || {}).filter((c) => rows.some((row) => row[c] !== null));
    return { columns, rows: rows.map((row) => columns.map((c) => row[c])) };
  }
  function give(index, format) {
    const one = D.downloads[index];
    const { columns, rows } = one.figure === undefined ? one : points(D.figures[one.figure]);
    const name = "evalsuite-" + D.name + "-" + one.name + "." + format;
    if (format === "csv") FILES.save(name, "\ufeff" + FILES.csv(columns, rows), "text/csv");
    else FILES.save(name, JSON.stringify({ columns, rows }, null, 1) + "\n", "application/json");
  }

  // ---- languages -------------------------------------------------------------------------------
  const pages = { [document.documentElement.lang]: [...root.childNodes] };
  for (const template of document.querySelectorAll("template[data-page]")) pages[template.dataset.page] = [...template.content.childNodes];
  const media = new Map([...root.querySelectorAll("[data-media]")].map((node) => [node.dataset.media, node.src]));
  function show(lang) {
    if (lang === document.documentElement.lang) return;
    root.replaceChildren(...pages[lang]);
    for (const node of root.querySelectorAll("[data-media]")) if (node.src !== media.get(node.dataset.media)) node.src = media.get(node.dataset.media);
    document.documentElement.lang = lang;
    document.title = D.titles[lang];
    draw();
    root.querySelector('[data-lang="' + lang + '"]').focus();
  }

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  root.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.id === "print") print();
    if (button.dataset.lang) show(button.dataset.lang);
    if (button.dataset.download) give(Number(button.dataset.download), button.dataset.format);
  });
  document.documentElement.dataset.ready = "yes";
})();
