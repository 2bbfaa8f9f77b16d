/** The server did not do what it was asked. */
export class OffloadError extends Error {
    status;
    problem;
    constructor(status, problem) {
        const fields = (problem.errors ?? []).map((error) => `${error.pointer ?? error.parameter ?? ""} ${error.detail}`);
        super([problem.detail ?? problem.title, ...fields].join("; "));
        this.status = status;
        this.problem = problem;
        this.name = "OffloadError";
    }
    /** Reads what went wrong; a proxy's answer need not be a problem document. */
    static async read(response) {
        const fallback = { type: "about:blank", title: response.statusText || `HTTP ${response.status}`, status: response.status };
        const problem = await response.json().catch(() => fallback);
        return new OffloadError(response.status, problem);
    }
}
