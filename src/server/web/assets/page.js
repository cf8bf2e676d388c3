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

function show(html) {
  const focused = document.activeElement?.dataset?.watch;
  state.innerHTML = html;
  const buttons = [...state.querySelectorAll("[data-watch]")];
  if (focused) buttons.find((button) => button.dataset.watch === focused)?.focus();
  if (!playing && buttons.length > 0) watch(buttons[0].dataset.watch);
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

state.addEventListener("click", ({ target }) => {
  if (target.dataset.watch) watch(target.dataset.watch);
});
const events = new EventSource("events");
events.onmessage = ({ data }) => {
  document.body.classList.remove("lost");
  show(data);
};
events.onerror = () => document.body.classList.add("lost");
