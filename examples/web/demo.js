// Drop a photo: it is uploaded, a job makes thumbnails of it, and each step shows as it happens.
import { OffloadClient } from "./offload-client/index.js";

const client = new OffloadClient(location.origin);

const square = { op: "resize", width: 480, height: 480, mode: "fill" };
const OUTPUTS = [
  { name: "square", format: "webp", operations: [square] },
  { name: "mono", format: "jpeg", operations: [square, { op: "grayscale" }] },
  { name: "wide", format: "webp", operations: [{ op: "resize", width: 960, mode: "fit" }] },
];

const find = (id) => document.getElementById(id);
const drop = find("drop");

/** One photo, from its upload to its thumbnails. */
class Card {
  constructor(photo) {
    this.photo = photo;
    this.began = performance.now();
    this.stop = new AbortController();
    this.element = find("card").content.firstElementChild.cloneNode(true);
    this.element.querySelector("h2").textContent = photo.name;
    const original = this.element.querySelector(".original");
    original.src = URL.createObjectURL(photo);
    original.onload = original.onerror = () => URL.revokeObjectURL(original.src);
    this.part("cancel").onclick = () => this.cancel();
    find("cards").prepend(this.element);
  }

  part(name) {
    return this.element.querySelector(`.${name}`);
  }

  async run() {
    const { signal } = this.stop;
    try {
      this.say("Uploading");
      const onProgress = (sent, total) => this.progress(total ? sent / total : 1);
      const file = await client.upload(this.photo, { onProgress, signal });
      this.note(`uploaded, ${size(file.bytes)}`);
      this.progress(0);
      this.say("Submitting the job");
      const payload = { source: { file: file.id }, outputs: OUTPUTS };
      const job = await client.submit({ kind: "image.transform", payload, tags: ["web-demo"] }, { signal });
      this.job = job.id;
      const link = this.part("job");
      link.href = `/v1/jobs/${job.id}`;
      link.hidden = false;
      if (signal.aborted) await client.cancel(job.id);
      for await (const event of client.follow(job.id)) this.happened(event);
      this.end(await client.job(job.id));
    } catch (error) {
      this.finish(signal.aborted ? "cancelled" : "failed", signal.aborted ? "Cancelled" : error.message);
    }
  }

  happened({ event, data }) {
    if (event === "state") {
      this.say(`The job is ${data.state}`);
      this.note(data.state);
    } else if (event === "progress") {
      if (typeof data.fraction === "number") this.progress(data.fraction);
      this.note([data.fraction == null ? "" : `${Math.round(data.fraction * 100)} %`, data.message].filter(Boolean).join(" "));
    } else if (event === "log") {
      this.note(data.message);
    }
  }

  end(job) {
    if (job.state !== "succeeded") {
      return this.finish(job.state, job.error ? job.error.message : `The job is ${job.state}`);
    }
    this.progress(1);
    for (const output of job.result.outputs) this.part("thumbs").append(thumbnail(output));
    this.finish("succeeded", `Done in ${((performance.now() - this.began) / 1000).toFixed(1)} s`);
  }

  async cancel() {
    this.stop.abort(new Error("cancelled"));
    try {
      if (this.job) await client.cancel(this.job);
    } catch (error) {
      this.note(error.message);
    }
  }

  say(text) {
    this.part("status").textContent = text;
  }

  note(text) {
    const at = document.createElement("time");
    at.textContent = `${((performance.now() - this.began) / 1000).toFixed(2)} s`;
    const line = document.createElement("li");
    line.append(at, document.createTextNode(text));
    this.part("events").append(line);
    line.parentElement.scrollTop = line.parentElement.scrollHeight;
  }

  progress(fraction) {
    this.element.querySelector("progress").value = fraction;
  }

  finish(state, text) {
    this.element.classList.add(state);
    this.element.querySelector("progress").hidden = true;
    this.part("cancel").hidden = true;
    this.say(text);
  }
}

function thumbnail({ name, file, width, height, bytes }) {
  const image = document.createElement("img");
  image.src = client.fileUrl(file);
  image.alt = `The thumbnail “${name}”`;
  const about = document.createElement("span");
  about.textContent = `${name} · ${width} × ${height} · ${size(bytes)}`;
  const link = document.createElement("a");
  link.href = image.src;
  link.append(image, about);
  const item = document.createElement("li");
  item.append(link);
  return item;
}

function size(bytes) {
  return bytes < 1_000_000 ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`;
}

function take(photos) {
  for (const photo of photos) new Card(photo).run();
}

find("files").onchange = ({ target }) => {
  take([...target.files]);
  target.value = "";
};
find("sample").onclick = async () => {
  const answer = await fetch("sample.jpg");
  take([new File([await answer.blob()], "fjord-night.jpg", { type: "image/jpeg" })]);
};
for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take([...event.dataTransfer.files]);
});
