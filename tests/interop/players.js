// Plays one stream in Chromium with several players at once, and expects each to show moving
// pictures. Prints a line for each player that does, or ends with the reason why one does not.
//
//     node tests/interop/players.js PLAYWRIGHT MPEGTS_JS URL PLAYER...
//
// URL is that of the stream without its ending. A player is a name below, with a query of its own
// if it has one: "mse?audio=0". The stream begins after the line "open" was printed.
"use strict";

// Seconds of moving pictures that are expected.
const SECONDS = 1.5;
const END_MS = 45000;

// Runs in the page. Begins a player in the video element `id`.
function begin({ id, name, query, url }) {
  const video = document.createElement("video");
  video.id = id;
  video.muted = true;
  document.body.append(video);
  const fail = (reason) => (video.dataset.failed = String(reason));
  video.addEventListener("error", () => fail(video.error.message));
  const socket = (address) => address.replace("http:", "ws:");
  const buffer = () => {
    const source = new MediaSource();
    video.src = URL.createObjectURL(source);
    const queue = [];
    let media = null;
    const append = () => {
      if (media && !media.updating && queue.length > 0) media.appendBuffer(queue.shift());
      // What was played before the start of the buffer never comes.
      if (video.buffered.length > 0 && video.currentTime < video.buffered.start(0))
        video.currentTime = video.buffered.start(0);
    };
    const opened = new Promise((resolve) => source.addEventListener("sourceopen", resolve));
    return {
      async type(type) {
        await opened;
        if (!MediaSource.isTypeSupported(type)) return fail(`no decoder for ${type}`);
        media = source.addSourceBuffer(type);
        media.addEventListener("updateend", append);
        append();
      },
      bytes(bytes) {
        queue.push(bytes);
        append();
      },
    };
  };
  const begin = {
    mpegts() {
      const player = mpegts.createPlayer({ type: "flv", isLive: true, url: url + ".flv" + query });
      player.on(mpegts.Events.ERROR, (...reason) => fail(JSON.stringify(reason)));
      player.attachMediaElement(video);
      player.load();
    },
    "mpegts-websocket"() {
      const address = socket(url) + ".flv" + query;
      const player = mpegts.createPlayer({ type: "flv", isLive: true, url: address });
      player.on(mpegts.Events.ERROR, (...reason) => fail(JSON.stringify(reason)));
      player.attachMediaElement(video);
      player.load();
    },
    async mse() {
      const to = buffer();
      const response = await fetch(url + ".mp4" + query);
      if (!response.ok) return fail(await response.text());
      await to.type(response.headers.get("Content-Type"));
      const reader = response.body.getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read())
        to.bytes(part.value);
    },
    "mse-websocket"() {
      const to = buffer();
      const connection = new WebSocket(socket(url) + ".mp4" + query);
      connection.binaryType = "arraybuffer";
      connection.onerror = () => fail("the connection has failed");
      connection.onmessage = ({ data }) => {
        if (typeof data === "string") to.type(JSON.parse(data).value);
        else to.bytes(data);
      };
    },
    element() {
      video.src = url + ".mp4" + query;
    },
  };
  Promise.resolve(begin[name]()).catch(fail);
  const play = () => video.play().catch(() => setTimeout(play, 200));
  play();
}

async function main(playwright, mpegts, url, ...players) {
  const { chromium } = require(playwright);
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
  });
  const page = await browser.newPage();
  // A page of the same origin that may run scripts, unlike the page of the server.
  await page.goto(new URL("/healthz", url).href);
  await page.addScriptTag({ path: mpegts });
  console.log("open");
  const watch = async (player, index) => {
    const [name, query] = player.split("?");
    const id = `player${index}`;
    await page.evaluate(begin, { id, name, query: query ? "?" + query : "", url });
    const state = () =>
      page.evaluate((id) => {
        const video = document.getElementById(id);
        return { failed: video.dataset.failed, time: video.currentTime, width: video.videoWidth };
      }, id);
    let first = null;
    for (const began = Date.now(); Date.now() - began < END_MS; ) {
      const { failed, time, width } = await state();
      if (failed) throw new Error(`${player}: ${failed}`);
      if (width > 0 && time > 0) first = first ?? time;
      if (first !== null && time - first > SECONDS) return console.log(`played ${player}`);
      await page.waitForTimeout(100);
    }
    throw new Error(`${player} stands still: ${JSON.stringify(await state())}`);
  };
  await Promise.all(players.map(watch));
  await browser.close();
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
