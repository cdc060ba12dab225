"use strict";
// What the stand-in pages share: talking to the service, and drawing QR codes.

const service = { page: null, version: -1, stopped: false };

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return answer.json();
}

// Tell the service what was clicked or typed; render() gets what it answers.
async function act(what, more = {}) {
  const view = await post("/act", { page: service.page, do: what, ...more });
  take(view);
  return view;
}

function take(view) {
  if (view.version > service.version) {
    service.version = view.version;
    render(view);
  }
}

// Introduce this page and follow what the service shows on it, for as long as the page lives.
async function follow(introduction) {
  let view;
  for (;;) {
    try {
      view = await post("/hello", introduction);
      break;
    } catch {
      connection(false);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
  connection(true);
  service.page = view.page;
  take(view);
  let seen = service.version;
  while (!service.stopped) {
    try {
      const answer = await fetch(`/poll?page=${service.page}&seen=${seen}`);
      connection(true);
      take(await answer.json());
      seen = service.version;
    } catch {
      connection(false);
      seen = -1; // to be answered at once when the service is there again
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

function $(selector) {
  return document.querySelector(selector);
}

// Show one of the page's screens: the elements with data-screen of this name. Until then none is:
// a page that is not there yet must not look like one that is logged in.
function screen(...names) {
  document.body.classList.add("ready");
  for (const element of document.querySelectorAll("[data-screen]"))
    element.hidden = !names.includes(element.dataset.screen);
}

// Draw a QR code on a canvas.
function drawCode(canvas, rows, { size = 264, margin = 4, round = false, logo = 0 } = {}) {
  const cell = Math.floor(size / (rows.length + 2 * margin));
  canvas.width = canvas.height = cell * (rows.length + 2 * margin);
  const pen = canvas.getContext("2d");
  pen.fillStyle = getComputedStyle(canvas).getPropertyValue("--paper") || "white";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = getComputedStyle(canvas).getPropertyValue("--ink") || "black";
  rows.forEach((row, y) =>
    [...row].forEach((module, x) => {
      if (module !== "1") return;
      const left = (x + margin) * cell;
      const top = (y + margin) * cell;
      const corner =
        (x < 7 && y < 7) || (x < 7 && y > rows.length - 8) || (x > rows.length - 8 && y < 7);
      if (round && !corner) {
        pen.beginPath();
        pen.arc(left + cell / 2, top + cell / 2, cell * 0.46, 0, 2 * Math.PI);
        pen.fill();
      } else pen.fillRect(left, top, cell, cell);
    }),
  );
  if (logo) {
    pen.fillStyle = "#3390ec";
    pen.beginPath();
    pen.arc(canvas.width / 2, canvas.height / 2, logo / 2, 0, 2 * Math.PI);
    pen.fill();
  }
}
