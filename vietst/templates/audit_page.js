"use strict";
{
const data = JSON.parse(document.getElementById("data").textContent);
const NOT_MEASURED = 255; // as in clauses.py
const ROWS_AT_ONCE = 10;
const SVG = "http://www.w3.org/2000/svg";

// --- words ----------------------------------------------------------------------------------------------

const whole = (number) => Math.round(number).toLocaleString("en");
const fixed = (number, digits) => // without "-0.0"
  (Number(number.toFixed(digits)) || 0).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const length = (seconds) =>
  data.seconds >= 36000 ? `${fixed(seconds / 3600, 2)}\u00a0h` : `${fixed(seconds / 60, 1)}\u00a0min`;
const percent = (part, all) => `${fixed(all ? (100 * part) / all : 0, 1)}\u00a0%`;
const rowsInWords = (number) => `${whole(number)} ${Math.round(number) === 1 ? "row" : "rows"}`;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const part = (parent, name) => parent.querySelector(`[data-part="${name}"]`);

// --- clauses --------------------------------------------------------------------------------------------

const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

/** For each step what it drops: all that more steps than its position drop. */
function sumsFromEnd(counts) {
  const sums = new Array(counts.length - 1);
  for (let step = sums.length - 1, sum = 0; step >= 0; step--) sums[step] = sum += counts[step + 1];
  return sums;
}

class Clause {
  constructor(facts) {
    Object.assign(this, facts);
    this.levels = bytes(facts.sampled);
    this.droppedRows = sumsFromEnd(facts.num_rows);
    this.droppedSeconds = sumsFromEnd(facts.seconds);
    this.suggest();
  }
  suggest() {
    this.used = this.suggested !== null;
    this.step = this.suggested ?? this.steps.length - 1;
  }
  get isAsSuggested() {
    return this.used ? this.step === this.suggested : this.suggested === null;
  }
  drops(level) {
    return level !== NOT_MEASURED && level > this.step;
  }
  get expression() {
    if (!this.sign) return this.steps[0];
    const condition = this.condition ? ` and ${this.condition}` : "";
    return `${this.signal} ${this.sign} ${this.steps[this.step]}${condition}`;
  }
  /** Sliders rise to the right; the steps of `<` begin with the highest threshold. */
  get sliderValue() {
    return this.sign === "<" ? this.steps.length - 1 - this.step : this.step;
  }
  set sliderValue(value) {
    this.step = this.sign === "<" ? this.steps.length - 1 - value : value;
  }
}

const clauses = data.clauses.map((facts) => new Clause(facts));
const sampledSeconds = data.sampled_seconds.reduce((sum, seconds) => sum + seconds, 0);
const sampleIsAll = data.sampled_seconds.length === data.num_rows;

/** What the ticked clauses drop together: exactly, or estimated from the rows drawn at random. */
function droppedTogether() {
  const used = clauses.filter((clause) => clause.used);
  if (!used.length) return { rows: 0, seconds: 0, isExact: true };
  if (clauses.every((clause) => clause.isAsSuggested)) return { ...data.outstanding, isExact: true };
  if (used.length === 1) {
    const [{ step, droppedRows, droppedSeconds }] = used;
    return { rows: droppedRows[step], seconds: droppedSeconds[step], isExact: true };
  }
  let rows = 0, seconds = 0;
  data.sampled_seconds.forEach((itsSeconds, index) => {
    if (used.some((clause) => clause.drops(clause.levels[index]))) {
      rows += 1;
      seconds += itsSeconds;
    }
  });
  if (sampleIsAll) return { rows, seconds, isExact: true };
  return {
    rows: (rows / data.sampled_seconds.length) * data.num_rows,
    seconds: sampledSeconds ? (seconds / sampledSeconds) * data.seconds : 0,
    isExact: false,
  };
}

// --- charts ---------------------------------------------------------------------------------------------

/** Histogram and curve of one signal, drawn once; `show` moves what depends on the thresholds. */
class Chart {
  constructor(box, ofSignal) {
    this.box = box;
    this.clauses = ofSignal;
    const values = ofSignal[0].steps.map(Number).sort((a, b) => a - b);
    const apart = (values.at(-1) - values[0]) / (values.length - 1);
    this.low = values[0] - apart;
    this.high = values.at(-1) + apart;
    this.bars = this.histogram(ofSignal.find((clause) => !clause.condition));
    this.curve = this.panel("curve", "audio kept, up to 100 %");
    for (const clause of ofSignal) this.drawCurve(clause);
    this.markers = ofSignal.map((clause) => this.marker(clause));
    box.append(this.ticks(values));
  }
  x(value) {
    return (100 * (value - this.low)) / (this.high - this.low);
  }
  panel(kind, label) {
    const drawing = document.createElementNS(SVG, "svg");
    drawing.setAttribute("viewBox", "0 0 100 100");
    drawing.setAttribute("preserveAspectRatio", "none");
    this.box.append(element("div", { className: `panel ${kind}` }, drawing, element("span", {}, label)));
    return drawing;
  }
  path(drawing, points, className) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", points);
    path.setAttribute("class", className);
    drawing.append(path);
    return path;
  }
  histogram(clause) {
    const steps = clause.steps.map(Number);
    const most = Math.max(...clause.num_rows);
    const drawing = this.panel("histogram", `rows, up to ${whole(most)}`);
    const edge = (index) =>
      index < 0 || index >= steps.length ? ((index < 0) === (clause.sign === ">") ? this.low : this.high) : steps[index];
    return clause.num_rows.map((number, level) => {
      const [left, right] = [edge(level - 1), edge(level)].map((value) => this.x(value)).sort((a, b) => a - b);
      const top = number ? 100 - (96 * Math.log1p(number)) / Math.log1p(most) : 100;
      const shape = `M${left} 100V${top}H${right}V100Z`;
      return { middle: (left + right) / 2, path: this.path(drawing, number ? shape : "", "kept") };
    });
  }
  drawCurve(clause) {
    const points = clause.steps.map((step, index) => {
      const kept = data.seconds ? 1 - clause.droppedSeconds[index] / data.seconds : 1;
      return `${this.x(Number(step)).toFixed(3)} ${(100 - 96 * kept).toFixed(3)}`;
    });
    this.path(this.curve, `M${points.join("L")}`, "line");
  }
  marker(clause) {
    const suggested = element("div", { className: "marker suggested" }, element("span", {}, "suggested"));
    if (clause.suggested === null) suggested.hidden = true;
    else this.place(suggested, Number(clause.steps[clause.suggested]));
    const chosen = element("div", { className: "marker chosen" }, element("i"));
    this.box.append(suggested, chosen);
    return chosen;
  }
  place(marker, value) {
    marker.style.left = `${this.x(value)}%`;
    marker.classList.toggle("right", this.x(value) > 70);
  }
  ticks(values) {
    const row = element("div", { className: "ticks" });
    const span = values.at(-1) - values[0];
    const size = 10 ** Math.floor(Math.log10(span / 4));
    const round = [1, 2, 5, 10].map((factor) => factor * size).find((step) => span / step <= 5);
    const apart = Math.max(round, values[1] - values[0]);
    const digits = Math.max(0, -Math.floor(Math.log10(apart)));
    for (let number = Math.ceil(values[0] / apart); number * apart <= values.at(-1) + span / 1000; number++) {
      const tick = element("span", {}, fixed(number * apart, digits).replace("-", "−"));
      tick.style.left = `${this.x(number * apart)}%`;
      row.append(tick);
    }
    return row;
  }
  show() {
    const thresholds = this.clauses.map((clause) => this.x(Number(clause.steps[clause.step])));
    this.clauses.forEach((clause, index) => {
      const marker = this.markers[index];
      this.place(marker, Number(clause.steps[clause.step]));
      marker.classList.toggle("used", clause.used);
      const kept = data.seconds ? 1 - clause.droppedSeconds[clause.step] / data.seconds : 1;
      marker.querySelector("i").style.setProperty("--kept", kept);
    });
    for (const bar of this.bars) {
      const isDropped = this.clauses.some((clause, index) =>
        clause.used && !clause.condition && (clause.sign === ">" ? bar.middle > thresholds[index] : bar.middle < thresholds[index]));
      bar.path.setAttribute("class", isDropped ? "dropped" : "kept");
    }
  }
}

