export { OffloadClient } from "./client.js";
export { Failure } from "./client.js";
export { OffloadError } from "./error.js";
