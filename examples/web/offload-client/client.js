import { OffloadError } from "./error.js";
import { serverSentEvents } from "./sse.js";
/** A job that did not succeed. */
export class Failure extends Error {
    job;
    constructor(job) {
        super(job.error ? `${job.error.code}: ${job.error.message}` : `the job is ${job.state}`);
        this.job = job;
        this.name = "Failure";
    }
}
const FINAL = new Set(["succeeded", "failed", "cancelled"]);
/** The longest that one request waits, in seconds. */
const WAIT = 30;
/** Submits jobs, follows them, uploads files. */
export class OffloadClient {
    #base;
    #headers;
    #attempts;
    #fetch;
    /** `base` is the server's address; in a page that the server itself serves, `location.origin`. */
    constructor(base, options = {}) {
        this.#base = base.replace(/\/+$/, "");
        this.#headers = options.headers ?? {};
        this.#attempts = options.attempts ?? 5;
        this.#fetch = options.fetch ?? globalThis.fetch.bind(globalThis);
    }
    /** Submits a job. Repeated under one key until the answer is there, so that there is one job however often it is sent. */
    async submit(submission, options = {}) {
        const headers = {
            "content-type": "application/json",
            "idempotency-key": options.idempotencyKey ?? crypto.randomUUID(),
        };
        const response = await this.request("POST", "/v1/jobs", { headers, body: JSON.stringify(submission), signal: options.signal });
        return response.json();
    }
    /** Reads a job. */
    async job(id, options = {}) {
        return (await this.request("GET", `/v1/jobs/${encodeURIComponent(id)}`, options)).json();
    }
    /** Waits until a job is final, however long that takes. */
    async wait(id, options = {}) {
        for (;;) {
            const job = await (await this.request("GET", `/v1/jobs/${encodeURIComponent(id)}?wait=${WAIT}`, options)).json();
            if (FINAL.has(job.state))
                return job;
        }
    }
    /** Submits a job, waits for its end, and answers its result; throws {@link Failure} if it came to another end. */
    async run(submission, options = {}) {
        const submitted = await this.submit(submission, options);
        const job = await this.wait(submitted.id, options);
        if (job.state !== "succeeded")
            throw new Failure(job);
        return job.result;
    }
    /** Cancels a job, also while it runs. */
    async cancel(id, options = {}) {
        return (await this.request("POST", `/v1/jobs/${encodeURIComponent(id)}/cancel`, options)).json();
    }
    /**
     * Follows a job: its states, progress and log lines, from the beginning or behind the event `after`, to the final one. A
     * stream that breaks off is taken up where it ended, without a gap or a repetition.
     */
    async *follow(id, options = {}) {
        for await (const { id: seen, event, data } of this.#stream(`/v1/jobs/${encodeURIComponent(id)}/events`, options)) {
            const happened = { id: seen, event, data: JSON.parse(data) };
            yield happened;
            if (event === "state" && FINAL.has(happened.data.state))
                return;
        }
    }
    /** Follows a batch: as it is, and again whenever it has moved, until all of its jobs are final. */
    async *followBatch(id, options = {}) {
        for await (const { data } of this.#stream(`/v1/batches/${encodeURIComponent(id)}/events`, options)) {
            const batch = JSON.parse(data);
            yield batch;
            const { succeeded, failed, cancelled } = batch.counts;
            if (batch.finished_at && succeeded + failed + cancelled === batch.total)
                return;
        }
    }
    /**
     * Follows a list: the newest jobs that the filter matches, newest first, and the list again whenever something in it has
     * changed. It never ends by itself: leave the loop, or give a `signal`.
     */
    async *followList(filter = {}, options = {}) {
        const query = new URLSearchParams();
        for (const [name, value] of Object.entries(filter))
            if (value !== undefined)
                query.set(name, String(value));
        const jobs = new Map();
        for await (const { event, data } of this.#stream(`/v1/events?${query}`, options)) {
            if (event === "list") {
                jobs.clear();
                for (const job of JSON.parse(data).items)
                    jobs.set(job.id, job);
            }
            else {
                const { changed, removed } = JSON.parse(data);
                for (const id of removed)
                    jobs.delete(id);
                for (const job of changed)
                    jobs.set(job.id, job);
            }
            // Ids sort by the time at which they were made.
            yield [...jobs.values()].sort((a, b) => (a.id < b.id ? 1 : -1));
        }
    }
    /** The events of a stream; one that breaks off is taken up behind the last that came. Ends where nothing will follow. */
    async *#stream(path, options) {
        let last = options.after;
        for (let failures = 0;; failures += 1) {
            const headers = { accept: "text/event-stream" };
            if (last)
                headers["last-event-id"] = last;
            const response = await this.request("GET", path, { headers, signal: options.signal });
            if (response.status === 204 || !response.body)
                return;
            try {
                for await (const event of serverSentEvents(response.body)) {
                    failures = 0;
                    last = event.id;
                    yield event;
                }
            }
            catch (error) {
                options.signal?.throwIfAborted();
                // What the caller throws into the generator does not come by here: only the connection's end does.
                if (!(error instanceof TypeError) && error.name !== "AbortError")
                    throw error;
            }
            await pause(failures, null, options.signal);
        }
    }
    /** Uploads a file. A try whose answer is lost may leave a file that nothing names; it goes with its retention. */
    async upload(content, options = {}) {
        const blob = content instanceof Blob ? content : new Blob([content]);
        const type = options.contentType ?? (blob.type || "application/octet-stream");
        const report = options.onProgress;
        const init = { headers: { "content-type": type }, body: blob, signal: options.signal };
        if (report && typeof XMLHttpRequest !== "undefined") {
            const send = (url, headers) => sendWithProgress(url, headers, blob, report, options.signal);
            return (await this.#repeat("/v1/files", init, send)).json();
        }
        const response = await this.request("POST", "/v1/files", init);
        report?.(blob.size, blob.size);
        return response.json();
    }
    /** Fetches a file's content. */
    async download(id, options = {}) {
        return (await this.request("GET", `/v1/files/${encodeURIComponent(id)}`, options)).blob();
    }
    /** The address of a file's content, as for the `src` of an image. */
    fileUrl(id) {
        return `${this.#base}/v1/files/${encodeURIComponent(id)}`;
    }
    /** Makes a request. Where no answer comes, or one that says to come again (429, 503), it is repeated after a growing pause. */
    request(method, path, init = {}) {
        return this.#repeat(path, init, (url, headers) => this.#fetch(url, {
            method,
            headers,
            ...(init.body === undefined ? {} : { body: init.body }),
            ...(init.signal ? { signal: init.signal } : {}),
        }));
    }
    async #repeat(path, init, send) {
        for (let failures = 0;; failures += 1) {
            let asked = null;
            const last = failures + 1 >= this.#attempts;
            try {
                const response = await send(this.#base + path, { ...this.#headers, ...init.headers });
                if (response.ok)
                    return response;
                if (last || (response.status !== 429 && response.status !== 503))
                    throw await OffloadError.read(response);
                asked = response.headers.get("retry-after");
                await response.body?.cancel();
            }
            catch (error) {
                init.signal?.throwIfAborted();
                if (last || error instanceof OffloadError)
                    throw error;
            }
            await pause(failures, asked, init.signal);
        }
    }
}
/** Waits: as long as the server asks for, or half a second, doubled with each failure up to 10 s, and spread by chance. */
async function pause(failures, asked, signal) {
    const seconds = asked && /^\d+$/.test(asked) ? Number(asked) : Math.min(0.5 * 2 ** failures, 10) * (0.5 + Math.random() / 2);
    await new Promise((resolve, reject) => {
        const stop = () => {
            clearTimeout(timer);
            reject(signal?.reason);
        };
        const timer = setTimeout(() => {
            signal?.removeEventListener("abort", stop);
            resolve();
        }, seconds * 1000);
        if (signal?.aborted)
            stop();
        else
            signal?.addEventListener("abort", stop, { once: true });
    });
}
/** `fetch` does not tell how far an upload has come; browsers have something that does. */
function sendWithProgress(url, headers, blob, report, signal) {
    return new Promise((resolve, reject) => {
        const request = new XMLHttpRequest();
        request.open("POST", url);
        for (const [name, value] of Object.entries(headers))
            request.setRequestHeader(name, value);
        request.upload.onprogress = (event) => report(event.loaded, event.lengthComputable ? event.total : blob.size);
        const stop = () => request.abort();
        request.onloadend = () => signal?.removeEventListener("abort", stop);
        request.onerror = () => reject(new TypeError("the upload did not arrive"));
        request.onabort = () => reject(signal?.reason);
        request.onload = () => {
            const after = request.getResponseHeader("retry-after");
            const { status, statusText } = request;
            resolve(new Response(request.responseText, { status, statusText, headers: after ? { "retry-after": after } : {} }));
        };
        if (signal?.aborted)
            return reject(signal.reason);
        signal?.addEventListener("abort", stop, { once: true });
        request.send(blob);
    });
}
