// What every page has: times in the viewer's own zone, buttons that ask first, parts that are kept up to date.

export const csrf = document.querySelector("meta[name=csrf]")?.content ?? "";

const EVERY = 2000; // milliseconds

const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

function localise(root) {
  for (const one of root.querySelectorAll("time[datetime]")) {
    one.title = one.dateTime;
    one.textContent = day.format(new Date(one.dateTime));
  }
  for (const one of root.querySelectorAll("[data-hour]")) one.textContent = hour.format(new Date(one.dataset.hour));
}

// Ask before a form that changes something is sent. Without JavaScript, the server asks.
const dialog = document.getElementById("confirm");
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.dataset?.confirm || form.elements.confirmed) return;
  event.preventDefault();
  const verb = form.querySelector("button").textContent;
  dialog.querySelector("h2").textContent = `${verb} “${form.dataset.name}”?`;
  dialog.querySelector("p").textContent = form.dataset.confirm;
  dialog.querySelector("button.main").textContent = verb;
  dialog.returnValue = "";
  dialog.onclose = () => {
    if (dialog.returnValue !== "yes") return;
    const said = Object.assign(document.createElement("input"), { type: "hidden", name: "confirmed", value: "yes" });
    form.append(said);
    form.submit();
  };
  dialog.showModal();
});

// A part of the page is asked for again and again, while somebody sees it.
function keep(part) {
  let timer = 0;
  let former = "";
  const later = () => {
    clearTimeout(timer);
    if (!document.hidden && !("last" in part.dataset)) timer = setTimeout(ask, EVERY);
  };
  const ask = async () => {
    // What is being used is not replaced under the hand.
    const used = dialog.open || part.querySelector("details[open] :focus-visible, form :focus-visible");
    if (!used) {
      try {
        const answer = await fetch(part.dataset.live, { headers: { "X-Part": "1" } });
        if (answer.status === 401) return location.reload();
        if (answer.ok) {
          const text = await answer.text();
          if (text !== former) show(text);
          former = text;
          if (answer.headers.has("X-Last")) part.dataset.last = "";
        }
      } catch {} // the server is not there just now
    }
    later();
  };
  const show = (text) => {
    const opened = [...part.querySelectorAll("details")].map((one) => one.open);
    const scrolled = [...part.querySelectorAll(".wide")].map((one) => one.scrollLeft);
    part.innerHTML = text;
    if (opened.length) part.querySelectorAll("details").forEach((one, i) => (one.open = opened[i] ?? one.open));
    part.querySelectorAll(".wide").forEach((one, i) => (one.scrollLeft = scrolled[i] ?? 0));
    localise(part);
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : ask()));
  later();
}

localise(document);
document.querySelectorAll("[data-live]").forEach(keep);
