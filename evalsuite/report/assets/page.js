// Draws the figures of a page. Labels come escaped from evalsuite/report/page.py (plain).
(function () {
  "use strict";
  const D = JSON.parse(document.getElementById("data").textContent);
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
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  document.getElementById("print").addEventListener("click", () => print());
})();
