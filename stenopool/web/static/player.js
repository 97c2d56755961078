// Text beside sound: the word that is heard is marked, a word that is clicked is heard.

const $ = (id) => document.getElementById(id);
const drawn = JSON.parse($("drawn").textContent);
const sound = $("sound");
const text = $("text");
const wave = $("wave");
const canvas = wave.querySelector("canvas");

const words = [...text.querySelectorAll("[data-t]")];
const times = Float64Array.from(words, (word) => +word.dataset.t);
const gaps = [...text.querySelectorAll(".gap")];

const clock = (seconds) => {
  const s = Math.floor(seconds);
  const two = (n) => String(n).padStart(2, "0");
  return s >= 3600 ? `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}` : `${Math.floor(s / 60)}:${two(s % 60)}`;
};

// Where several speak at once, what is said later may stand earlier.
const order = Uint32Array.from(times, (_, i) => i).sort((a, b) => times[a] - times[b] || a - b);

// How many of the first n are true, where those come first.
function first(n, fits) {
  let low = 0;
  let high = n;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (fits(middle)) low = middle + 1;
    else high = middle;
  }
  return low;
}

// The last word that begins at or before a time; -1 before the first.
function at(seconds) {
  const n = first(order.length, (i) => times[order[i]] <= seconds + 0.01);
  return n ? order[n - 1] : -1;
}

// Playing

let position = 0; // seconds; that of the sound once it is loaded
let shown = -1;

function go(seconds, follow = true) {
  position = Math.min(Math.max(0, seconds), drawn.seconds);
  if (sound.readyState > 0) sound.currentTime = position;
  show(follow);
}

function show(follow = $("follow").checked && !sound.paused) {
  const now = at(position);
  if (now !== shown) {
    words[shown]?.classList.remove("now");
    words[now]?.classList.add("now");
    shown = now;
  }
  if (follow && now >= 0) reveal(words[now]);
  const said = clock(position);
  if ($("now").value !== said) {
    $("now").value = said;
    wave.setAttribute("aria-valuenow", Math.floor(position));
    wave.setAttribute("aria-valuetext", said);
  }
  draw();
}

// Scroll only where the word is not to be seen: text that moves all the time is not read. Paragraphs that were never
// seen have a height that is guessed (content-visibility): after a long way, look again where the word is.
function reveal(element, again = 5) {
  const box = element.getBoundingClientRect();
  const above = $("player").getBoundingClientRect().bottom;
  if (box.top >= above + 8 && box.bottom <= innerHeight - 40) return;
  const far = Math.abs(box.top) > 2 * innerHeight;
  const calm = far || again < 5 || matchMedia("(prefers-reduced-motion: reduce)").matches;
  const top = scrollY + box.top - above - (innerHeight - above) / 3;
  scrollTo({ top, behavior: calm ? "instant" : "smooth" });
  if (calm && again) requestAnimationFrame(() => reveal(element, again - 1));
}

sound.addEventListener("loadedmetadata", () => {
  if (position) sound.currentTime = position;
});
sound.addEventListener("play", () => {
  $("play").classList.add("on");
  $("play").setAttribute("aria-label", "Pause");
  requestAnimationFrame(tick);
});
sound.addEventListener("pause", () => {
  $("play").classList.remove("on");
  $("play").setAttribute("aria-label", "Play");
});
sound.addEventListener("timeupdate", () => sound.seeking || ((position = sound.currentTime), show()));
sound.addEventListener("error", silent);

function tick() {
  if (sound.paused) return;
  position = sound.currentTime;
  show();
  requestAnimationFrame(tick);
}

const toggle = () => (sound.paused ? sound.play().catch(() => {}) : sound.pause());
$("play").addEventListener("click", toggle);
$("rate").addEventListener("change", (event) => (sound.playbackRate = +event.target.value));

