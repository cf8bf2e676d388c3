// Opens the page of the server in Chromium and watches it: a stream that begins has to appear by
// itself, and its preview has to play. Prints what it saw, or ends with the reason why it did not.
//
//     node tests/interop/browser.js PLAYWRIGHT URL STREAM SCREENSHOT
//
// The stream begins after the line "open" was printed.
"use strict";

// Three widths, from a telephone to a desk.
const WIDTHS = [360, 800, 1280];

async function main(playwright, url, stream, screenshot) {
  const { chromium } = require(playwright);
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox"],
  });
  const page = await browser.newPage();
  const problems = [];
  page.on("console", (message) => problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  await page.goto(url);
  await page.getByText("Nothing is published yet").waitFor({ timeout: 5000 });
  console.log("open");
  await page.getByRole("heading", { name: stream }).first().waitFor({ timeout: 15000 });
  const video = "document.getElementById('video')";
  await page.waitForFunction(`${video}.currentTime > 0 && ${video}.videoWidth > 0`, null, {
    timeout: 15000,
  });
  const before = await page.evaluate(`${video}.currentTime`);
  await page.waitForTimeout(2000);
  const played = (await page.evaluate(`${video}.currentTime`)) - before;
  if (!(played > 1)) throw new Error(`the preview stands still: ${played} s in 2 s`);
  const delay = await page.locator("#delay").innerText();
  if (!delay.includes("behind what has arrived")) throw new Error(`no delay: ${delay}`);
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 900 });
    const beyond = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
    if (beyond > 0) throw new Error(`${beyond} pixels beyond a width of ${width}`);
  }
  await page.screenshot({ path: screenshot, fullPage: true });
  if (problems.length > 0) throw new Error(problems.join("\n"));
  console.log(`played ${played.toFixed(1)} s of ${stream}, ${delay}`);
  await browser.close();
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
