// What holds in Node and in browsers alike: each case gets the client's module, the server's address, and how to check.
const echo = (payload, more = {}) => ({ kind: "echo", payload, ...more });

export const cases = {
  async "a job runs, and answers its result"({ OffloadClient, Failure, base, same, refused }) {
    const client = new OffloadClient(base);
    same(await client.run(echo({ value: { a: [1, "ü"] } })), { value: { a: [1, "ü"] } });
    const error = await refused(client.run(echo({ fail_attempts: 1 }, { max_attempts: 1 })));
    same([error instanceof Failure, error.job.error.code], [true, "asked_to_fail"]);
  },

  async "a submission whose answer is lost is one job"({ OffloadClient, base, same }) {
    let lost = 0;
    const forgetful = async (url, init) => {
      const response = await fetch(url, init);
      if (lost++ > 0) return response;
      await response.arrayBuffer();
      throw new TypeError("the connection broke");
    };
    const tag = crypto.randomUUID();
    const job = await new OffloadClient(base, { fetch: forgetful }).submit(echo({ value: 1 }, { tags: [tag] }));
    same(lost, 2);
    const list = await (await new OffloadClient(base).request("GET", `/v1/jobs?tag=${tag}`)).json();
    same(list.items.map((item) => item.id), [job.id]);
  },

  async "what is wrong is said by field"({ OffloadClient, OffloadError, base, same, refused }) {
    const error = await refused(new OffloadClient(base).submit(echo({ sleep_seconds: -1 })));
    same([error instanceof OffloadError, error.status], [true, 422]);
    same(error.problem.errors.map((field) => field.pointer), ["/payload/sleep_seconds"]);
  },

  async "a stream that breaks off is taken up where it ended"({ OffloadClient, base, same }) {
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
    same([streams > 1, cut.at(-1).data.state], [true, "succeeded"]);
    const whole = [];
    for await (const event of plain.follow(job.id)) whole.push(event.id);
    const ids = cut.map((event) => event.id);
    same(new Set(ids).size, ids.length);
    same(whole.filter((id) => !ids.includes(id)), []);
    const behind = [];
    for await (const event of plain.follow(job.id, { after: ids.at(-1) })) behind.push(event);
    same(behind, []);
  },

  async "a batch is followed to its end"({ OffloadClient, base, same }) {
    const client = new OffloadClient(base);
    const jobs = [echo({}), echo({ sleep_seconds: 1 })];
    const headers = { "content-type": "application/json" };
    const batch = await (await client.request("POST", "/v1/batches", { headers, body: JSON.stringify({ jobs }) })).json();
    const seen = [];
    for await (const now of client.followBatch(batch.id)) seen.push(now.counts.succeeded);
    same([seen.at(-1), seen.every((count, n) => n === 0 || count >= seen[n - 1])], [2, true]);
    const again = [];
    for await (const now of client.followBatch(batch.id)) again.push(now.counts.succeeded);
    same(again, [2]);
  },

  async "a list is followed as it changes"({ OffloadClient, base, same }) {
    const client = new OffloadClient(base);
    const [tag, later] = [crypto.randomUUID(), { delay_seconds: 3600 }];
    const ids = [];
    const steps = [];
    for await (const jobs of client.followList({ tag, state: "scheduled", limit: 2 })) {
      steps.push(jobs.map((job) => ids.indexOf(job.id)));
      if (ids.length < 3) ids.push((await client.submit(echo({}, { tags: [tag], ...later }))).id);
      else if (steps.length === 4) await client.cancel(ids[2]);
      else break;
    }
    same(steps, [[], [0], [1, 0], [2, 1], [1, 0]]);
  },

  async "waiting ends when it is told to"({ OffloadClient, base, same, refused }) {
    const client = new OffloadClient(base);
    const job = await client.submit(echo({ sleep_seconds: 600 }));
    const stop = new AbortController();
    const waiting = refused(client.wait(job.id, { signal: stop.signal }));
    stop.abort(new Error("enough"));
    same((await waiting).message, "enough");
    await client.cancel(job.id);
    same((await client.wait(job.id)).state, "cancelled");
  },

  async "a file comes back as it went"({ OffloadClient, base, same }) {
    const client = new OffloadClient(base);
    const content = crypto.getRandomValues(new Uint8Array(60_000));
    const reports = [];
    const onProgress = (...report) => reports.push(report);
    const file = await client.upload(new Blob([content], { type: "image/x-test" }), { onProgress });
    same([file.bytes, file.content_type, reports.at(-1)], [60_000, "image/x-test", [60_000, 60_000]]);
    const back = new Uint8Array(await (await client.download(file.id)).arrayBuffer());
    same([...back], [...content]);
    same(client.fileUrl(file.id), `${base}/v1/files/${file.id}`);
  },

  async "an upload is given up when it is told to, and says what is wrong"({ OffloadClient, OffloadError, base, same, refused }) {
    const client = new OffloadClient(base);
    const onProgress = () => undefined;
    const signal = AbortSignal.abort(new Error("enough"));
    same((await refused(client.upload(new Blob(["x"]), { onProgress, signal }))).message, "enough");
    const error = await refused(client.upload(new Blob(["x"]), { onProgress, contentType: "nonsense" }));
    same([error instanceof OffloadError, error.status], [true, 415]);
  },
};

/** Runs each case through `run(name, case)`, with what it needs. */
export async function suite(module, base, run) {
  const same = (actual, expected) => {
    const [is, should] = [actual, expected].map((value) => JSON.stringify(value));
    if (is !== should) throw new Error(`${is} is not ${should}`);
  };
  const refused = (promise) =>
    promise.then(
      () => Promise.reject(new Error("it was not refused")),
      (error) => error,
    );
  for (const [name, test] of Object.entries(cases)) await run(name, () => test({ ...module, base, same, refused }));
}