// --- thresholds -----------------------------------------------------------------------------------------

const charts = [...document.querySelectorAll(".chart")].flatMap((box) => {
  const ofSignal = clauses.filter((clause) => clause.signal === box.dataset.signal && clause.sign);
  return ofSignal.length ? [new Chart(box, ofSignal)] : (box.remove(), []);
});

const bar = document.querySelector("form.expression");

function expressionText() {
  return clauses.filter((clause) => clause.used).map((clause) => clause.expression).join(" or ");
}

function showClause(clause) {
  const { box, step } = clause;
  part(box, "use").checked = clause.used;
  part(box, "expression").textContent = clause.expression;
  const dropped = `${rowsInWords(clause.droppedRows[step])}, ${length(clause.droppedSeconds[step])}`;
  const kept = data.seconds - clause.droppedSeconds[step];
  part(box, "told").textContent = `${dropped}; keeps ${length(kept)} (${percent(kept, data.seconds)})`;
  const slider = part(box, "threshold");
  if (slider) {
    slider.value = clause.sliderValue;
    slider.setAttribute("aria-valuetext", `${clause.expression}: ${dropped}`);
  }
}

function showExpression() {
  const text = expressionText();
  const { rows, seconds, isExact } = droppedTogether();
  const about = isExact ? "" : "about ";
  part(bar, "kept").textContent = text
    ? `Keeps ${about}${length(data.seconds - seconds)} of ${length(data.seconds)}, drops ${about}${rowsInWords(rows)}`
    : `Keeps everything: ${length(data.seconds)}`;
  const quote = text.includes('"') ? "'" : '"';
  const command = text ? `--drop ${quote}${text}${quote}` : "Tick a threshold to write an expression.";
  part(bar, "expression").textContent = command;
  part(document.getElementById("drop"), "command").textContent = command;
  part(bar, "copy").disabled = !text;
  showWouldDrop();
}

