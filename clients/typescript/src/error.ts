/** A field that is wrong. */
export interface FieldError {
  /** JSON Pointer to it, in the body. */
  pointer?: string;
  /** The query parameter. */
  parameter?: string;
  detail: string;
}

/** What the server says of a request that it did not do (RFC 9457). */
export interface ProblemDocument {
  type: string;
  title: string;
  status: number;
  detail?: string;
  errors?: FieldError[];
  [extension: string]: unknown;
}

/** The server did not do what it was asked. */
export class OffloadError extends Error {
  constructor(
    readonly status: number,
    readonly problem: ProblemDocument,
  ) {
    const fields = (problem.errors ?? []).map((error) => `${error.pointer ?? error.parameter ?? ""} ${error.detail}`);
    super([problem.detail ?? problem.title, ...fields].join("; "));
    this.name = "OffloadError";
  }

  /** Reads what went wrong; a proxy's answer need not be a problem document. */
  static async read(response: Response): Promise<OffloadError> {
    const fallback = { type: "about:blank", title: response.statusText || `HTTP ${response.status}`, status: response.status };
    const problem: ProblemDocument = await response.json().catch(() => fallback);
    return new OffloadError(response.status, problem);
  }
}
