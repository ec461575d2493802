/** Server-sent events over a fetch body, as the HTML standard parses them: any line end, comments, several data lines. */

export class EventParser {
  #rest = '';
  #afterReturn = false;
  #event = '';
  #data = [];

  /** Take the next piece of text, cut anywhere, and return the events that it completes. */
  feed(text) {
    if (this.#afterReturn && text.startsWith('\n')) text = text.slice(1);
    if (text) this.#afterReturn = text.endsWith('\r');
    const lines = (this.#rest + text).split(/\r\n|\r|\n/);
    this.#rest = lines.pop();
    return lines.map((line) => this.#line(line)).filter(Boolean);
  }

  #line(line) {
    if (line === '') return this.#dispatch();
    if (line.startsWith(':')) return null;
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (field === 'event') this.#event = value;
    if (field === 'data') this.#data.push(value);
    return null;
  }

  #dispatch() {
    const found = this.#data.length ? { event: this.#event || 'message', data: this.#data.join('\n') } : null;
    this.#event = '';
    this.#data = [];
    return found;
  }
}

/** Yield the events of a byte stream; an event that the end of the stream cuts off is left out, as the standard says. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.feed(value);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
