// Files are sent in pieces (tus 1.0): what was sent before a connection broke, or the page was left, is not sent again.

import { csrf } from "./app.js";

const PIECE = 8 << 20; // bytes
const TUS = { "Tus-Resumable": "1.0.0", "X-CSRF-Token": csrf };
const PAUSES = [1, 2, 5, 10, 20]; // seconds before it is tried again

const form = document.getElementById("upload");
const drop = document.getElementById("drop");
const list = document.getElementById("sent");
const mb = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
const wait = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

class Refused extends Error {}

async function ask(method, url, headers = {}, body = undefined) {
  const answer = await fetch(url, { method, headers: { ...TUS, ...headers }, body });
  if (answer.ok) return answer;
  if (answer.status === 401) location.reload();
  const problem = await answer.json().catch(() => ({}));
  const error = answer.status >= 500 || answer.status === 429 ? Error : Refused;
  throw Object.assign(new error(problem.detail ?? `it was refused (${answer.status})`), { status: answer.status });
}

// How the page knows a file again that it began to send.
const keyOf = (file) => `upload ${file.name} ${file.size} ${file.lastModified}`;

function encoded(said) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(said)));
}

async function begin(file) {
  const known = localStorage.getItem(keyOf(file));
  if (known) {
    try {
      const there = await ask("HEAD", known);
      return [known, +there.headers.get("Upload-Offset")];
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      localStorage.removeItem(keyOf(file));
    }
  }
  const tenant = form.elements.tenant?.value.trim();
  const made = await ask("POST", `/v1/uploads${tenant ? `?tenant=${encodeURIComponent(tenant)}` : ""}`, {
    "Upload-Length": String(file.size),
    "Upload-Metadata": `filename ${encoded(file.name)}`,
  });
  const url = new URL(made.headers.get("Location"), location.href).pathname;
  localStorage.setItem(keyOf(file), url);
  return [url, 0];
}

// A piece by XMLHttpRequest: fetch does not tell how much of a body is sent.
function patch(url, offset, piece, progress) {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("PATCH", url);
    for (const [name, value] of Object.entries(TUS)) request.setRequestHeader(name, value);
    request.setRequestHeader("Upload-Offset", String(offset));
    request.setRequestHeader("Content-Type", "application/offset+octet-stream");
    request.upload.onprogress = (event) => progress(offset + event.loaded);
    request.onerror = () => failed(new Error("the connection broke"));
    request.onload = () => {
      if (request.status === 204) return done(+request.getResponseHeader("Upload-Offset"));
      const error = request.status >= 500 || request.status === 409 ? Error : Refused;
      let detail = `it was refused (${request.status})`;
      try {
        detail = JSON.parse(request.responseText).detail;
      } catch {}
      failed(new error(detail));
    };
    request.send(piece);
  });
}

async function send(file, row) {
  let [url, offset] = [null, 0];
  for (let failures = 0; ; ) {
    try {
      [url, offset] = await begin(file);
      while (offset < file.size) {
        row.at(offset);
        offset = await patch(url, offset, file.slice(offset, offset + PIECE), row.at);
        failures = 0;
      }
      return url.split("/").pop();
    } catch (error) {
      if (error instanceof Refused || failures >= PAUSES.length) throw error;
      row.say(`${error.message}; it goes on in ${PAUSES[failures]} s`);
      await wait(PAUSES[failures++]);
    }
  }
}

function order(file, upload) {
  const given = Object.fromEntries(new FormData(form));
  const options = { word_timestamps: true };
  if (given.hotwords.trim()) options.hotwords = given.hotwords.trim();
  const body = { upload, name: file.name, lane: given.lane, model: given.model, channels: given.channels, options };
  if (given.language.trim()) body.language = given.language.trim();
  if (given.tenant?.trim()) body.tenant = given.tenant.trim();
  return body;
}

function rowOf(file) {
  const row = document.createElement("li");
  const name = Object.assign(document.createElement("span"), { textContent: file.name });
  const said = Object.assign(document.createElement("span"), { className: "note", textContent: "waits" });
  const bar = Object.assign(document.createElement("progress"), { max: Math.max(file.size, 1), value: 0 });
  bar.setAttribute("aria-label", file.name);
  row.append(name, said, bar);
  list.append(row);
  return {
    at: (bytes) => {
      bar.value = bytes;
      said.textContent = `${mb(bytes)} of ${mb(file.size)}`;
    },
    say: (text) => (said.textContent = text),
    failed: (text) => {
      said.textContent = text;
      said.className = "problem";
      bar.remove();
    },
    done: (id) => {
      const link = Object.assign(document.createElement("a"), { href: `/recordings/${id}`, textContent: file.name });
      name.replaceChildren(link);
      said.textContent = "handed in";
      bar.value = bar.max;
    },
  };
}

let turn = Promise.resolve();
let left = 0;

function take(files) {
  const several = files.length > 1 || left > 0;
  for (const file of files) {
    const row = rowOf(file);
    left++;
    turn = turn.then(async () => {
      try {
        const upload = await send(file, row);
        row.say("is handed in");
        const body = JSON.stringify(order(file, upload));
        const answer = await ask("POST", "/v1/recordings", { "Content-Type": "application/json" }, body);
        const { id } = await answer.json();
        localStorage.removeItem(keyOf(file));
        row.done(id);
        if (!several && left === 1) location.assign(`/recordings/${id}`);
      } catch (error) {
        row.failed(error.message);
      } finally {
        left--;
      }
    });
  }
}

document.getElementById("files").addEventListener("change", (event) => {
  take([...event.target.files]);
  event.target.value = "";
});
form.addEventListener("submit", (event) => event.preventDefault());
for (const name of ["dragover", "dragenter"]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
addEventListener("dragleave", (event) => event.relatedTarget ?? drop.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take([...event.dataTransfer.files]);
});
addEventListener("beforeunload", (event) => left > 0 && event.preventDefault());
