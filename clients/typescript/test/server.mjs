// The real server: `offload dev`, which OFFLOAD_PROGRAM names or cargo has built.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const program = process.env.OFFLOAD_PROGRAM ?? fileURLToPath(new URL("../../../target/debug/offload", import.meta.url));

/** Starts it; answers its address, and how to stop it. */
export async function start() {
  const folder = await mkdtemp(join(tmpdir(), "offload-client-"));
  const server = spawn(program, ["dev", "--listen", "127.0.0.1:0", "--data", folder], { stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise((resolve) => server.once("exit", resolve));
  const base = await new Promise((resolve, reject) => {
    let said = "";
    const listen = (chunk) => {
      said += chunk;
      const found = said.match(/127\.0\.0\.1:\d+/);
      if (found) resolve(`http://${found[0]}`);
    };
    server.stdout.on("data", listen);
    server.stderr.on("data", listen);
    ended.then((code) => reject(new Error(`${program} ended with ${code}: ${said}`)));
  });
  const stop = async () => {
    server.kill();
    await ended;
    await rm(folder, { recursive: true });
  };
  return { base, stop };
}
