// What the pages give away as files: shared by report.js and page.js.
const FILES = (function () {
  "use strict";
  function cell(value) {
    if (value === null || value === undefined) return "";
    if (typeof value !== "string") return String(value);
    const safe = /^ *[=+\-@\t\r\n]/.test(value) ? "'" + value : value; // a spreadsheet would run it as a formula
    return /[",\r\n]/.test(safe) ? '"' + safe.replace(/"/g, '""') + '"' : safe;
  }
  /** Names and rows as CSV (RFC 4180); nothing in it runs as a formula. */
  const csv = (names, rows) => [names, ...rows].map((row) => row.map(cell).join(",") + "\r\n").join("");
  function save(name, content, type) {
    const url = URL.createObjectURL(new Blob([content], { type }));
    const link = document.createElement("a");
    link.href = url;
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }
  return { csv, save };
})();
