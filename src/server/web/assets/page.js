// Keeps the page as the server sends it, and plays one stream in it.
"use strict";
const state = document.getElementById("state");
const preview = document.getElementById("preview");
const video = document.getElementById("video");
const delay = document.getElementById("delay");
// How far the preview may lag behind what has arrived, and where it goes then (s).
const LAG_MAX = 1.5, LAG = 0.3;
// How much of what was shown is kept, and how much may be kept (s).
const KEPT = 10, KEPT_MAX = 30;
let playing = null;

// What a control is for, to find it again in the next state.
const KEYS = ["watch", "end", "kick"];

function show(html) {
  const focused = state.contains(document.activeElement) ? document.activeElement : null;
  const key = focused && KEYS.find((key) => focused.dataset[key]);
  const scrolled = state.querySelector(".wide")?.scrollLeft;
  state.innerHTML = html;
  for (const host of state.querySelectorAll(".host")) host.textContent = location.hostname;
  const wide = state.querySelector(".wide");
  if (wide && scrolled) wide.scrollLeft = scrolled;
  const buttons = [...state.querySelectorAll("button")];
  if (key) buttons.find((button) => button.dataset[key] === focused.dataset[key])?.focus();
  else if (focused?.classList.contains("wide")) wide?.focus();
  const first = buttons.find((button) => button.dataset.watch);
  if (!playing && first) watch(first.dataset.watch);
}

function watch(name) {
  playing?.socket.close();
  const path = name.split("/").map(encodeURIComponent).join("/");
  const url = new URL(`${path}.mp4`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  const source = new MediaSource();
  const mine = { name, socket };
  // Fragments, and a type before the fragments that need another decoder.
  const queue = [];
  let buffer = null;
  playing = mine;
  preview.hidden = false;
  document.getElementById("name").textContent = name;
  delay.textContent = "waiting for the first picture";
  video.src = URL.createObjectURL(source);
  socket.binaryType = "arraybuffer";

  function take() {
    while (queue.length > 0 && source.readyState === "open" && !buffer?.updating) {
      const next = queue.shift();
      if (typeof next !== "string") return buffer?.appendBuffer(next);
      if (!MediaSource.isTypeSupported(next)) return fail(`this browser cannot play ${next}`);
      if (buffer) buffer.changeType(next);
      else (buffer = source.addSourceBuffer(next)).onupdateend = () => (chase(), take());
    }
  }
  function chase() {
    if (buffer.buffered.length === 0 || buffer.updating) return;
    const start = buffer.buffered.start(0), end = buffer.buffered.end(buffer.buffered.length - 1);
    if (video.currentTime < start || end - video.currentTime > LAG_MAX) {
      video.currentTime = Math.max(start, end - LAG);
    }
    if (video.currentTime - start > KEPT_MAX) buffer.remove(start, video.currentTime - KEPT);
  }
  function fail(why) {
    if (playing !== mine) return;
    delay.textContent = why;
    playing = null;
    socket.close();
  }
  source.onsourceopen = take;
  socket.onmessage = ({ data }) => {
    queue.push(typeof data === "string" ? JSON.parse(data).value : data);
    take();
  };
  socket.onclose = () => fail("the stream is over");
  video.ontimeupdate = () => {
    if (!buffer?.buffered.length) return;
    const behind = buffer.buffered.end(buffer.buffered.length - 1) - video.currentTime;
    delay.textContent = `${behind.toFixed(1)} s behind what has arrived`;
  };
}

// The token of the API, which the browser forgets when it is closed.
const form = document.getElementById("token");
const said = document.getElementById("said");

function unlock(token) {
  if (token) sessionStorage.setItem("token", token);
  else sessionStorage.removeItem("token");
  document.body.classList.toggle("unlocked", Boolean(token));
}
function lock(why) {
  unlock("");
  said.textContent = why;
}
async function control(method, path, done) {
  try {
    const headers = { Authorization: `Bearer ${sessionStorage.getItem("token")}` };
    const answer = await fetch(path, { method, headers });
    if (answer.ok) said.textContent = done;
    else if (answer.status === 401) lock("The server does not take this token.");
    else said.textContent = `Refused: ${(await answer.json()).detail}`;
  } catch {
    said.textContent = "The server does not answer.";
  }
}
if (form) {
  unlock(sessionStorage.getItem("token"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    unlock(form.elements.secret.value);
    form.reset();
    said.textContent = "";
  });
  document.getElementById("lock").addEventListener("click", () => lock(""));
}

state.addEventListener("click", ({ target }) => {
  const { watch: name, kick, end } = target.dataset;
  if (name) watch(name);
  if (kick) control("POST", `api/v1/connections/${kick}/kick`, "The connection is closed.");
  if (end) control("DELETE", `api/v1/streams/${end}`, "The stream is ended.");
});
// A state that came between press and release would replace the button, and the click with it.
let pressed = false, waiting = null;
addEventListener("pointerdown", () => (pressed = true));
for (const over of ["pointerup", "pointercancel"]) {
  addEventListener(over, () =>
    setTimeout(() => {
      pressed = false;
      if (waiting !== null) show(waiting);
      waiting = null;
    }),
  );
}
const events = new EventSource("events");
events.onmessage = ({ data }) => {
  document.body.classList.remove("lost");
  if (pressed) waiting = data;
  else show(data);
};
events.onerror = () => document.body.classList.add("lost");
for (const host of state.querySelectorAll(".host")) host.textContent = location.hostname;
