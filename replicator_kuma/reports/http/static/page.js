// What the page does beyond links and forms. It is whole without this file.
"use strict";

const SILENT_AFTER = 30; // seconds: three polls without an answer
let shown = { url: "", etag: "" };
let heardAt = Date.now();

// As lasting() in base/times.py.
function lasting(seconds) {
  if (seconds >= 3600) seconds -= seconds % 60;
  const parts = [];
  for (const [unit, name] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) {
    const number = Math.floor(seconds / unit);
    seconds -= number * unit;
    if (number) parts.push(`${number} ${name}`);
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}

// The server's clock counts: a browser's may be wrong.
let ahead = 0;
function readClock() {
  const told = document.getElementById("as-of");
  if (told) ahead = Date.now() - Date.parse(told.dateTime);
}

function countOn() {
  const now = Math.round((Date.now() - ahead) / 1000);
  for (const element of document.querySelectorAll(".ago")) {
    const away = now - Number(element.dataset.at);
    const lasts = "for" in element.dataset; // it goes on since then
    const words = lasts ? `for ${lasting(Math.max(0, away))}` : away >= 0 ? `${lasting(away)} ago` : `in ${lasting(-away)}`;
    if (element.textContent !== words) element.textContent = words;
  }
}

function carryState() {
  const icon = document.querySelector("link[rel=icon]");
  const page = document.getElementById("page");
  if (icon && page && icon.getAttribute("href") !== page.dataset.icon) icon.href = page.dataset.icon;
}

// Readers of the screen hear a new sentence; not that its "4 min" became "5 min".
let lastSentence = "";
function saySentence() {
  const parts = document.querySelectorAll("h1 .sr, h1 bdi"); // the sign is for eyes
  const sentence = [...parts].map((part) => part.textContent.trim()).join(" ");
  const lasting = sentence.replace(/[\d.]+ (d|h|min|s)\b/g, "");
  if (lastSentence && lasting !== lastSentence) {
    document.getElementById("said").textContent = sentence;
  }
  lastSentence = lasting;
}

function tellSilence() {
  const stale = document.getElementById("stale");
  const silent = Date.now() - heardAt > SILENT_AFTER * 1000;
  const since = new Date(heardAt - ahead).toISOString().replace(/\.\d+/, "");
  const words = silent ? `This page gets no answer since ${since}. What it shows is old.` : "";
  if (stale.textContent === words) return;
  stale.textContent = words;
  if (silent) {
    shown = { url: "", etag: "" }; // the next answer has to be whole: it puts title and icon right
    document.querySelector("link[rel=icon]").href = "static/state-unknown.svg";
    document.title = `? No answer · ${document.title.replace(/^. /, "")}`;
  }
}

htmx.registerExtension("page", {
  // A person opened or closed it: an answer does not.
  htmx_before_morph_attr: (element, detail) =>
    !(element.tagName === "DETAILS" && detail.attrName === "open"),
});

document.addEventListener("htmx:before:request", (event) => {
  const request = event.detail.ctx.request;
  if (shown.etag && shown.url === request.action) request.headers["If-None-Match"] = shown.etag;
});

document.addEventListener("htmx:after:request", (event) => {
  const { request, response, text } = event.detail.ctx;
  if (response.status === 304) {
    heardAt = Date.now();
  } else if (response.status === 200 && text.includes('id="page"')) {
    heardAt = Date.now();
    shown = { url: request.action, etag: response.headers.get("ETag") ?? "" };
  } else {
    event.preventDefault(); // a proxy's page, or an error: keep what is shown
  }
});

document.addEventListener("htmx:after:swap", () => {
  readClock();
  carryState();
  countOn();
  saySentence();
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || typing || event.ctrlKey || event.altKey || event.metaKey) return;
  const filter = document.getElementById("filter");
  if (!filter) return;
  event.preventDefault();
  filter.focus();
});

readClock();
saySentence();
setInterval(countOn, 10000); // words that change each second are hard to read
setInterval(tellSilence, 1000);
