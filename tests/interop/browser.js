// Opens the page of the server in Chromium and watches it: a stream that begins has to appear by
// itself, its preview has to play, its name has to stay text, and its publisher has to go when the
// token is given and the publisher is kicked. Prints what it saw, or ends with the reason why it did
// not.
//
//     node tests/interop/browser.js PLAYWRIGHT URL STREAM SCREENSHOT TOKEN
//
// The stream begins after the line "open" was printed.
"use strict";

// Three widths, from a telephone to a desk.
const WIDTHS = [360, 800, 1280];

async function main(playwright, url, stream, screenshot, token) {
  const { chromium } = require(playwright);
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox"],
  });
  const page = await browser.newPage();
  const problems = [];
  // A wrong token is tried, and the browser reports the answer.
  const isExpected = (text) => text.includes("401 (Unauthorized)");
  page.on("console", (message) => isExpected(message.text()) || problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  await page.goto(url);
  await page.getByText("Nothing is published yet").waitFor({ timeout: 5000 });
  console.log("open");
  await page.evaluate("window.seen = 0; events.addEventListener('message', () => seen++)");
  const list = async () => (await (await fetch(`${url}api/v1/streams`)).json()).streams;
  while (!(await list()).some(({ name }) => name === stream)) await page.waitForTimeout(50);
  const seen = await page.evaluate("seen");
  await page.getByRole("heading", { name: stream, exact: true }).first().waitFor({ timeout: 15000 });
  // One event may have been on its way already. They come each second.
  const events = (await page.evaluate("seen")) - seen;
  if (events > 2) throw new Error(`the stream appeared ${events} events late`);
  if ((await page.locator("b").count()) > 0) throw new Error("the name is markup");
  // A string would have to be evaluated by the page, which its policy forbids.
  const state = () => page.evaluate(() => {
    const { currentTime, videoWidth } = document.getElementById("video");
    return { currentTime, videoWidth };
  });
  const plays = ({ currentTime, videoWidth }) => currentTime > 0 && videoWidth > 0;
  for (const began = Date.now(); !plays(await state()); ) {
    if (Date.now() - began > 15000) throw new Error("the preview does not begin");
    await page.waitForTimeout(50);
  }
  const before = (await state()).currentTime;
  await page.waitForTimeout(2000);
  const played = (await state()).currentTime - before;
  if (!(played > 1)) throw new Error(`the preview stands still: ${played} s in 2 s`);
  const delay = await page.locator("#delay").innerText();
  if (!delay.includes("behind what has arrived")) throw new Error(`no delay: ${delay}`);
  await page.getByRole("img", { name: "Bitrate of the last five minutes" }).waitFor();
  if (await page.getByRole("button", { name: "Kick" }).first().isVisible()) {
    throw new Error("a connection can be kicked without the token");
  }
  await unlock(page, token);
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 900 });
    await page.screenshot({ path: screenshot.replace(".png", `-${width}.png`), fullPage: true });
    const beyond = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
    if (beyond > 0) throw new Error(`${beyond} pixels beyond a width of ${width}`);
  }
  await page.emulateMedia({ colorScheme: "dark" });
  await page.screenshot({ path: screenshot, fullPage: true });
  const row = page.getByRole("row").filter({ hasText: "publisher" });
  await row.getByRole("button", { name: "Kick" }).click();
  await page.getByText("The connection is closed.").waitFor({ timeout: 5000 });
  await page.getByText("Nothing is published yet").waitFor({ timeout: 15000 });
  if (problems.length > 0) throw new Error(problems.join("\n"));
  console.log(`played ${played.toFixed(1)} s of ${stream}, ${delay}`);
  await browser.close();
}

// Gives a wrong token first, which has to be refused, and then the right one, by keyboard alone.
async function unlock(page, token) {
  const field = page.getByLabel("Token");
  await field.fill("not the right token");
  await field.press("Enter");
  await page.getByRole("button", { name: "End" }).press("Enter");
  await page.getByText("The server does not take this token.").waitFor({ timeout: 5000 });
  await field.fill(token);
  await field.press("Enter");
  await page.getByRole("button", { name: "Kick" }).first().waitFor({ timeout: 5000 });
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
