/** The documents of one app, without any view: list, upload, follow their ingestion, remove. Tells `change` after each step. */

import { newId, wait } from './dom.js';
import { kinds } from './kinds.js';
import { Problem } from './problems.js';

export const isPending = ({ status }) => status === 'PENDING' || status === 'PROCESSING';

export class Library extends EventTarget {
  #following = false;

  /** `limits` holds `maxUploadBytes` and `accept`, the file endings that can be read. */
  constructor(api, limits) {
    super();
    Object.assign(this, { api, limits, documents: [], uploads: [], next: null, loaded: false, problem: null, closed: false });
  }

  get ready() {
    return this.documents.filter(({ status }) => status === 'COMPLETED');
  }

  async load() {
    try {
      const page = await this.api.documents();
      const listed = new Set(page.documents.map(({ id }) => id));
      // What was added since the list was asked for is not in it.
      const added = this.uploads.map((entry) => entry.document).filter((doc) => doc && isPending(doc) && !listed.has(doc.id));
      Object.assign(this, { documents: [...added, ...page.documents], next: page.nextCursor, loaded: true, problem: null });
    } catch (problem) {
      this.problem = problem;
    }
    this.tell();
    this.follow();
  }

  async more() {
    const page = await this.api.documents(this.next);
    const known = new Set(this.documents.map(({ id }) => id));
    this.documents = [...this.documents, ...page.documents.filter(({ id }) => !known.has(id))];
    this.next = page.nextCursor;
    this.tell();
  }

  /** Upload files one after the other; each is an entry of `uploads` until it is dismissed or ready. */
  async add(files) {
    const entries = [...files].map((file) => ({ key: newId(), file, name: file.name, sent: 0, document: null, known: false, problem: this.refusal(file) }));
    this.uploads = [...this.uploads, ...entries];
    this.tell();
    for (const entry of entries) if (!entry.problem) await this.send(entry);
  }

  async send(entry) {
    entry.problem = null;
    this.tell();
    const progress = (part) => {
      entry.sent = part;
      this.tell();
    };
    try {
      Object.assign(entry, await this.api.upload(entry.file, progress), { file: null });
      this.learn(entry.document);
    } catch (problem) {
      entry.problem = problem;
    }
    this.tell();
    this.follow();
  }

  /** Why a file need not be sent at all, or null. */
  refusal(file) {
    const { accept, maxUploadBytes } = this.limits;
    const kind = /\.[^.]+$/.exec(file.name)?.[0].toLowerCase() ?? '';
    if (!accept.includes(kind)) return new Problem({ code: 'document_rejected', status: 422, detail: `These can: ${kinds(this.limits)}` });
    if (file.size > maxUploadBytes) return new Problem({ code: 'too_large', status: 413, detail: `A file may have ${Math.floor(maxUploadBytes / 1e6)} MB` });
    return null;
  }

  dismiss(entry) {
    this.uploads = this.uploads.filter((other) => other !== entry);
    this.tell();
  }

  /** Dismiss the uploads that are over; what can be tried again stays, and the list of documents keeps every reason. */
  tidy() {
    this.uploads = this.uploads.filter(({ document: doc, problem }) => (problem ? problem.retryable : !doc || isPending(doc)));
    this.tell();
  }

  async remove(id) {
    try {
      await this.api.removeDocument(id);
    } catch (problem) {
      if (problem.status !== 404) throw problem;
    }
    this.forget(id);
  }

  /** Look at each document that is being read, until none is. */
  async follow() {
    if (this.#following) return;
    this.#following = true;
    for (let pause = 700; !this.closed && this.pending.length; pause = Math.min(pause * 1.1, 3000)) {
      await wait(document.hidden ? 5000 : pause);
      await Promise.all(this.pending.slice(0, 8).map((id) => this.look(id)));
      this.tell();
    }
    this.#following = false;
  }

  get pending() {
    return this.documents.filter(isPending).map(({ id }) => id);
  }

  async look(id) {
    try {
      this.learn(await this.api.document(id));
    } catch (problem) {
      // Gone: deleted in another tab. Anything else passes, and the next look tells.
      if (problem.status === 404) this.forget(id);
    }
  }

  learn(doc) {
    const known = this.documents.some(({ id }) => id === doc.id);
    this.documents = known ? this.documents.map((other) => (other.id === doc.id ? doc : other)) : [doc, ...this.documents];
    for (const entry of this.uploads) if (entry.document?.id === doc.id) entry.document = doc;
  }

  forget(id) {
    this.documents = this.documents.filter((doc) => doc.id !== id);
    this.uploads = this.uploads.filter((entry) => entry.document?.id !== id);
    this.tell();
  }

  tell() {
    this.dispatchEvent(new Event('change'));
  }
}