text.addEventListener("click", (event) => {
  const word = event.target.closest("[data-t]");
  if (word && getSelection().isCollapsed) {
    go(+word.dataset.t, false);
    if (sound.readyState > 0 && sound.paused) toggle();
  }
});

// Links such as #t=12.3, from the search over all transcripts and from the times beside the text.
function fromHash() {
  const seconds = parseFloat(new URLSearchParams(location.hash.slice(1)).get("t"));
  if (Number.isFinite(seconds)) go(seconds);
}
addEventListener("hashchange", fromHash);

// Why there is no sound is what the API says.
async function silent() {
  const answer = await fetch(drawn.sound, { headers: { Range: "bytes=0-0" } }).catch(() => null);
  const problem = answer && !answer.ok ? await answer.json().catch(() => null) : null;
  $("silent").textContent = problem?.detail ?? "The sound cannot be played here.";
  $("silent").hidden = false;
  $("play").disabled = true;
}

// The waveform

let peaks = [];

async function load() {
  const answer = await fetch(drawn.waveform);
  if (!answer.ok) return;
  const found = await answer.json();
  const most = Math.max(1, ...found.data.map(Math.abs));
  peaks = found.data.map((value) => value / most);
  draw();
}

const colours = () => {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(`--${name}`).trim();
};
let colour = colours();

function draw() {
  const scale = devicePixelRatio;
  const [width, height] = [Math.round(wave.clientWidth * scale), Math.round(wave.clientHeight * scale)];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, width, height);
  const x = (seconds) => (seconds / drawn.seconds) * width;
  for (const [start, end, kind] of drawn.marks) {
    pen.fillStyle = colour(kind === "gap" ? "bad-tint" : "sunk");
    pen.fillRect(x(start), 0, Math.max(x(end) - x(start), scale), height);
    if (kind === "gap") {
      pen.fillStyle = colour("bad");
      pen.fillRect(x(start), height - 3 * scale, Math.max(x(end) - x(start), 2 * scale), 3 * scale);
    }
  }
  const middle = height / 2;
  const n = peaks.length / 2;
  const bar = 3 * scale; // two of colour, one between
  const columns = Math.floor(width / bar);
  const played = x(position);
  for (let i = 0; i < columns && n; i++) {
    let [low, high] = [0, 0];
    const last = Math.max(Math.floor(((i + 1) * n) / columns), Math.floor((i * n) / columns) + 1);
    for (let j = Math.floor((i * n) / columns); j < last && j < n; j++) {
      low = Math.min(low, peaks[2 * j]);
      high = Math.max(high, peaks[2 * j + 1]);
    }
    pen.fillStyle = colour(i * bar < played ? "accent" : "queued");
    const top = middle - high * middle * 0.92;
    pen.fillRect(i * bar, top, bar - scale, Math.max(scale, (high - low) * middle * 0.92));
  }
  pen.fillStyle = colour("rule");
  for (const seam of drawn.seams) pen.fillRect(x(seam), height - 6 * scale, scale, 6 * scale);
  pen.fillStyle = colour("running");
  for (const hit of hits) pen.fillRect(x(times[hit.first]), 0, 2 * scale, 6 * scale);
  pen.fillStyle = colour("ink");
  pen.fillRect(Math.min(played, width - 2 * scale), 0, 2 * scale, height);
}

const where = (event) => {
  const box = wave.getBoundingClientRect();
  return ((event.clientX - box.left) / box.width) * drawn.seconds;
};
wave.addEventListener("pointerdown", (event) => {
  wave.setPointerCapture(event.pointerId);
  go(where(event));
});
wave.addEventListener("pointermove", (event) => wave.hasPointerCapture(event.pointerId) && go(where(event)));
new ResizeObserver(draw).observe(wave);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  colour = colours();
  draw();
});

// Search within. A hit is a run of words.

let hits = [];
let chosen = -1;
const plain = (said) => said.toLowerCase().normalize("NFKD").replace(/[\u0300-\u036f]/g, "");
let index = null;

