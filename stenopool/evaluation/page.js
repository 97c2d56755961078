"use strict";
// Plays the sound from where one clicks, marks what is being said, and steps through the errors.
for (const section of document.querySelectorAll("details")) {
  const audio = section.querySelector("audio");
  const timed = [...section.querySelectorAll(".row[data-t]")];
  const wrong = [...section.querySelectorAll(".row:not(.right)")];
  let now = null;
  let near = -1;

  if (audio) {
    section.addEventListener("click", (event) => {
      const place = event.target.closest("[data-t]");
      if (!place || !getSelection().isCollapsed) return; // who marks words does not want to hear them
      audio.currentTime = Number(place.dataset.t);
      audio.play();
    });
    audio.addEventListener("play", () => {
      for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
    });
    audio.addEventListener("timeupdate", () => {
      let low = 0;
      let high = timed.length; // of the rows that have begun, the last
      while (low < high) {
        const middle = (low + high) >> 1;
        if (Number(timed[middle].dataset.t) <= audio.currentTime + 0.01) low = middle + 1;
        else high = middle;
      }
      const row = timed[low - 1] ?? null;
      if (row === now) return;
      now?.classList.remove("now");
      row?.classList.add("now");
      now = row;
    });
  }

  for (const button of section.querySelectorAll(".step")) {
    button.addEventListener("click", (event) => {
      event.stopPropagation();
      if (!wrong.length) return;
      wrong[near]?.classList.remove("near");
      const step = Number(button.dataset.step);
      near = near < 0 ? (step > 0 ? 0 : wrong.length - 1) : (near + step + wrong.length) % wrong.length;
      wrong[near].classList.add("near");
      const show = () => wrong[near].scrollIntoView({ block: "center" });
      show();
      requestAnimationFrame(() => requestAnimationFrame(show)); // once what is now on the screen has its true height
    });
  }
}

// A link in the table opens what it leads to.
function openTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target) target.open = true;
}
addEventListener("hashchange", openTarget);
openTarget();
