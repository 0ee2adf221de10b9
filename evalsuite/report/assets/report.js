// The page's own script. Text from data reaches the page only as text nodes and attribute values,
// never as markup; plotly.js, which reads some markup in its labels, gets it escaped (see plain()).
(function () {
  "use strict";
  const D = JSON.parse(document.getElementById("data").textContent);
  const THUMBS = JSON.parse(document.getElementById("thumbs").textContent);
  const CLIPS = JSON.parse(document.getElementById("clips").textContent);
  const $ = (id) => document.getElementById(id);
  const PAGE = 30;
  const WHOLE = "all";
  let lang = D.lang;
  document.body.classList.remove("no-script");

  // ---- text and numbers (evalsuite/report/text.py and i18n.py hold the same rules) -------------
  const SUPER = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
  const trimmed = (digits) => (digits.includes(".") ? digits.replace(/\.?0+$/, "") : digits);
  const grouped = (digits) => digits.replace(/\B(?=(\d{3})+$)/g, ",");

  function number(x, digits = 3) {
    if (typeof x !== "number" || !isFinite(x)) return "–";
    const sign = x < 0 ? "−" : "";
    const size = Math.abs(x);
    if (Number.isInteger(size) && size < 1e15) return sign + grouped(size.toFixed(0));
    const rounded = Number(size.toPrecision(digits));
    if (rounded >= 1000) {
      if (rounded < 1e15) return sign + grouped(size.toFixed(0));
    } else if (rounded >= 0.001) {
      // toPrecision never writes an exponent in this range, but for a size such as 999.9
      return sign + trimmed(size.toPrecision(digits));
    }
    const [mantissa, exponent] = size.toExponential(1).split("e");
    return sign + trimmed(mantissa) + "×10" + String(Number(exponent)).replace(/[-\d]/g, (c) => SUPER[c]);
  }
  const percent = (x) =>
    typeof x === "number" && isFinite(x) ? number(Math.floor(x * 1e12 + 0.5) / 1e10) + "%" : "–";
  const pValue = (p) =>
    typeof p !== "number" || !isFinite(p) ? "–" : p < 0.001 ? "< 0.001" : number(p, 2);

  const has = (key) => Object.prototype.hasOwnProperty.call(D.text[lang], key);
  const text = (key, fallback) => (has(key) ? D.text[lang][key] : fallback);
  const metricName = (name) => text("metric." + name, text("attribute." + name, name));
  const term = (words) => text("term." + words, words);
  const HOW = {
    pct: (v) => (typeof v === "number" ? percent(v) : String(v)),
    p: (v) => (typeof v === "number" ? pValue(v) : String(v)),
    metric: (v) => metricName(String(v)),
    role: (v) => text("role." + v, String(v)),
    status: (v) => text("status." + v, String(v)),
    term: (v) => term(String(v)),
    size: (v) => (typeof v === "number" ? number(Math.abs(v)) : String(v)),
    slice: (v) => (v === WHOLE ? "" : " (" + place(v) + ")"),
    modality: (v) => place(v),
  };

  function fill(template, params) {
    let missing = false;
    const filled = template.replace(/\{(\w+)(?:\|(\w+))?\}/g, (_, name, how) => {
      const value = Object.prototype.hasOwnProperty.call(params, name) ? params[name] : null;
      if (value === null || value === undefined) {
        missing = true;
        return "";
      }
      return how ? HOW[how](value) : typeof value === "number" ? number(value) : String(value);
    });
    return missing ? null : filled.replaceAll(" )", ")");
  }
  function place(name) {
    const [first, ...rest] = String(name).split(", ");
    return [text("modality." + first, first), ...rest].join(", ");
  }
  const t = (key, params) => fill(text(key, key), params || {}) ?? key;

  function message(m) {
    for (const key of ["message." + m.id, "message." + m.id + ".short"]) {
      const filled = has(key) ? fill(D.text[lang][key], m.params) : null;
      if (filled !== null) return filled;
    }
    return m.text;
  }

  /** Escape what plotly.js would take for markup in a label. */
  const plain = (s) => String(s).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const short = (s, n) => (s.length <= n ? s : s.slice(0, n - 1) + "…");

  // ---- building elements -----------------------------------------------------------------------
  function el(tag, attributes, ...children) {
    const node = document.createElement(tag);
    return dress(node, attributes, children);
  }
  function svg(tag, attributes, ...children) {
    return dress(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  }
  function dress(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value === true ? "" : value);
    }
    for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
    return node;
  }
  const icon = (status) =>
    svg("svg", { class: "icon s-" + status, "aria-hidden": "true" }, svg("use", { href: "#i-" + status }));
  const data = (s) => el("bdi", { title: s.length > 60 ? s : null }, s);
  function picture(thumb, name) {
    return thumb === null || thumb === undefined
      ? el("div", { class: "blank" }, t("card.nothumb"))
      : el("img", { src: THUMBS[thumb], alt: name });
  }
  const player = (clip, name) =>
    clip === null || clip === undefined ? null : el("audio", { controls: "", preload: "none", src: CLIPS[clip], "aria-label": name });
  const pair = (term, value) =>
    value === null || value === undefined || value === "–"
      ? null
      : el("div", {}, el("dt", {}, term), el("dd", {}, value));

  // ---- findings --------------------------------------------------------------------------------
  const F = D.findings;
  const C = F.columns;
  const rows = C.status.length;
  const code = (column, i) => F.codes[column === "gap_unit" ? "unit" : column][C[column][i]];
  const status = (i) => D.statuses[C.status[i]];
  const sliceName = (s) => (s === WHOLE ? t("slice_all") : text("role." + s, s));
  /** What is held against the tolerance: the gap, or of an integrity finding the share itself. */
  const against = (i) => (code("kind", i) === "integrity" ? C.value[i] : C.gap[i]);
  const share = (i) => (against(i) !== null && C.tolerance[i] ? against(i) / C.tolerance[i] : null);
  const keyOf = (i) => [code("modality", i), code("encoder", i) || "-", code("metric", i), code("slice", i)].join("/");

  const COLUMNS = [
    { id: "status", value: (i) => C.status[i] },
    { id: "metric", value: (i) => metricName(code("metric", i)) },
    { id: "slice", value: (i) => code("slice", i) },
    { id: "value", numeric: true, value: (i) => C.value[i] },
    { id: "share", value: share, descending: true },
    { id: "times_chance", numeric: true, value: (i) => C.ratio[i], descending: true },
    { id: "p", numeric: true, value: (i) => C.p[i] },
    { id: "n", numeric: true, value: (i) => Number(code("n", i).split(",")[0]) },
  ];
  const FILTERS = ["status", "modality", "kind", "encoder", "slice"];
  const table = { order: [], page: 0, sort: null, down: false, open: new Set(), target: null };
  let haystack = null;

  function searchText() {
    haystack = new Array(rows);
    for (let i = 0; i < rows; i++) {
      const metric = code("metric", i);
      haystack[i] = [metric, metricName(metric), code("slice", i), code("encoder", i), code("modality", i),
        t("status." + status(i))].join("\u0001").toLowerCase();
    }
  }

  function refilter() {
    if (!haystack) searchText();
    const words = $("f-search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const picks = FILTERS.map((c) => [c, $("f-" + c).value]).filter(([, v]) => v !== "");
    const found = [];
    for (let i = 0; i < rows; i++) {
      if (picks.every(([c, v]) => C[c][i] === Number(v)) && words.every((w) => haystack[i].includes(w))) found.push(i);
    }
    const column = COLUMNS.find((c) => c.id === table.sort);
    if (column) {
      const values = new Map(found.map((i) => [i, column.value(i)]));
      const way = table.down ? -1 : 1;
      const collator = new Intl.Collator(lang, { numeric: true });
      found.sort((a, b) => {
        const x = values.get(a);
        const y = values.get(b);
        if (x === null || y === null) return x === y ? a - b : x === null ? 1 : -1; // what is absent comes last
        return way * (typeof x === "string" ? collator.compare(x, y) : x - y) || a - b;
      });
    }
    table.order = found;
    table.page = 0;
    drawTable();
  }

  function options(select, first, items) {
    const kept = select.value;
    select.replaceChildren(el("option", { value: "" }, first), ...items.map(([v, name]) => el("option", { value: v }, name)));
    if (items.some(([v]) => String(v) === kept)) select.value = kept;
  }
  function drawFilters() {
    const any = t("filter.any");
    const present = new Set(C.status);
    options($("f-status"), any, D.statuses.map((s, k) => [k, t("status." + s)]).filter(([k]) => present.has(k)));
    options($("f-kind"), any, F.codes.kind.map((k, i) => [i, text("kind." + k, k)]));
    options($("f-modality"), any, F.codes.modality.map((m, i) => [i, place(m)]));
    options($("f-encoder"), any, F.codes.encoder.map((e, i) => [i, e || "–"]));
    // a list of thousands helps nobody: the search finds the others
    options($("f-slice"), any, F.codes.slice.slice(0, 200).map((s, i) => [i, short(sliceName(s), 60)]));
  }

  function drawTable() {
    const head = document.querySelector(".findings thead");
    head.replaceChildren(
      el("tr", {}, COLUMNS.map((c) => {
        const sorted = table.sort === c.id;
        return el("th", { scope: "col", class: "c-" + c.id + (c.numeric ? " num" : ""), "aria-sort": sorted ? (table.down ? "descending" : "ascending") : null },
          el("button", { type: "button", "data-sort": c.id, onclick: () => sortBy(c) }, t("col." + c.id)));
      })));
    const pages = Math.max(1, Math.ceil(table.order.length / PAGE));
    table.page = Math.min(Math.max(table.page, 0), pages - 1);
    const visible = table.order.slice(table.page * PAGE, (table.page + 1) * PAGE);
    const body = document.querySelector(".findings tbody");
    body.replaceChildren(...visible.flatMap(drawRow));
    if (!visible.length) body.append(el("tr", {}, el("td", { class: "empty", colspan: COLUMNS.length }, t("table.empty"))));
    $("f-count").textContent = t("table.count", { shown: table.order.length, total: F.total });
    $("f-page").textContent = t("table.page", { page: table.page + 1, pages });
    $("f-previous").disabled = table.page === 0;
    $("f-next").disabled = table.page >= pages - 1;
  }
  function sortBy(column) {
    if (table.sort === column.id) table.down = !table.down;
    else [table.sort, table.down] = [column.id, Boolean(column.descending)];
    refilter();
    document.querySelector('[data-sort="' + column.id + '"]').focus();
  }

  function drawRow(i) {
    const open = table.open.has(i);
    const s = status(i);
    const encoder = code("encoder", i);
    const slice = code("slice", i);
    const cell = (id, ...content) => {
      const c = COLUMNS.find((x) => x.id === id);
      const none = content[0] === "–" ? " none" : "";
      return el("td", { class: "c-" + id + (c.numeric ? " num" : "") + none, "data-label": t("col." + id) }, ...content);
    };
    const toggle = el("button", { type: "button", class: "toggle s-" + s, "aria-expanded": String(open), "data-row": i },
      icon(s), t("status." + s), el("span", { class: "hidden" }, " " + t("table.expand")));
    const write = code("kind", i) === "integrity" ? percent : (v) => number(v);
    const gap = against(i) === null ? "–" : C.tolerance[i] === null ? number(C.gap[i]) + " " + term(code("gap_unit", i)) : write(against(i)) + " / " + write(C.tolerance[i]);
    const row = el("tr", { class: "row" + (open ? " open" : "") + (table.target === i ? " target" : ""), onclick: () => {
      if (String(window.getSelection())) return; // a click that ends a text selection is not a toggle
      if (open) table.open.delete(i);
      else table.open.add(i);
      drawTable();
      document.querySelector('[data-row="' + i + '"]').focus();
    } },
      cell("status", toggle),
      cell("metric", metricName(code("metric", i)), encoder ? el("small", {}, data(encoder)) : null),
      cell("slice", data(code("metric", i) === "chain_loss" ? hopName(slice) : sliceName(slice))),
      cell("value", number(C.value[i]), code("unit", i) ? el("small", {}, data(term(code("unit", i)))) : null),
      gap === "–" ? cell("share", gap) : cell("share", gauge(i, s), el("small", {}, data(gap))),
      cell("times_chance", C.ratio[i] === null ? "–" : number(C.ratio[i]) + " ×"),
      cell("p", pValue(C.p[i])),
      cell("n", code("n", i).split(",").map((n) => number(Number(n))).join(" / ")));
    return open ? [row, el("tr", { class: "detail" }, el("td", { colspan: COLUMNS.length }, drawDetail(i)))] : [row];
  }

  /** A bar from 0 to twice the tolerance, with the tolerance in the middle. */
  function gauge(i, s) {
    const x = share(i);
    if (x === null) return null;
    const at = (v) => (Math.max(0, Math.min(2, v)) / 2) * 100;
    const detail = F.details[i];
    const ci = detail && detail.ci ? detail.ci.slice(0, 2).map((v) => at(v / C.tolerance[i])) : null;
    return svg("svg", { class: "gauge s-" + s, viewBox: "0 0 100 16", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { class: "track", x: 0, y: 4, width: 100, height: 8, rx: 1 }),
      svg("rect", { class: "fill", x: 0, y: 4, width: Math.max(at(x), 0.8), height: 8, rx: 1 }),
      ci ? svg("line", { class: "whisker", x1: ci[0], x2: ci[1], y1: 8, y2: 8, "vector-effect": "non-scaling-stroke" }) : null,
      svg("line", { class: "limit", x1: 50, x2: 50, y1: 0, y2: 16, "vector-effect": "non-scaling-stroke" }));
  }

  function drawDetail(i) {
    const d = F.details[i] || {};
    const metric = code("metric", i);
    const attribute = code("kind", i) === "attribute";
    const means = text("metric." + metric + ".means", attribute ? t("guide.attribute.means") : t("guide.means.unknown"));
    const blind = text("metric." + metric + ".blind", attribute ? t("guide.attribute.blind") : null);
    const unit = code("unit", i) ? [" ", data(term(code("unit", i)))] : null;
    const gapUnit = code("gap_unit", i) ? [" ", data(term(code("gap_unit", i)))] : null;
    const n = code("n", i).split(",").map(Number);
    const floor = d.floor;
    return [
      d.message ? el("p", { class: "said" }, message(d.message)) : null,
      d.waiver ? el("p", { class: "waived" }, t("waived", d.waiver)) : null,
      el("div", { class: "guide" },
        el("div", {}, el("h4", {}, t("guide.means")), means),
        blind ? el("div", {}, el("h4", {}, t("guide.blind")), blind) : null),
      floor && typeof d.matched === "number" ? strip(floor, d.matched, status(i)) : null,
      el("dl", { class: "rows" },
        pair(t("detail.value"), C.value[i] === null ? null : el("span", {}, number(C.value[i]), unit)),
        pair(t("detail.best"), d.best === undefined ? null : number(d.best)),
        pair(t("detail.direction"), d.higher === undefined ? null : t(d.higher ? "higher" : "lower")),
        pair(t("detail.matched"), d.matched === undefined ? null : number(d.matched)),
        pair(t("detail.floor"), floor ? t("detail.floor.text", floor) : null),
        pair(t("detail.ratio"), C.ratio[i] === null ? null : t("detail.ratio.text", { ratio: C.ratio[i] })),
        pair(t("detail.gap"), C.gap[i] === null ? null : el("span", {}, number(C.gap[i]), gapUnit,
          d.ci ? el("small", {}, " ", t("detail.ci", { low: d.ci[0], high: d.ci[1], level: d.ci[2], method: d.ci[3] })) : null)),
        pair(t("detail.tolerance"), C.tolerance[i] === null ? null : number(C.tolerance[i])),
        pair(t("detail.p"), d.p_raw === undefined ? null : d.p_method ? t("detail.p.text", { p: d.p_raw, method: d.p_method }) : pValue(d.p_raw)),
        pair(t("detail.p_adjusted"), C.p[i] === null ? null : pValue(C.p[i])),
        pair(t("detail.detected"), d.detected === undefined ? null : t(d.detected ? "yes" : "no")),
        pair(t("detail.n"), t("detail.n.text", { real: n[0], synthetic: n[1] })),
        pair(t("detail.mdg"), d.mdg === undefined ? null : number(d.mdg)),
        pair(t("detail.n_required"), d.n_required === undefined ? null : number(d.n_required))),
      d.extra ? el("details", { class: "extra" }, el("summary", {}, t("detail.extra")), el("code", {}, data(d.extra))) : null,
      F.details[i] ? null : el("p", { class: "note" }, t("detail.none")),
    ].filter(Boolean);
  }

  /** Chance (each split a dot, the 90 % band, the median) and this set, in the metric's own unit. */
  function strip(floor, matched, s) {
    const values = [...floor.values, floor.q05, floor.q95, floor.median, matched].filter((v) => typeof v === "number");
    const low = Math.min(...values);
    const high = Math.max(...values);
    const at = (v) => 14 + ((v - low) / (high - low || 1)) * 732;
    const anchor = (x) => (x > 640 ? "end" : x < 120 ? "start" : "middle");
    const x = at(matched);
    const m = at(floor.median);
    return svg("svg", { class: "strip s-" + s, viewBox: "0 0 760 74", role: "img", "aria-label": t("strip.label") },
      svg("line", { class: "axis", x1: 0, x2: 760, y1: 38, y2: 38 }),
      svg("rect", { class: "band", x: at(floor.q05), width: Math.max(at(floor.q95) - at(floor.q05), 2), y: 28, height: 20, rx: 3 }),
      floor.values.map((v) => svg("circle", { class: "dots", cx: at(v), cy: 38, r: 2 })),
      svg("line", { class: "median", x1: m, x2: m, y1: 25, y2: 51 }),
      svg("path", { class: "this", d: "M" + x + " 28l10 10-10 10-10-10z" }),
      svg("text", { x: m, y: 66, "text-anchor": anchor(m) }, t("strip.chance") + " " + number(floor.median)),
      svg("text", { class: "strong", x, y: 18, "text-anchor": anchor(x) }, t("strip.this") + " " + number(matched)));
  }

  function goTo(index) {
    for (const field of document.querySelectorAll("#findings form input, #findings form select")) field.value = "";
    Object.assign(table, { sort: null, target: index, open: new Set([index]) });
    refilter();
    table.page = Math.floor(table.order.indexOf(index) / PAGE);
    drawTable();
    const button = document.querySelector('[data-row="' + index + '"]');
    button.focus({ preventScroll: true });
    button.closest("tr").scrollIntoView({ block: "center" });
  }

  // ---- figures ---------------------------------------------------------------------------------
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const GLYPH = { pass: "✓", warn: "!", fail: "✕", inconclusive: "?", error: "■", info: "i" };

  function layout(extra) {
    const axis = { gridcolor: css("line"), zeroline: false, linecolor: css("line"), fixedrange: true, automargin: true };
    const merged = {
      font: { family: css("sans"), size: 12, color: css("ink") },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, dragmode: false,
      margin: { l: 8, r: 12, t: 8, b: 8 }, modebar: { bgcolor: "rgba(0,0,0,0)", color: css("soft"), activecolor: css("ink") }, hoverlabel: { bgcolor: css("panel"), bordercolor: css("line"), font: { color: css("ink"), family: css("sans") } },
      ...extra,
    };
    merged.xaxis = { ...axis, ...(extra.xaxis || {}) };
    merged.yaxis = { ...axis, ...(extra.yaxis || {}) };
    return merged;
  }
  const CONFIG = { displayModeBar: false, responsive: true, showTips: false, displaylogo: false };

  /** Draw, in a box of the figure's height: where the window changes, plotly takes the box's. */
  function react(target, traces, laid, config) {
    const box = typeof target === "string" ? $(target) : target;
    if (laid.height) box.style.height = laid.height + "px";
    return Plotly.react(box, traces, laid, config);
  }

  function label(i, wide) {
    const slice = code("slice", i);
    const encoders = F.codes.encoder.filter(Boolean).length;
    const name = metricName(code("metric", i)) + (slice === WHOLE ? "" : " · " + slice) +
      (encoders > 1 && code("encoder", i) ? " · " + code("encoder", i) : "");
    return GLYPH[status(i)] + "  " + plain(short(name, wide ? 30 : 19));
  }
  const narrow = () => window.innerWidth < 720;
  const GAPS = 24;

  function gapRows() {
    return F.details.map((_, i) => i).filter((i) => share(i) !== null && code("kind", i) !== "integrity");
  }
  function drawGaps() {
    const all = gapRows();
    const shown = all.slice(0, GAPS).reverse();
    $("gaps-note").textContent = !all.length ? t("gaps.none") : all.length > GAPS ? t("gaps.shown", { shown: GAPS, total: all.length }) : "";
    const wide = !narrow();
    const ys = shown.map((_, k) => k);
    const axisY = (list) => ({ tickvals: list.map((_, k) => k), ticktext: list.map((i) => label(i, wide)), range: [-0.7, list.length - 0.3], showgrid: false, zeroline: false, ticklabelstandoff: 4 });
    const height = (list) => Math.max(140, 70 + 30 * list.length);

    // the region that decides is 0 to 2: what lies far beyond it is cut off and says its number
    const CUT = 6;
    const cut = (v) => Math.max(-1, Math.min(CUT, v));
    const x = shown.map(share);
    const whisker = (k, side) => {
      const ci = F.details[shown[k]].ci;
      return ci ? Math.abs(cut(ci[side] / C.tolerance[shown[k]]) - cut(x[k])) : 0;
    };
    const mdg = shown.map((i) => (typeof F.details[i].mdg === "number" ? F.details[i].mdg / C.tolerance[i] : null));
    const most = Math.min(CUT, Math.max(1.6, ...x, ...shown.map((i, k) => cut(x[k]) + whisker(k, 1))) * 1.08);
    react("plot-tolerance", [
      { type: "bar", orientation: "h", y: ys, x: x.map(cut), width: 0.56, marker: { color: shown.map((i) => css(status(i))) },
        error_x: { type: "data", symmetric: false, array: ys.map((k) => whisker(k, 1)), arrayminus: ys.map((k) => whisker(k, 0)), color: css("ink"), thickness: 1.4, width: 4 },
        text: x.map((v) => (v > CUT ? number(v) + " × ▸" : "")), textposition: "inside", insidetextanchor: "end", textfont: { color: css("glyph") },
        hovertemplate: shown.map((i) => plain(metricName(code("metric", i)) + " · " + sliceName(code("slice", i))) + "<br>" + plain(t("col.gap")) + " " + number(C.gap[i]) + " / " + number(C.tolerance[i]) + " = " + number(share(i)) + "<extra></extra>") },
      { type: "scatter", mode: "markers", y: ys.filter((k) => mdg[k] !== null && mdg[k] <= CUT), x: mdg.filter((v) => v !== null && v <= CUT), hoverinfo: "skip",
        marker: { symbol: "line-ns-open", size: 13, color: css("ink"), line: { width: 2, color: css("ink") } } },
    ], layout({ height: height(shown), bargap: 0.3,
      xaxis: { range: [Math.min(0, ...x.map(cut)) - 0.04, most], title: { text: plain(t("gaps.axis.tolerance")), standoff: 8, font: { size: 11 } } }, yaxis: axisY(shown),
      shapes: [{ type: "line", x0: 1, x1: 1, yref: "paper", y0: 0, y1: 1, line: { color: css("ink"), width: 1.5, dash: "4px,3px" } }] }), CONFIG);

    const chance = shown.map((i) => againstChance(i)).map((c, k) => c && { ...c, i: shown[k] }).filter(Boolean);
    const FAR = 12;
    const far = (v) => Math.max(-4, Math.min(FAR, v));
    react("plot-chance", [
      { type: "bar", orientation: "h", y: chance.map((_, k) => k), base: chance.map((c) => far(c.low)), x: chance.map((c) => 1 - far(c.low)), width: 0.56, marker: { color: css("band") }, hoverinfo: "skip" },
      { type: "scatter", mode: "markers+text", y: chance.map((_, k) => k), x: chance.map((c) => far(c.at)), cliponaxis: false,
        marker: { symbol: chance.map((c) => (c.at > FAR ? "triangle-right" : "diamond")), size: 12, color: chance.map((c) => css(status(c.i))), line: { color: css("panel"), width: 1 } },
        text: chance.map((c) => (c.at > FAR ? number(c.at) + "  " : "")), textposition: "middle left",
        hovertemplate: chance.map((c) => plain(metricName(code("metric", c.i)) + " · " + sliceName(code("slice", c.i))) + "<br>" + plain(t("detail.matched")) + " " + number(F.details[c.i].matched) + "<br>" + plain(t("strip.chance")) + " " + number(F.details[c.i].floor.median) + "<extra></extra>") },
    ], layout({ height: height(chance), xaxis: { range: [Math.min(-1.5, ...chance.map((c) => far(c.low))) - 0.2, Math.max(2.2, ...chance.map((c) => far(c.at))) * 1.06], title: { text: plain(t("gaps.axis.chance")), standoff: 8, font: { size: 11 } } },
      yaxis: axisY(chance.map((c) => c.i)),
      shapes: [{ type: "line", x0: 1, x1: 1, yref: "paper", y0: 0, y1: 1, line: { color: css("ink"), width: 1.5, dash: "4px,3px" } }] }), CONFIG);
  }
  /** Where the matched value lies from typical chance (0) to its worse edge (1). */
  function againstChance(i) {
    const d = F.details[i];
    if (!d.floor || typeof d.matched !== "number") return null;
    const up = d.higher !== true;
    const { median, q05, q95 } = d.floor;
    const reach = up ? q95 - median : median - q05;
    if (!(reach > 0)) return null;
    const from = (v) => (up ? v - median : median - v) / reach;
    return { at: from(d.matched), low: from(up ? q05 : q95) };
  }

  // ---- permutation nulls -----------------------------------------------------------------------
  const NULLS = 24;
  const judged = (i) => C.tolerance[i] !== null && code("kind", i) !== "integrity";
  const nullRows = () => F.details.map((_, i) => i).filter((i) => F.details[i].null && judged(i));
  /** A finding's name, with what tells it from the others of the page. */
  function findingName(i) {
    const parts = [metricName(code("metric", i))];
    if (code("slice", i) !== WHOLE) parts.push(sliceName(code("slice", i)));
    if (F.codes.encoder.filter(Boolean).length > 1 && code("encoder", i)) parts.push(code("encoder", i));
    return parts.join(" · ");
  }
  function drawNulls() {
    const all = nullRows();
    $("nulls-note").textContent = !all.length ? t("nulls.none") : all.length > NULLS ? t("nulls.shown", { shown: NULLS, total: all.length }) : "";
    $("null-cards").replaceChildren(...all.slice(0, NULLS).map((i) => {
      const { null: drawn, p_raw: p } = F.details[i];
      return el("article", { class: "attribute", "data-null": code("metric", i) },
        el("h3", {}, data(findingName(i))),
        el("p", {}, typeof p === "number" ? t("nulls.count", { n: drawn.n, p }) : null),
        nullFigure(drawn, i));
    }));
  }
  function nullFigure(drawn, i) {
    const [width, base, top] = [300, 86, 20];
    const spread = [...drawn.values, drawn.observed];
    let low = Math.min(...spread);
    let high = Math.max(...spread);
    if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
    const bins = 30;
    const counts = new Array(bins).fill(0);
    for (const v of drawn.values) counts[Math.min(bins - 1, Math.floor(((v - low) / (high - low)) * bins))]++;
    const most = Math.max(1, ...counts);
    const at = (v) => 4 + ((v - low) / (high - low)) * (width - 8);
    const x = at(drawn.observed);
    const said = metricName(code("metric", i)) + ": " + t("nulls.observed") + " " + number(drawn.observed);
    return svg("svg", { class: "null s-" + status(i), viewBox: "0 0 " + width + " 106", role: "img", "aria-label": said },
      counts.map((c, k) => (c ? svg("rect", { x: 4 + (k * (width - 8)) / bins, width: (width - 8) / bins - 0.6, y: base - (c / most) * (base - top), height: (c / most) * (base - top) }) : null)),
      svg("line", { class: "axis", x1: 0, x2: width, y1: base, y2: base }),
      svg("line", { class: "this", x1: x, x2: x, y1: 14, y2: base }),
      svg("text", { class: "strong", x, y: 10, "text-anchor": x > width * 0.66 ? "end" : x < width * 0.33 ? "start" : "middle" }, t("nulls.observed") + " " + number(drawn.observed)),
      svg("text", { x: 4, y: base + 15 }, number(low)),
      svg("text", { x: width - 4, y: base + 15, "text-anchor": "end" }, number(high)));
  }

  // ---- power -----------------------------------------------------------------------------------
  const POWER = 8;
  // Okabe and Ito's colours, readable on both backgrounds; dashes tell them apart without colour
  const LINES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b88700", "#56b4e9", "#8c8c8c", "#7a5cc0"];
  const DASHES = ["solid", "6px,3px", "2px,2px", "9px,3px,2px,3px"];
  const samples = (i) => Math.min(...code("n", i).split(",").map(Number));
  const powerRows = () => F.details.map((_, i) => i).filter((i) => judged(i) && F.details[i].mdg > 0 && C.tolerance[i] > 0 && samples(i) > 0);
  /** Samples a side with which a gap of half the tolerance would be seen. */
  const toSeeHalf = (i) => Math.ceil(samples(i) * (F.details[i].mdg / (0.5 * C.tolerance[i])) ** 2);
  /** Ticks of a logarithmic axis with the whole number at each, where plotly would write a digit. */
  function steps(traces, axis) {
    const values = traces.flatMap((trace) => trace[axis]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const tickvals = [];
    for (let ten = Math.floor(Math.log10(low)); ten <= Math.log10(high); ten++) {
      for (const v of narrow() && axis === "x" ? [1, 3] : [1, 2, 5]) if (v * 10 ** ten >= low && v * 10 ** ten <= high) tickvals.push(v * 10 ** ten);
    }
    return { tickvals, ticktext: tickvals.map((v) => number(v)) };
  }
  function drawPower() {
    const all = powerRows();
    const shown = all.slice(0, POWER);
    $("power-note").textContent = all.length ? "" : t("power.none");
    $("power-figure").hidden = $("power-sheet").hidden = !all.length;
    if (!all.length) return;
    const sheet = $("power-sheet");
    sheet.querySelector("thead").replaceChildren(el("tr", {}, [["col.metric"], ["power.gap", 1], ["power.limit", 1], ["power.smallest", 1], ["power.n", 1], ["power.needed", 1]]
      .map(([key, numeric]) => el("th", { scope: "col", class: numeric ? "num" : null }, t(key)))));
    sheet.querySelector("tbody").replaceChildren(...all.slice(0, 60).map((i) => el("tr", {},
      el("th", { scope: "row" }, data(findingName(i))),
      ...[number(C.gap[i]), number(C.tolerance[i]), number(F.details[i].mdg), number(samples(i)), number(toSeeHalf(i))].map((v) => el("td", { class: "num" }, v)))));
    const traces = shown.flatMap((i, k) => {
      const n = samples(i);
      const size = F.details[i].mdg / C.tolerance[i];
      const xs = Array.from({ length: 25 }, (_, j) => n * 2 ** ((j - 12) / 4));
      const name = plain(short(findingName(i), 40));
      return [
        { type: "scatter", mode: "lines", name, x: xs, y: xs.map((x) => size * Math.sqrt(n / x)), line: { color: LINES[k % LINES.length], dash: DASHES[k % DASHES.length], width: 2 }, hovertemplate: "n %{x:.3s}: %{y:.3g}<extra>" + name + "</extra>" },
        { type: "scatter", mode: "markers", x: [n], y: [size], showlegend: false, marker: { size: 9, symbol: "circle", color: LINES[k % LINES.length], line: { color: css("panel"), width: 1 } }, hovertemplate: plain(t("power.here")) + ": %{y:.3g}<extra>" + name + "</extra>" },
      ];
    });
    react("plot-power", traces, layout({ height: narrow() ? 430 : 380, showlegend: true, legend: { orientation: narrow() ? "h" : "v", ...(narrow() ? { x: 0, y: -0.25, yanchor: "top" } : {}), font: { size: 11 }, itemclick: false, itemdoubleclick: false },
      xaxis: { type: "log", ...steps(traces, "x"), title: { text: plain(t("power.axis.n")), standoff: 8, font: { size: 11 } } }, yaxis: { type: "log", ...steps(traces, "y"), title: { text: plain(t("power.axis.gap")), font: { size: 11 } } },
      shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 1, y1: 1, line: { color: css("ink"), width: 1.5, dash: "4px,3px" } }] }), CONFIG);
  }

  // ---- learning curve, chain -------------------------------------------------------------------
  function drawLearning() {
    const box = $("learning-cards");
    if (!box) return;
    box.replaceChildren(...D.learning.map((found, k) => el("article", { class: "attribute", "data-learning": found.encoder },
      el("h3", {}, data([place(found.modality), found.encoder].filter(Boolean).join(" · "))),
      el("p", {}, t("learning.said", { synthetic: found.synthetic_to_real, real: found.real_to_real, chance: found.chance, tested: found.tested_on })),
      el("div", { class: "plot curve", id: "plot-learning-" + k, role: "img", "aria-label": t("learning.title") }),
      el("p", { class: "note" }, t("learning.next", { n: found.next, gain: found.next_gain, low: found.next_low, high: found.next_high })),
      found.left_out_copies || found.left_out_other_classes ? el("p", { class: "note" }, t("learning.left_out", { copies: found.left_out_copies, foreign: found.left_out_other_classes })) : null)));
    D.learning.forEach((found, k) => {
      const x = found.curve.map((point) => point.added);
      const line = (name) => found.curve.map((point) => point[name]);
      react("plot-learning-" + k, [
        { type: "scatter", mode: "lines", x, y: line("low"), line: { width: 0 }, hoverinfo: "skip" },
        { type: "scatter", mode: "lines", x, y: line("high"), line: { width: 0 }, fill: "tonexty", fillcolor: "rgba(128,128,128,0.22)", hoverinfo: "skip" },
        { type: "scatter", mode: "lines+markers", x, y: line("gain"), line: { color: css("synthetic"), width: 2 }, marker: { size: 8 }, hovertemplate: "+%{x}: %{y:.3f}<extra></extra>" },
      ], layout({ height: 250, xaxis: { title: { text: plain(t("learning.axis.n", { n: found.trained_on })), standoff: 6, font: { size: 11 } } }, yaxis: { title: { text: plain(t("learning.axis.gain")), font: { size: 11 } }, tickformat: "+.2f" },
        shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 0, y1: 0, line: { color: css("ink"), width: 1, dash: "4px,3px" } }] }), CONFIG);
    });
  }
  /** A hop's name: its modality, and which one of this modality it is ("text 2"). */
  const hopName = (hop) => hop.split(" ").map((part, k) => (k ? part : text("modality." + part, part))).join(" ");
  function drawChain() {
    if (!$("plot-chain")) return;
    const names = [t("chain.source"), ...D.chain.map((hop) => hopName(hop.hop))];
    const y = [1, ...D.chain.map((hop) => hop.position)];
    $("chain-hops").replaceChildren(...D.chain.map((hop) => el("li", { "data-hop": hop.hop }, icon(hop.status), " ", el("b", {}, data(hopName(hop.hop))), " ", t("chain.loss", hop))));
    react("plot-chain", [
      { type: "scatter", mode: "lines+markers+text", x: names.map((_, k) => k), y, text: y.map((v) => number(v, 2)), textposition: "top right", cliponaxis: false,
        line: { color: css("synthetic"), width: 2 }, marker: { size: 10, color: [css("real"), ...D.chain.map((hop) => css(hop.status))] },
        error_y: { type: "data", symmetric: false, array: [0, ...D.chain.map((hop) => hop.high - hop.loss)], arrayminus: [0, ...D.chain.map((hop) => hop.loss - hop.low)], color: css("soft"), thickness: 1.2, width: 4 },
        hovertemplate: names.map((name, k) => plain(name) + (k ? "<br>" + plain(t("chain.loss", D.chain[k - 1])) : "") + "<extra></extra>") },
    ], layout({ height: 300, xaxis: { tickvals: names.map((_, k) => k), ticktext: names.map((name) => plain(short(name, 24))), showgrid: false, range: [-0.4, names.length - 0.6] },
      yaxis: { title: { text: plain(t("chain.axis")), font: { size: 11 } }, range: [Math.min(0, ...y) - 0.1, Math.max(1, ...y) + 0.2] },
      shapes: [1, 0].map((level) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: level, y1: level, line: { color: css("soft"), width: 1, dash: "4px,3px" } })) }), CONFIG);
  }

  // attributes: one small figure each, drawn one at a time so that the page stays responsive
  function shiftWords(a) {
    return t(a.words, { name: a.name, size: Math.abs(a.shift ?? 0), spread: a.spread ?? 0 });
  }
  function histogram(values, low, high, bins) {
    const counts = new Array(bins).fill(0);
    for (const v of values) counts[Math.min(bins - 1, Math.max(0, Math.floor(((v - low) / (high - low)) * bins)))]++;
    return counts.map((c) => c / values.length / ((high - low) / bins));
  }
  let waiting = new Map();
  function drawAttributes() {
    const box = $("attribute-cards");
    if (!box) return;
    waiting = new Map();
    const identical = D.attributes.filter((a) => a.words === "shift.identical");
    $("attributes-note").textContent = identical.length ? t("attributes.identical", { names: identical.map((a) => metricName(a.name)).join(", ") }) : "";
    box.replaceChildren(...D.attributes.filter((a) => !identical.includes(a)).map((a, k) => {
      const plot = el("div", { class: "plot", id: "plot-attribute-" + k, role: "img", "aria-label": shiftWords(a) });
      waiting.set(plot, a);
      const shift = Math.abs(a.shift) < 1e-6 ? 0 : a.shift; // what is left of a sum in floats is no shift
      const effect = a.shift === null ? "" : (shift > 0 ? "+" : "") + number(shift) + " sd";
      return el("article", { class: "attribute", "data-attribute": a.name },
        el("h3", {}, el("span", {}, metricName(a.name)), el("b", { class: "s-" + a.status }, effect)),
        el("p", {}, shiftWords(a)), plot);
    }));
    drawNext();
  }
  function drawNext() {
    const [plot] = waiting.keys();
    if (!plot) return;
    drawAttribute(plot);
    setTimeout(drawNext);
  }
  function drawAttribute(plot) {
    const a = waiting.get(plot);
    waiting.delete(plot);
    const both = [...a.real, ...a.synthetic].sort((x, y) => x - y);
    let low = both[0];
    let high = both[both.length - 1];
    if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
    const bins = Math.max(10, Math.min(36, Math.round(Math.sqrt(both.length))));
    const edges = Array.from({ length: bins + 1 }, (_, k) => low + ((high - low) * k) / bins);
    const curve = (side, dash) => {
      const y = histogram(a[side], low, high, bins);
      return { type: "scatter", mode: "lines", x: edges, y: [...y, y[bins - 1]], line: { shape: "hv", color: css(side), width: 2, dash }, fill: "tozeroy",
        fillcolor: "rgba(128,128,128,0.10)", name: t("role." + side), hovertemplate: "%{x:.4g}<extra>" + t("role." + side) + "</extra>" };
    };
    react(plot, [curve("real", "solid"), curve("synthetic", "6px,3px")],
      layout({ height: 165, margin: { l: 4, r: 4, t: 6, b: 4 }, xaxis: { showgrid: false, nticks: 5, title: { text: plain(term(a.unit)), standoff: 4, font: { size: 11, color: css("soft") } } }, yaxis: { visible: false, rangemode: "tozero" } }), CONFIG);
  }

  // the map
  const map = { index: 0, shown: [], at: null, kept: false };
  const standsOut = (m, i) => m.covered[i] === 0;
  function drawMapFilters() {
    if (!D.maps.length) return;
    const box = $("m-encoder");
    box.replaceChildren(...D.maps.map((m, k) => el("option", { value: k }, m.encoder)));
    box.value = map.index;
    $("map-encoder-box").hidden = D.maps.length < 2;
    const m = D.maps[map.index];
    options($("m-label"), t("filter.any"), m.labels.slice(0, 500).map((name, k) => [k, short(name, 60)]));
    $("map-label-box").hidden = m.labels.length < 1;
  }
  const MARK = [
    ["real", { symbol: "circle", size: 7, opacity: 0.7 }],
    ["synthetic", { symbol: "diamond", size: 7, opacity: 0.7 }],
    ["uncovered", { symbol: "circle-open", size: 10, opacity: 1 }],
    ["off", { symbol: "diamond-open", size: 10, opacity: 1 }],
  ];
  const markOf = (m, i) => (m.side[i] === "r" ? (standsOut(m, i) ? 2 : 0) : standsOut(m, i) ? 3 : 1);
  async function drawMap() {
    if (!D.maps.length) return;
    const m = D.maps[map.index];
    const [wantReal, wantSynthetic, only, wantLabel] = [$("m-real").checked, $("m-synthetic").checked, $("m-outliers").checked, $("m-label").value];
    const groups = MARK.map(() => []);
    for (let i = 0; i < m.side.length; i++) {
      if (!(m.side[i] === "r" ? wantReal : wantSynthetic)) continue;
      if ((only && !standsOut(m, i)) || (wantLabel !== "" && m.label[i] !== Number(wantLabel))) continue;
      groups[markOf(m, i)].push(i);
    }
    map.shown = groups.flat().sort((a, b) => m.x[a] - m.x[b]);
    map.at = null;
    map.kept = false;
    const along = m.explained || [null, null]; // UMAP's axes are no directions
    $("map-umap").hidden = m.explained !== null;
    $("map-lead").textContent = m.explained ? t("map.lead", { method: m.method, x: along[0], y: along[1] }) : t("map.lead.umap");
    const drawn = (side) => [...m.side].filter((s) => s === side).length;
    $("map-note").textContent = t("map.shown", { real: drawn("r"), all_real: m.of[0], synthetic: drawn("s"), all_synthetic: m.of[1] }) + " " + t("map.keys");
    const traces = groups.map((list, k) => ({
      type: "scatter", mode: "markers", name: plain(t("map.trace." + MARK[k][0])), x: list.map((i) => m.x[i]), y: list.map((i) => m.y[i]), customdata: list, hoverinfo: "none",
      marker: { ...MARK[k][1], color: css(k % 2 ? "synthetic" : "real"), line: { width: k > 1 ? 2 : 0, color: css(k % 2 ? "synthetic" : "real") } }, visible: true, showlegend: list.length > 0,
    }));
    traces.push({ type: "scatter", mode: "markers", x: [], y: [], hoverinfo: "skip", showlegend: false, marker: { symbol: "circle-open", size: 20, color: css("ink"), line: { width: 2.5 } } });
    // the frame stays where it is while filters change what is in it
    const frame = (v) => { const [a, b] = [Math.min(...v), Math.max(...v)]; return [a - (b - a || 1) * 0.04, b + (b - a || 1) * 0.04]; };
    const axis = { showticklabels: false, zeroline: false, fixedrange: false, ticks: "" };
    await react("plot-map", traces, layout({
      showlegend: true, legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", itemclick: false, itemdoubleclick: false, font: { size: 12 } }, hovermode: "closest", hoverdistance: 14, dragmode: narrow() ? false : "pan", margin: { l: 4, r: 4, t: 4, b: 4 }, uirevision: String(map.index),
      xaxis: { ...axis, range: frame(m.x), title: { text: m.explained ? "1 · " + percent(along[0]) : "", font: { size: 11, color: css("soft") } } }, yaxis: { ...axis, range: frame(m.y), title: { text: m.explained ? "2 · " + percent(along[1]) : "", font: { size: 11, color: css("soft") } } },
    }), { ...CONFIG, displayModeBar: !narrow(), modeBarButtons: [["zoom2d", "pan2d", "resetScale2d"]], locale: lang });
    const plot = $("plot-map");
    if (!plot.dataset.bound) {
      plot.dataset.bound = "yes";
      // A click keeps a sample in the card, so that the way to its player does not lead past others.
      plot.on("plotly_hover", (event) => { if (!map.kept) showPoint(event.points[0].customdata); });
      plot.on("plotly_click", (event) => {
        const i = event.points[0].customdata;
        if (typeof i !== "number") return;
        map.kept = !(map.kept && map.at === i);
        showPoint(i);
      });
      plot.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (!step || !map.shown.length) return;
        event.preventDefault();
        const n = map.shown.length;
        const now = map.shown.indexOf(map.at);
        showPoint(map.shown[(now < 0 ? (step > 0 ? 0 : n - 1) : now + step + n) % n]);
      });
    }
    if (map.shown.length) showPoint(map.shown.find((i) => m.thumb[i] !== null && standsOut(m, i)) ?? map.shown[0]);
    else $("map-card").replaceChildren();
  }
  function showPoint(i) {
    if (typeof i !== "number") return;
    const m = D.maps[map.index];
    const side = m.side[i] === "r" ? "real" : "synthetic";
    map.at = i;
    $("map-card").replaceChildren(...[
      m.said[i] && m.thumb[i] === null ? null : picture(m.thumb[i], m.name[i]),
      el("p", { class: "side" }, el("span", { class: "dot " + side }), t("role." + side)),
      el("h3", {}, data(m.name[i])),
      player(m.clip[i], m.name[i]),
      m.said[i] ? el("q", { class: "said" }, data(m.said[i])) : null,
      el("dl", { class: "rows" },
        pair(t("card.label"), m.label[i] === null ? null : data(m.labels[m.label[i]])),
        pair(t("card.group"), m.group[i] ? data(m.group[i]) : null),
        pair(t("card.score"), m.score[i] === null ? null : number(m.score[i]))),
      standsOut(m, i) ? el("p", { class: "warned" }, t(side === "real" ? "card.uncovered" : "card.off")) : null,
    ].filter(Boolean));
    Plotly.restyle("plot-map", { x: [[m.x[i]]], y: [[m.y[i]]] }, [4]);
  }

  // galleries
  const FIRST = 12;
  const opened = new Set();
  function drawGalleries() {
    const box = $("gallery-list");
    if (!box) return;
    box.replaceChildren(...D.galleries.map((g, k) => {
      const pairs = g.items.some((item) => item.partner !== null);
      const first = pairs ? FIRST / 2 : FIRST;
      const items = opened.has(k) ? g.items : g.items.slice(0, first);
      return el("section", { class: "gallery", "data-gallery": g.id },
        el("h3", {}, text("gallery." + g.id, g.id), " ", el("small", {}, data(g.encoder))),
        el("p", { class: "lead" }, text("gallery." + g.id + ".lead", t("gallery.other.lead"))),
        el("div", { class: "shots" + (pairs ? " pairs" : "") }, items.map((item) => drawShot(g, item, pairs))),
        g.items.length > first
          ? el("button", { type: "button", onclick: () => { if (!opened.delete(k)) opened.add(k); drawGalleries(); } },
            opened.has(k) ? t("gallery.less") : t("gallery.more", { n: g.items.length }))
          : null);
    }));
  }
  /** A sample's score in words; with what share of real samples lie as near to another, where known. */
  function scoreWords(gallery, item) {
    const rank = "gallery." + gallery + ".rank";
    return t(has(rank) && typeof item.percentile === "number" ? rank : "gallery." + gallery + ".score", { score: item.score ?? "–", rank: item.percentile ?? "–" });
  }
  function drawShot(g, item, pairs) {
    const said = has("gallery." + g.id + ".score") ? scoreWords(g.id, item) : item.text;
    const one = (side, name, thumb, clip, said) => el("div", {},
      el("span", { class: "tag" }, el("span", { class: "dot " + side }), t("role." + side)),
      said && thumb === null ? null : picture(thumb, name),
      player(clip, name),
      said ? el("q", { class: "said" }, data(said)) : null,
      el("span", { class: "who", title: name }, data(name.split("/").pop())));
    const words = (item.alignment || []).map(([op, wanted, heard]) => el("span", { class: "word " + op, title: t("align." + op) },
      wanted ? el(op === "equal" ? "span" : "del", {}, data(wanted)) : null,
      wanted && heard && op !== "equal" ? " " : null,
      heard && op !== "equal" ? el("ins", {}, data(heard)) : null));
    return el("figure", { class: "shot" },
      pairs && item.partner !== null
        ? el("div", { class: "both" }, one(item.side, item.name, item.thumb, item.clip, item.said), one(item.partner_side, item.partner, item.partner_thumb, item.partner_clip, item.partner_said))
        : one(item.side, item.name, item.thumb, item.clip, item.said),
      words.length ? el("p", { class: "alignment" }, words.flatMap((w) => [w, " "])) : null,
      el("figcaption", {}, data(said || number(item.score)), item.label ? el("small", {}, " · ", data(item.label)) : null));
  }

  // ---- data behind the figures -----------------------------------------------------------------
  const tables = {
    findings: () => table.order.map((i) => ({
      status: status(i), kind: code("kind", i), modality: code("modality", i), encoder: code("encoder", i), metric: code("metric", i), slice: code("slice", i),
      value: C.value[i], unit: code("unit", i), gap: C.gap[i], gap_unit: code("gap_unit", i), tolerance: C.tolerance[i], gap_ratio: C.ratio[i], p_adjusted: C.p[i],
      n_real: Number(code("n", i).split(",")[0]), n_synthetic: Number(code("n", i).split(",")[1]),
    })),
    gaps: () => gapRows().map((i) => {
      const { floor = {}, ci = [], ...d } = F.details[i];
      return { finding: keyOf(i), status: status(i), gap: C.gap[i], gap_low: ci[0], gap_high: ci[1], tolerance: C.tolerance[i], min_detectable_gap: d.mdg,
        matched: d.matched, floor_q05: floor.q05, floor_median: floor.median, floor_q95: floor.q95 };
    }),
    slices: () => C.status.map((_, i) => i).filter((i) => code("slice", i) !== WHOLE && code("kind", i) === "distribution" && C.gap[i] !== null).map((i) => {
      const [low, high] = F.details[i]?.ci || [];
      const [real, synthetic] = code("n", i).split(",").map(Number);
      return { slice: code("slice", i), modality: code("modality", i), encoder: code("encoder", i), metric: code("metric", i), gap: C.gap[i], gap_low: low, gap_high: high, p_adjusted: C.p[i], n_real: real, n_synthetic: synthetic };
    }),
    nulls: () => nullRows().flatMap((i) => [["observed", F.details[i].null.observed], ...F.details[i].null.values.map((v) => ["permuted", v])].map(([what, value]) => ({ finding: keyOf(i), what, value }))),
    power: () => powerRows().map((i) => ({ finding: keyOf(i), gap: C.gap[i], tolerance: C.tolerance[i], smallest_gap: F.details[i].mdg, n: samples(i), n_for_half_the_tolerance: toSeeHalf(i) })),
    learning: () => D.learning.flatMap((found) => found.curve.map((point) => ({ modality: found.modality, encoder: found.encoder, trained_on: found.trained_on, tested_on: found.tested_on, ...point }))),
    chain: () => D.chain,
    attributes: () => D.attributes.flatMap((a) => ["real", "synthetic"].flatMap((side) => a[side].map((value) => ({ attribute: a.name, side, value })))),
    map: () => { const m = D.maps[map.index]; return m.name.map((sample, i) => ({ side: m.side[i] === "r" ? "real" : "synthetic", sample, x: m.x[i], y: m.y[i],
      label: m.label[i] === null ? null : m.labels[m.label[i]], group: m.group[i], covered: m.covered[i] === null ? null : Boolean(m.covered[i]), score: m.score[i] })); },
    galleries: () => D.galleries.flatMap((g) => g.items.map((item, rank) => ({ gallery: g.id, encoder: g.encoder, rank: rank + 1, side: item.side, sample: item.name, score: item.score, percentile: item.percentile,
      partner_side: item.partner_side, partner: item.partner, label: item.label, text: item.said, partner_text: item.partner_said }))),
  };
  function download(figure, format) {
    const name = "evalsuite-" + D.id + "-" + figure + "." + format;
    if (format === "svg") {
      Plotly.toImage("plot-map", { format: "svg", imageDataOnly: true, width: 1000, height: 700 }).then((image) => FILES.save(name, image, "image/svg+xml"));
      return;
    }
    const list = tables[figure]();
    const names = Object.keys(list[0] || {});
    if (format === "csv") FILES.save(name, "\ufeff" + FILES.csv(names, list.map((row) => names.map((n) => row[n]))), "text/csv");
    else FILES.save(name, JSON.stringify({ result: D.id, figure, rows: list }, null, 1) + "\n", "application/json");
  }

  // ---- the whole page --------------------------------------------------------------------------
  function translate() {
    document.documentElement.lang = lang;
    for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t, node.dataset.p ? JSON.parse(node.dataset.p) : {});
    for (const node of document.querySelectorAll("[data-m]")) node.textContent = message(JSON.parse(node.dataset.m));
    for (const node of document.querySelectorAll("[data-t-label]")) node.setAttribute("aria-label", t(node.dataset.tLabel));
    for (const node of document.querySelectorAll("[data-t-placeholder]")) node.placeholder = t(node.dataset.tPlaceholder);
    for (const node of document.querySelectorAll("[data-lang]")) node.setAttribute("aria-pressed", String(node.dataset.lang === lang));
    document.title = t("title") + ": " + t("status." + document.querySelector(".verdict").className.split("v-")[1]);
  }
  function drawFigures() {
    drawGaps();
    drawNulls();
    drawPower();
    drawLearning();
    drawChain();
    drawAttributes();
    drawMap();
  }
  function drawAll() {
    haystack = null;
    drawFilters();
    refilter();
    drawMapFilters();
    drawFigures();
    drawGalleries();
  }

  Plotly.register({ moduleType: "locale", name: "ja", dictionary: { Zoom: D.text.ja["plotly.zoom"], Pan: D.text.ja["plotly.pan"], "Reset axes": D.text.ja["plotly.reset"] }, format: {} });

  for (const button of document.querySelectorAll("[data-lang]")) {
    button.addEventListener("click", () => {
      lang = button.dataset.lang;
      translate();
      drawAll();
    });
  }
  $("print").addEventListener("click", () => window.print());
  const form = document.querySelector("#findings form");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => { table.target = null; setTimeout(refilter); });
  let typing = 0;
  $("f-search").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(refilter, 120); });
  for (const name of FILTERS) $("f-" + name).addEventListener("change", refilter);
  for (const [id, step] of [["f-previous", -1], ["f-next", 1]]) {
    $(id).addEventListener("click", () => { table.page += step; drawTable(); document.querySelector("table.findings").scrollIntoView({ block: "nearest" }); });
  }
  for (const link of document.querySelectorAll("[data-count]")) {
    link.addEventListener("click", () => { form.reset(); $("f-status").value = D.statuses.indexOf(link.dataset.count); });
  }
  const byKey = new Map();
  for (let i = rows - 1; i >= 0; i--) byKey.set(keyOf(i), i);
  for (const link of document.querySelectorAll("[data-finding]")) {
    if (!byKey.has(link.dataset.finding)) link.remove();
    else link.addEventListener("click", (event) => { event.preventDefault(); goTo(byKey.get(link.dataset.finding)); });
  }
  for (const button of document.querySelectorAll("[data-download]")) button.addEventListener("click", () => download(button.dataset.download, button.dataset.format));
  const copy = $("copy");
  copy.addEventListener("click", async () => {
    const said = (key) => { copy.textContent = t(key); setTimeout(() => copy.replaceChildren(el("span", { "data-t": "copy" }, t("copy"))), 2000); };
    try {
      await navigator.clipboard.writeText($("command").textContent);
      said("copied");
    } catch {
      // a page opened as a file may not use the clipboard API in every browser
      const range = document.createRange();
      range.selectNodeContents($("command"));
      window.getSelection().removeAllRanges();
      window.getSelection().addRange(range);
      said(document.execCommand("copy") ? "copied" : "copy.failed");
    }
  });
  if (D.maps.length) {
    $("map-filters").addEventListener("submit", (event) => event.preventDefault());
    $("m-encoder").addEventListener("change", () => { map.index = Number($("m-encoder").value); $("m-label").value = ""; drawMapFilters(); drawMap(); });
    for (const id of ["m-real", "m-synthetic", "m-outliers", "m-label"]) $(id).addEventListener("change", drawMap);
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawFigures);
  window.addEventListener("beforeprint", () => [...waiting.keys()].forEach(drawAttribute));
  let wasNarrow = narrow();
  window.addEventListener("resize", () => { if (narrow() !== wasNarrow) { wasNarrow = narrow(); drawFigures(); } });
  drawAll();
  document.documentElement.dataset.ready = "yes";
})();