// The whole text, and at which character each word begins. Made when it is first asked for.
function indexed() {
  if (!index) {
    const starts = new Uint32Array(words.length);
    let all = "";
    words.forEach((word, i) => {
      if (i && word.previousSibling?.nodeType !== Node.TEXT_NODE && word.parentElement === words[i - 1].parentElement) {
        // no space was said between them
      } else if (i) all += " ";
      starts[i] = all.length;
      all += plain(word.textContent);
    });
    index = { all, starts };
  }
  return index;
}

function search(asked) {
  for (const hit of hits) for (let i = hit.first; i <= hit.last; i++) words[i].classList.remove("hit", "here");
  hits = [];
  chosen = -1;
  const query = plain(asked).trim().replace(/\s+/g, " ");
  if (query) {
    const { all, starts } = indexed();
    const wordAt = (character) => first(starts.length, (i) => starts[i] <= character) - 1;
    for (let i = all.indexOf(query); i >= 0; i = all.indexOf(query, i + query.length)) {
      hits.push({ first: wordAt(i), last: wordAt(i + query.length - 1) });
    }
    for (const hit of hits) for (let i = hit.first; i <= hit.last; i++) words[i].classList.add("hit");
  }
  count(query);
  draw();
}

function count(query = $("words").value.trim()) {
  $("count").value = !query ? "" : chosen < 0 ? `${hits.length} hit${hits.length === 1 ? "" : "s"}` : `${chosen + 1} of ${hits.length}`;
}

// To the next hit, or the one before; where nothing is searched for, to the next gap.
function step(by) {
  if ($("words").value.trim()) {
    if (!hits.length) return;
    const mark = (on) => {
      const hit = hits[chosen];
      for (let i = hit?.first; i <= hit?.last; i++) words[i].classList.toggle("here", on);
    };
    mark(false);
    const behind = hits.findIndex((hit) => times[hit.first] >= position - 0.02);
    if (chosen >= 0) chosen = (chosen + by + hits.length) % hits.length;
    else chosen = by > 0 ? Math.max(behind, 0) : ((behind < 0 ? 0 : behind) + hits.length - 1) % hits.length;
    mark(true);
    count();
    go(times[hits[chosen].first], false);
    reveal(words[hits[chosen].first]);
  } else if (gaps.length) {
    const starts = gaps.map((gap) => +gap.dataset.at);
    const next = by > 0 ? starts.findIndex((start) => start > position + 0.02) : starts.findLastIndex((start) => start < position - 0.02);
    const gap = next >= 0 ? next : by > 0 ? 0 : gaps.length - 1;
    go(starts[gap], false);
    reveal(gaps[gap]);
    gaps[gap].focus({ preventScroll: true });
  }
}

let typing = 0;
$("words").addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(() => search(event.target.value), 120);
});
$("within").addEventListener("submit", (event) => {
  event.preventDefault();
  step(1);
});
$("next").addEventListener("click", () => step(1));
$("before").addEventListener("click", () => step(-1));

// Keys

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typed = event.target.closest("input:not([type=checkbox]), select, textarea");
  if (event.key === "Escape" && event.target === $("words")) {
    event.preventDefault(); // or the browser empties it
    return $("words").blur();
  }
  if (typed) return;
  const keys = {
    ArrowLeft: () => go(position - 5),
    ArrowRight: () => go(position + 5),
    n: () => step(1),
    p: () => step(-1),
    "/": () => $("words").focus(),
  };
  if (event.target === wave) Object.assign(keys, { Home: () => go(0), End: () => go(drawn.seconds) });
  // A button, a link or a checkbox has a use of its own for the space bar.
  if (!event.target.closest("button, a, summary, input")) keys[" "] = toggle;
  const does = keys[event.key];
  if (does) {
    event.preventDefault();
    does();
  }
});

$("player").hidden = false;
sound.src = drawn.sound;
load();
fromHash();
show(false);
