// The client and the page that uses it, in the Chromium that CHROMIUM names, against the real server.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { launch } from "puppeteer-core";

import { start } from "./server.mjs";
import { cases } from "./suite.mjs";

const near = (path) => fileURLToPath(new URL(path, import.meta.url));
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";

test("in Chromium", async (context) => {
  const { base, stop } = await start();
  context.after(stop);
  const browser = await launch({ executablePath, args: ["--no-sandbox"], protocolTimeout: 600_000 });
  context.after(() => browser.close());

  await context.test("the client", async (context) => {
    const page = await browser.newPage();
    // The suite is not among what the server serves.
    await page.setRequestInterception(true);
    page.on("request", async (request) => {
      if (!request.url().endsWith("/suite.mjs")) return request.continue();
      request.respond({ contentType: "text/javascript", body: await readFile(near("suite.mjs")) });
    });
    await page.goto(`${base}/demo/`);
    const said = await page.evaluate(async () => {
      const [client, { suite }] = await Promise.all([import("/demo/offload-client/index.js"), import("/demo/suite.mjs")]);
      const said = {};
      await suite(client, location.origin, async (name, run) => {
        said[name] = await run().then(
          () => "passed",
          (error) => String(error.stack),
        );
      });
      return said;
    });
    for (const name of Object.keys(cases)) await context.test(name, () => assert.equal(said[name], "passed"));
  });

  for (const [width, scheme] of [[1100, "light"], [360, "dark"]]) {
    await context.test(`the page, ${width} wide and ${scheme}`, async () => {
      const page = await browser.newPage();
      const errors = [];
      page.on("pageerror", (error) => errors.push(error.message));
      page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
      await page.setViewport({ width, height: 900 });
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      await page.goto(`${base}/demo/`);
      await (await page.$("#files")).uploadFile(near("../../../samples/alps-morning.jpg"));
      await page.waitForSelector(".card.succeeded", { timeout: 120_000 });
      await page.click("#sample");
      await page.waitForFunction(() => document.querySelectorAll(".card.succeeded").length === 2, { timeout: 120_000 });
      const seen = await page.evaluate(async () => {
        const pictures = [...document.querySelectorAll(".thumbs img")];
        await Promise.all(pictures.map((picture) => picture.decode()));
        return {
          widths: pictures.map((picture) => picture.naturalWidth),
          events: [...document.querySelectorAll(".events li")].map((line) => line.lastChild.textContent),
          overflow: document.documentElement.scrollWidth - innerWidth,
        };
      });
      assert.deepEqual(seen.widths, [480, 480, 960, 480, 480, 960]);
      assert.equal(seen.events.filter((text) => text === "succeeded").length, 2);
      assert.ok(seen.overflow <= 0, "nothing sticks out");
      if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/${width}-${scheme}.png`, fullPage: true });

      await page.evaluate(() => {
        const files = new DataTransfer();
        files.items.add(new File(["no picture"], "broken.jpg", { type: "image/jpeg" }));
        document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true }));
      });
      await page.waitForSelector(".card.failed", { timeout: 120_000 });
      assert.deepEqual(errors, []);
    });
  }
});
