// The client against the real server: `offload dev`, which OFFLOAD_PROGRAM names or cargo has built.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Failure, OffloadClient, OffloadError } from "../dist/index.js";

const program = process.env.OFFLOAD_PROGRAM ?? fileURLToPath(new URL("../../../target/debug/offload", import.meta.url));
let folder, server, base;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "offload-client-"));
  server = spawn(program, ["dev", "--listen", "127.0.0.1:0", "--data", folder], { stdio: ["ignore", "pipe", "pipe"] });
  base = await new Promise((resolve, reject) => {
    let said = "";
    const listen = (chunk) => {
      said += chunk;
      const found = said.match(/127\.0\.0\.1:\d+/);
      if (found) resolve(`http://${found[0]}`);
    };
    server.stdout.on("data", listen);
    server.stderr.on("data", listen);
    server.on("exit", (code) => reject(new Error(`${program} ended with ${code}: ${said}`)));
  });
});

after(async () => {
  server.removeAllListeners("exit");
  const ended = new Promise((resolve) => server.once("exit", resolve));
  server.kill();
  await ended;
  await rm(folder, { recursive: true });
});

const echo = (payload, more = {}) => ({ kind: "echo", payload, ...more });

test("a job runs, and answers its result", async () => {
  const client = new OffloadClient(base);
  assert.deepEqual(await client.run(echo({ value: { a: [1, "ü"] } })), { value: { a: [1, "ü"] } });
  const failing = client.run(echo({ fail_attempts: 1 }, { max_attempts: 1 }));
  await assert.rejects(failing, (error) => error instanceof Failure && error.job.error.code === "asked_to_fail");
});

test("a submission whose answer is lost is one job", async () => {
  let lost = 0;
  const forgetful = async (url, init) => {
    const response = await fetch(url, init);
    if (lost++ > 0) return response;
    await response.arrayBuffer();
    throw new TypeError("the connection broke");
  };
  const client = new OffloadClient(base, { fetch: forgetful });
  const job = await client.submit(echo({ value: 1 }, { tags: ["lost-answer"] }));
  assert.equal(lost, 2);
  const list = await (await client.request("GET", "/v1/jobs?tag=lost-answer")).json();
  assert.deepEqual(list.items.map((item) => item.id), [job.id]);
});

test("what is wrong is said by field", async () => {
  const wrong = new OffloadClient(base).submit(echo({ sleep_seconds: -1 }));
  await assert.rejects(wrong, (error) => {
    assert.ok(error instanceof OffloadError);
    assert.equal(error.status, 422);
    assert.deepEqual(error.problem.errors.map((field) => field.pointer), ["/payload/sleep_seconds"]);
    return true;
  });
});

test("a stream that breaks off is taken up where it ended", async () => {
  let streams = 0;
  // Each of the first streams ends after its first event.
  const cutting = async (url, init) => {
    const response = await fetch(url, init);
    if (!String(url).endsWith("/events") || ++streams > 3 || !response.body) return response;
    const reader = response.body.getReader();
    let text = "";
    const body = new ReadableStream({
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) return controller.close();
        text += new TextDecoder().decode(value);
        controller.enqueue(value);
        if (/data:/.test(text)) {
          await reader.cancel();
          controller.error(new TypeError("the connection broke"));
        }
      },
    });
    return new Response(body, { status: response.status, headers: response.headers });
  };
  const plain = new OffloadClient(base);
  const client = new OffloadClient(base, { fetch: cutting });
  const job = await client.submit(echo({ sleep_seconds: 2 }));
  const cut = [];
  for await (const event of client.follow(job.id)) cut.push(event);
  assert.ok(streams > 1, "it was cut");
  assert.equal(cut.at(-1).data.state, "succeeded");
  const whole = [];
  for await (const event of plain.follow(job.id)) whole.push(event.id);
  const ids = cut.map((event) => event.id);
  assert.equal(new Set(ids).size, ids.length, "nothing comes twice");
  assert.deepEqual(whole.filter((id) => !ids.includes(id)), [], "nothing is missing");
  const behind = [];
  for await (const event of plain.follow(job.id, { after: ids.at(-1) })) behind.push(event);
  assert.deepEqual(behind, []);
});

test("waiting ends when it is told to", async () => {
  const client = new OffloadClient(base);
  const job = await client.submit(echo({ sleep_seconds: 600 }));
  const stop = new AbortController();
  const waiting = client.wait(job.id, { signal: stop.signal });
  stop.abort(new Error("enough"));
  await assert.rejects(waiting, /enough/);
  await client.cancel(job.id);
  assert.equal((await client.wait(job.id)).state, "cancelled");
});

test("a file comes back as it went", async () => {
  const client = new OffloadClient(base);
  const content = crypto.getRandomValues(new Uint8Array(60_000));
  const reports = [];
  const file = await client.upload(new Blob([content], { type: "image/x-test" }), { onProgress: (...report) => reports.push(report) });
  assert.deepEqual([file.bytes, file.content_type, reports.at(-1)], [60_000, "image/x-test", [60_000, 60_000]]);
  assert.deepEqual(new Uint8Array(await (await client.download(file.id)).arrayBuffer()), content);
  assert.equal(client.fileUrl(file.id), `${base}/v1/files/${file.id}`);
});
