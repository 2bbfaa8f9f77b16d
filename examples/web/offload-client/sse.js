/** Reads a stream of server-sent events, as the HTML standard says; what the end cuts off is no event. */
export async function* serverSentEvents(body) {
    const reader = body.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    let [id, event, data] = ["", "", []];
    try {
        for (;;) {
            const { done, value } = await reader.read();
            if (done)
                return;
            rest += decoder.decode(value, { stream: true });
            // A lone CR at the end may be half of a CRLF.
            const lines = rest.split(/\r\n|\n|\r(?!$)/);
            rest = lines.pop() ?? "";
            for (const line of lines) {
                if (line === "") {
                    if (data.length > 0)
                        yield { id, event: event || "message", data: data.join("\n") };
                    [event, data] = ["", []];
                    continue;
                }
                const colon = line.indexOf(":");
                const field = colon < 0 ? line : line.slice(0, colon);
                const text = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
                if (field === "id")
                    id = text;
                else if (field === "event")
                    event = text;
                else if (field === "data")
                    data.push(text);
            }
        }
    }
    finally {
        await reader.cancel().catch(() => undefined);
    }
}
