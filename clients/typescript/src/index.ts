export { OffloadClient } from "./client.js";
export { Failure } from "./client.js";
export type { Batch, File, Filter, Job, JobEvent, Options, Submission, Upload, Waiting } from "./client.js";
export { OffloadError } from "./error.js";
export type { FieldError, ProblemDocument } from "./error.js";
export type { components, operations, paths } from "./openapi.js";
