// Keeps the page as the server sends it: each event is the part of the page that changes.
"use strict";
const state = document.getElementById("state");
const events = new EventSource("events");
events.onmessage = (event) => {
  document.body.classList.remove("lost");
  if (!state.contains(document.activeElement)) state.innerHTML = event.data;
};
events.onerror = () => document.body.classList.add("lost");