function showAll() {
  clauses.forEach(showClause);
  charts.forEach((chart) => chart.show());
  showExpression();
}

function changed(clause) {
  showClause(clause);
  charts.find((chart) => chart.clauses.includes(clause))?.show();
  showExpression();
}

for (const box of document.querySelectorAll(".clause")) {
  const clause = clauses[box.dataset.clause];
  clause.box = box;
  for (const control of box.querySelectorAll("[disabled]")) control.disabled = false;
  part(box, "use").addEventListener("change", (event) => {
    clause.used = event.target.checked;
    changed(clause);
  });
  part(box, "threshold")?.addEventListener("input", (event) => {
    clause.sliderValue = Number(event.target.value);
    clause.used = true;
    changed(clause);
  });
  part(box, "listen")?.addEventListener("click", () => {
    list.value = `worst ${box.dataset.clause}`;
    video.value = "";
    listRows();
    document.getElementById("listen").scrollIntoView();
    list.focus({ preventScroll: true });
  });
}

async function copyExpression() {
  const shown = part(bar, "expression");
  const button = part(bar, "copy");
  let isCopied = false;
  try {
    await navigator.clipboard.writeText(shown.textContent);
    isCopied = true;
  } catch { // no permission, or none asked for: what is selected can be copied by hand
    getSelection().selectAllChildren(shown);
    isCopied = document.execCommand("copy");
  }
  button.textContent = isCopied ? "Copied" : "Selected";
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

bar.hidden = false;
bar.addEventListener("submit", (event) => event.preventDefault());
part(bar, "copy").addEventListener("click", copyExpression);
part(bar, "suggested").addEventListener("click", () => {
  for (const clause of clauses) clause.suggest();
  showAll();
});
part(bar, "clear").addEventListener("click", () => {
  for (const clause of clauses) clause.used = false;
  showAll();
});

// --- rows -----------------------------------------------------------------------------------------------

const [list, video, order] = ["list", "video", "order"].map((id) => document.getElementById(id));
const shownRows = document.getElementById("rows");
const more = document.getElementById("more");
const template = document.getElementById("row").content;
let listed = [];

for (const row of data.rows) row.levels = bytes(row.levels);

const ORDERS = {
  worst: () => 0,
  manifest: (a, b) => a.number - b.number,
  longest: (a, b) => b.duration_s - a.duration_s,
  shortest: (a, b) => a.duration_s - b.duration_s,
};

function chosenRows() {
  const [kind, position] = list.value.split(" "); // "worst 3": of clause number 3
  const positions = kind === "suspicious" ? data.most_suspicious : clauses[position]?.[kind] ?? [];
  return positions.map((position) => data.rows[position]);
}

/** Fill the list of videos in, with how many of the chosen rows each has. */
function listVideos(rows) {
  const numbers = new Map();
  for (const row of rows) if (row.video) numbers.set(row.video, (numbers.get(row.video) ?? 0) + 1);
  const before = video.value;
  const names = [...numbers.keys()].sort();
  video.replaceChildren(
    element("option", { value: "" }, "all"),
    ...names.map((name) => element("option", { value: name }, `${name} (${numbers.get(name)})`)),
  );
  video.value = numbers.has(before) ? before : "";
}

function listRows() {
  const rows = chosenRows();
  listVideos(rows);
  listed = rows.filter((row) => !video.value || row.video === video.value).sort(ORDERS[order.value]);
  shownRows.replaceChildren();
  showMore();
}

function showMore() {
  const start = shownRows.children.length;
  for (const row of listed.slice(start, start + ROWS_AT_ONCE)) shownRows.append(rowArticle(row));
  const num = shownRows.children.length;
  more.hidden = num === listed.length;
  more.textContent = `Show ${Math.min(ROWS_AT_ONCE, listed.length - num)} more`;
  document.getElementById("listed").textContent = `${num} of ${rowsInWords(listed.length)} shown.`;
  showWouldDrop();
  return shownRows.children[start];
}

function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${fixed(seconds - 60 * minutes, 1).padStart(4, "0")}`;
}

function facts(row) {
  const told = [`row ${whole(row.number + 1)}`, `${fixed(row.duration_s, 1)} s`];
  if (row.video) told.push(`video ${row.video}`);
  if (row.speaker) told.push(`speaker ${row.speaker}`);
  if (row.start_s && Number.isFinite(Number(row.start_s))) told.push(`from ${clock(Number(row.start_s))}`);
  return told.join(" · ");
}

function player(row) {
  if (!row.audio_url) return element("p", { className: "note" }, `No player: ${row.why_no_audio}.`);
  const audio = element("audio", { controls: true, preload: "none", src: row.audio_url });
  audio.setAttribute("aria-label", `Audio of ${row.id}`);
  audio.addEventListener("error", () => audio.replaceWith(element("p", { className: "note" },
    "No player: this browser cannot play the file, which the audit could read.")), { once: true });
  return audio;
}

/** One column of an alignment: see `aligned_words`. */
function word([reference, written = "", error = "", atEdge = ""]) {
  const box = element("span", { className: "word" });
  box.append(element("span", { className: reference ? "reference" : "reference nothing" }, reference || "—"));
  if (error) {
    box.classList.add("wrong", error);
    if (atEdge) box.classList.add("edge");
    const kind = element("span", { className: "kind", lang: "en" }, data.kinds[error] + (atEdge ? " at the edge" : ""));
    box.append(" ", element("span", { className: written ? "written" : "written nothing" }, written || "—"), " ", kind);
  }
  return box;
}

function transcript(row) {
  if (!row.words.length) return element("p", {}, row.transcript || "—");
  const aligned = element("p", { className: "aligned" });
  for (const column of row.words) aligned.append(word(column), " ");
  return aligned;
}

const isBeyondSuggested = (clause, level) =>
  clause.suggested !== null && level !== NOT_MEASURED && level > clause.suggested;

/** What lies beyond suggested thresholds, in words, and what the row is listed for. */
function findings(row) {
  const [kind, listedFor] = list.value.split(" ");
  const values = { ...Object.fromEntries(data.signals.map((name, index) => [name, row.values[index]])), duration: row.duration_s };
  return clauses.flatMap((clause, index) => {
    const code = element("code", {}, `${clause.signal} ${values[clause.signal]}`);
    if (isBeyondSuggested(clause, row.levels[index])) return [element("li", {}, `${clause.phrase}: `, code)];
    return kind !== "suspicious" && Number(listedFor) === index ? [element("li", { className: "within" }, code)] : [];
  });
}

function values(row) {
  const signals = data.signals.map((name, index) => [name, row.values[index]]);
  const pairs = [["transcript", row.transcript], ["recognized", row.recognized], ...signals];
  return pairs.filter(([, value]) => value).map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value)));
}

function otherRow(row) {
  const { other } = row;
  const why = other.because === "duplicate_of" ? "The earlier row with the same audio: " : "The row that it overlaps with: ";
  return [
    element("h4", {}, why, element("span", { className: "id" }, other.id)),
    element("p", { className: "facts" }, facts(other)),
    player(other),
    element("p", { lang: "vi" }, other.transcript || "—"),
    element("p", { lang: "vi", className: "note" }, other.translation),
  ];
}

function rowArticle(row) {
  const article = template.cloneNode(true).firstElementChild;
  const fill = (name, ...content) => part(article, name).append(...content);
  fill("id", row.id);
  fill("facts", facts(row));
  fill("audio", player(row));
  fill("findings", ...findings(row));
  fill("heard", row.words.length ? ", against what the model hears" : "");
  fill("transcript", transcript(row));
  for (const name of ["translation", "translated"]) {
    if (row[name]) fill(name, row[name]);
    else for (const empty of [name, `${name}-title`]) part(article, empty).remove();
  }
  if (row.other) fill("other", ...otherRow(row));
  else part(article, "other").remove();
  fill("values", ...values(row));
  article.row = row;
  return article;
}

/** Marks the rows that the expression at the bottom drops. */
function showWouldDrop() {
  for (const article of shownRows.children) {
    const { levels } = article.row;
    const isDropped = clauses.some((clause, index) => clause.used && clause.drops(levels[index]));
    part(article, "would-drop").hidden = !isDropped;
  }
}

for (const choice of [list, video, order]) {
  choice.disabled = false;
  choice.addEventListener("change", listRows);
}
more.addEventListener("click", () => {
  const first = showMore();
  first.tabIndex = -1;
  first.focus();
});

showAll();
listRows();
}
