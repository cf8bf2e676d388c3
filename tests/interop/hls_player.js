// Plays a stream by HLS in Chromium, with hls.js in its mode of low latency. Prints how far behind
// the newest part it wants to be and was (ms), and how many parts it has loaded, or ends with the
// reason why it does not play.
//
//     node tests/interop/hls_player.js PLAYWRIGHT HLS_JS URL
//
"use strict";

const fs = require("fs");
const http = require("http");

const PAGE = `<!DOCTYPE html><script src="hls.js"></script><video id="video" muted></video>`;
// How long the player is watched, in samples of 100 ms.
const SAMPLES = 60;

// Runs in the page.
function play(url) {
  const video = document.getElementById("video");
  const hls = new Hls({ lowLatencyMode: true });
  window.hls = hls;
  window.fatal = "";
  window.parts = 0;
  hls.on(Hls.Events.FRAG_LOADED, (_, data) => {
    if (data.part) window.parts += 1;
  });
  hls.on(Hls.Events.ERROR, (_, data) => {
    if (data.fatal) window.fatal = `${data.type}: ${data.details} ${data.error || ""}`;
  });
  hls.loadSource(url);
  hls.attachMedia(video);
  video.play().catch(() => {});
}

async function main(playwright, hlsJs, url) {
  const { chromium } = require(playwright);
  // A page of this machine may read the streams of a loopback address.
  const site = http.createServer((request, response) => {
    const isScript = request.url.endsWith("hls.js");
    response.setHeader("Content-Type", isScript ? "text/javascript" : "text/html");
    response.end(isScript ? fs.readFileSync(hlsJs) : PAGE);
  });
  await new Promise((listening) => site.listen(0, "127.0.0.1", listening));
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
  });
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${site.address().port}/`);
  await page.evaluate(play, url);
  const plays = () =>
    window.fatal || (video.currentTime > 0 && video.videoWidth > 0 && hls.playingDate);
  await page.waitForFunction(plays, null, { timeout: 30000 });
  const delays = [];
  let first = 0;
  let last = 0;
  for (let sample = 0; sample < SAMPLES; sample++) {
    await page.waitForTimeout(100);
    const state = await page.evaluate(() => ({
      fatal: window.fatal,
      at: video.currentTime,
      delay: Date.now() - Number(hls.playingDate),
    }));
    if (state.fatal) throw new Error(`hls.js gave up: ${state.fatal}`);
    first = first || state.at;
    last = state.at;
    delays.push(state.delay);
  }
  if (!(last - first > 3)) throw new Error(`it stands still: ${last - first} s of 6 s`);
  delays.sort((a, b) => a - b);
  const { holdBack, parts } = await page.evaluate(() => ({
    holdBack: 1000 * hls.levels[hls.currentLevel].details.partHoldBack,
    parts: window.parts,
  }));
  console.log(`wanted ${holdBack} parts ${parts} least ${delays[0]} median ${delays[SAMPLES / 2]}`);
  await browser.close();
  site.close();
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
