// Shows the trials in this rater's own order, keeps the votes, and saves them as a file.
(function () {
  "use strict";
  const D = JSON.parse(document.getElementById("data").textContent);
  const T = D.text;
  const $ = (id) => document.getElementById(id);
  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (all, name) => (name in values ? values[name] : all));

  let rater = "";
  let order = [];
  let at = 0;
  let votes = {};
  let began = 0;
  let spent = 0;
  let started = "";
  let unplayed = new Set();
  let kept = true;
  let saved = true;

  // The order comes from the rater's name, so that it is the same when the page is opened again.
  function random(seed) {
    let h = 2166136261;
    for (const c of new TextEncoder().encode(seed)) h = Math.imul(h ^ c, 16777619);
    return () => {
      h = (h + 0x6d2b79f5) | 0;
      let t = Math.imul(h ^ (h >>> 15), 1 | h);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }
  function arrange() {
    const next = random(D.study + "|" + rater);
    order = D.trials.map((trial) => ({ trial, turned: trial.items.length > 1 && next() < 0.5 }));
    for (let i = order.length - 1; i > 0; i--) {
      const j = Math.floor(next() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
  }

  // A browser may refuse to keep anything for a page opened from a file; the study goes on.
  const place = () => "evalsuite-study:" + D.study + ":" + rater;
  function keep() {
    saved = false;
    try {
      localStorage.setItem(place(), JSON.stringify({ votes, started }));
    } catch (error) {
      kept = false;
      say(T.not_kept);
    }
  }
  function recall() {
    try {
      const found = JSON.parse(localStorage.getItem(place()) || "null");
      if (found && typeof found.votes === "object" && found.votes) {
        for (const { trial } of order) if (valid(found.votes[trial.id])) votes[trial.id] = found.votes[trial.id];
        if (typeof found.started === "string") started = found.started;
      }
    } catch (error) {
      kept = false;
      say(T.not_kept);
    }
  }
  const valid = (vote) => vote && D.choices.includes(vote.choice) && Number.isFinite(vote.seconds);

  function say(text) {
    $("notice").textContent = text;
    $("notice").hidden = !text;
  }
  function turn(name) {
    for (const section of ["intro", "trial", "done"]) $(section).hidden = section !== name;
    const heading = document.querySelector("#" + name + " h1");
    if (name !== "intro") heading.focus();
    scrollTo(0, 0);
  }

  // What a vote means does not depend on the side on which an item was shown.
  const meant = (choice, turned) => (D.kind === "ab" && turned && choice !== 0 ? 3 - choice : choice);

  function element(tag, name, text) {
    const e = document.createElement(tag);
    if (name) e.className = name;
    if (text !== undefined) e.textContent = text;
    return e;
  }
  function card(token, title) {
    const item = D.items[token];
    const box = element("figure", "item");
    if (title) box.append(element("figcaption", "", title));
    if (item.image) {
      const img = element("img");
      img.src = item.image;
      img.alt = title || T.item;
      box.append(img);
    }
    if (item.audio) {
      const audio = element("audio");
      audio.controls = true;
      audio.preload = "auto";
      audio.src = item.audio;
      audio.setAttribute("aria-label", title || T.item);
      unplayed.add(audio);
      audio.addEventListener("play", () => { unplayed.delete(audio); ready(); });
      box.append(audio);
    }
    if (item.text !== undefined) {
      const text = element("p", "text", item.text);
      text.tabIndex = 0;
      text.dir = "auto";
      box.append(text);
    }
    if (item.label !== undefined) box.append(element("p", "label", T.label + " " + item.label));
    return box;
  }
  function show() {
    const { trial, turned } = order[at];
    unplayed = new Set();
    const tokens = turned ? [...trial.items].reverse() : trial.items;
    $("items").replaceChildren(...tokens.map((token, k) => card(token, tokens.length > 1 ? (k ? T.right : T.left) : "")));
    $("prompt").textContent = trial.prompt || "";
    $("prompt").hidden = !trial.prompt;
    const vote = votes[trial.id];
    const fields = D.choices.map((choice, k) => {
      const label = element("label", "choice");
      const input = element("input");
      input.type = "radio";
      input.name = "choice";
      input.value = choice;
      input.checked = Boolean(vote) && meant(vote.choice, turned) === choice;
      input.addEventListener("change", ready);
      label.append(input, element("span", "", D.answers[k]), element("kbd", "", choice));
      return label;
    });
    $("choices").replaceChildren($("choices").firstElementChild, ...fields);
    began = performance.now();
    spent = vote ? vote.seconds : 0;
    const done = Object.keys(votes).length;
    $("progress").textContent = fill(T.progress, { at: at + 1, n: order.length });
    $("bar").style.transform = "scaleX(" + done / order.length + ")";
    $("back").disabled = at === 0;
    turn("trial");
    ready();
  }
  const chosen = () => document.querySelector("input[name=choice]:checked");
  function ready() {
    $("next").disabled = !chosen() || unplayed.size > 0;
    $("next").title = unplayed.size ? T.play_first : chosen() ? "" : T.choose_first;
  }
  function vote() {
    const { trial, turned } = order[at];
    const seconds = spent + (performance.now() - began) / 1000;
    votes[trial.id] = { choice: meant(Number(chosen().value), turned), seconds: Math.round(seconds * 100) / 100, position: at, turned };
    keep();
  }
  function forward() {
    if ($("next").disabled) return;
    vote();
    if (at + 1 < order.length) { at += 1; show(); } else finish();
  }
  function finish() {
    $("items").replaceChildren();
    $("progress").textContent = fill(T.progress, { at: order.length, n: order.length });
    $("bar").style.transform = "scaleX(1)";
    turn("done");
  }
  function back() {
    if (at > 0) { at -= 1; show(); }
  }

  function save() {
    const rows = order.filter(({ trial }) => votes[trial.id]).map(({ trial }) => ({ trial: trial.id, ...votes[trial.id] }));
    const text = JSON.stringify({ format: "evalsuite-ratings", schema_version: "1.0", study: D.study, rater, started, saved: new Date().toISOString(), complete: rows.length === order.length, votes: rows }, null, 1);
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([text + "\n"], { type: "application/json" }));
    link.download = "ratings-" + D.study.slice(0, 8) + "-" + (rater.replace(/[^A-Za-z0-9_-]+/g, "_") || "rater") + ".json";
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    saved = true;
    say(fill(T.saved, { file: link.download }));
  }

  $("start").addEventListener("submit", (event) => {
    event.preventDefault();
    rater = $("rater").value.trim();
    if (!rater) { say(T.no_name); return; }
    say("");
    started = new Date().toISOString();
    votes = {};
    arrange();
    recall();
    const done = Object.keys(votes).length;
    if (done) say(fill(T.resumed, { n: done }));
    at = order.findIndex(({ trial }) => !votes[trial.id]);
    if (at < 0) { at = order.length - 1; finish(); } else show();
  });
  $("next").addEventListener("click", forward);
  $("back").addEventListener("click", back);
  $("again").addEventListener("click", () => { at = order.length - 1; show(); });
  $("save").addEventListener("click", save);
  $("part").addEventListener("click", save);
  addEventListener("keydown", (event) => {
    if ($("trial").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
    const radio = document.querySelector('input[name=choice][value="' + event.key.replace(/\D/g, "") + '"]');
    if (radio && /^\d$/.test(event.key)) {
      radio.checked = true;
      radio.focus();
      ready();
      event.preventDefault();
    } else if (event.key === "Enter" && !(event.target instanceof HTMLButtonElement)) {
      forward();
      event.preventDefault();
    } else if (event.key === "Backspace") {
      back();
      event.preventDefault();
    } else if (event.key.toLowerCase() === "p") {
      // Plays what was not heard yet, else the first again.
      const all = [...document.querySelectorAll("#items audio")];
      const next = all.find((a) => unplayed.has(a)) || all[0];
      all.forEach((a) => a.pause());
      if (next) { next.currentTime = 0; next.play().catch(() => {}); } // a pause before it began is no fault
    }
  });
  addEventListener("beforeunload", (event) => { if (!kept && !saved) event.preventDefault(); });
  document.documentElement.dataset.ready = "yes";
})();
