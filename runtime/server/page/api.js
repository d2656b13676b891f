// Turns requests into the server's answers: JSON, or a stream of pieces of text with their tokens.

const KEY = "ingot.key";

export class ApiError extends Error {
  constructor(status, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

let askForKey = async () => null;

/** `ask(wasWrong)` is called when the server wants a key; null means that the user has none. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

export async function send(path, { body, signal } = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (key) headers.Authorization = `Bearer ${key}`;
    let response;
    try {
      response = await fetch(path, {
        method: body === undefined ? "GET" : "POST",
        body: body === undefined ? undefined : JSON.stringify(body),
        headers,
        signal,
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, "The server can't be reached. Is it still running?");
    }
    if (response.ok) return response;
    const error = await readError(response);
    if (response.status !== 401) throw error;
    const given = await askForKey(Boolean(key));
    if (given === null) throw error;
    sessionStorage.setItem(KEY, given);
  }
}

export async function getJson(path, options) {
  return (await send(path, options)).json();
}

async function readError(response) {
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  let message = `The server answered ${response.status}`;
  try {
    const body = await response.json();
    message = body.error?.message ?? message;
  } catch {
    // the answer came from something in between that doesn't speak JSON: the status says it
  }
  if (response.status === 429 && retryAfter) message += ` Try again in ${retryAfter} s.`;
  return new ApiError(response.status, message, retryAfter);
}

/** Server-sent events: the JSON of each `data` field, until `[DONE]`. */
export async function* readEvents(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      // a carriage return at the end may be half of a line's end
      const end = rest.endsWith("\r") ? rest.length - 1 : rest.length;
      const events = rest.slice(0, end).split(/\r?\n\r?\n/);
      rest = events.pop() + rest.slice(end);
      for (const event of events) {
        const data = event.split(/\r?\n/).filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5).replace(/^ /, "")).join("\n");
        if (data === "[DONE]") return;
        if (data) yield JSON.parse(data);
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // already closed or aborted: nothing is left to cancel
  }
}

/** Pieces of an answer: {text, tokens: [{text, bytes, logprob, top}], calls, finish, usage}. */
export async function* stream(path, body, signal) {
  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  const response = await send(path, { body: asked, signal });
  for await (const event of readEvents(response.body)) {
    if (event.error) throw new ApiError(500, event.error.message);
    const choice = event.choices?.[0];
    yield {
      text: choice?.delta?.content ?? choice?.text ?? "",
      tokens: readTokens(choice?.logprobs),
      calls: choice?.delta?.tool_calls ?? [],
      finish: choice?.finish_reason ?? null,
      usage: event.usage ?? null,
    };
  }
}

/** Both shapes of log probabilities: chat's list of tokens, and completions' lists side by side. */
export function readTokens(logprobs) {
  if (!logprobs) return [];
  if (logprobs.content) {
    return logprobs.content.map((token) => ({
      text: token.token,
      bytes: token.bytes ?? null,
      logprob: token.logprob,
      top: (token.top_logprobs ?? []).map((other) => [other.token, other.logprob]),
    }));
  }
  return (logprobs.tokens ?? []).map((text, index) => ({
    text,
    bytes: null,
    logprob: logprobs.token_logprobs?.[index] ?? null,
    top: Object.entries(logprobs.top_logprobs?.[index] ?? {}).sort((a, b) => b[1] - a[1]),
  }));
}
