// The client in Node, against the real server.
import { test } from "node:test";

import * as module from "../dist/index.js";
import { start } from "./server.mjs";
import { suite } from "./suite.mjs";

test("in Node", async (context) => {
  const { base, stop } = await start();
  context.after(stop);
  await suite(module, base, (name, run) => context.test(name, run));
});
