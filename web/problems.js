/** Errors in words for a person: what happened and what to do. The server's `detail` is written for people and shown too. */

/** An answer that is not the one asked for: the fields of an application/problem+json body, or of a failure before it. */
export class Problem extends Error {
  constructor({ status = 0, code = 'internal', title = '', detail = '', requestId = '', retryable = false, retryAfter = null, problems = [] } = {}) {
    super(title || code);
    Object.assign(this, { status, code, title, detail, requestId, retryable, retryAfter, problems });
  }
}

export const offline = () => new Problem({ code: 'network', retryable: true });

const WORDS = {
  network: [
    'Brainstem cannot be reached',
    'Check that it is still running (start it with “make run”), then try again. Nothing that was saved is lost.',
  ],
  not_sent: ['Stopped', 'The message was not sent.'],
  invalid_token: ['You are signed out', 'Sign in again to go on.'],
  forbidden: ['This app is not open to you', 'Choose another app, or ask whoever runs this one to let you in.'],
  not_found: ['This is no longer here', 'It was deleted, perhaps in another tab, or belongs to someone else.'],
  conflict: ['This changed in the meantime', 'Look at it again, then repeat what you did.'],
  turn_in_progress: ['This chat is still answering', 'Wait until that answer is done, perhaps in another tab, or start a new chat.'],
  too_large: ['This is too large', 'Shorten it or split it, then try again.'],
  unsupported_media_type: ['This kind of file cannot be read', 'Save it as PDF, Word, Markdown, HTML, CSV or plain text.'],
  context_too_long: ['This is too long for the model', 'Ask a shorter question, or start a new chat.'],
  document_rejected: ['This file cannot be read', ''],
  unavailable: ['Part of Brainstem is not answering', 'This usually passes. Try again in a moment.'],
  upstream_busy: ['The model is busy', 'Its provider is overloaded, or your quota there is used up. Try again in a moment.'],
  upstream_config: ['The model is not set up rightly', 'Its provider refuses the key or the model’s name. Check OPENAI_API_KEY, OPENAI_BASE_URL and CHAT_MODEL, then restart.'],
  upstream_protocol: ['The model’s answer could not be read', 'Try again. If it stays, check that OPENAI_BASE_URL points to a compatible endpoint.'],
  upstream_interrupted: ['The answer broke off', 'What came so far is kept. Ask again to get a whole one.'],
  deadline_exceeded: ['The model took too long', 'Try again, perhaps with a shorter question.'],
  invalid_output: ['The model’s answer does not fit', 'It was told what is wrong, and answered wrongly again. Try again, perhaps with another model.'],
  source_refused: ['A source cannot be read', 'Check what you entered. If it is right, this source has nothing to tell of it.'],
  source_unavailable: ['A source does not answer', 'This usually passes. Try again later.'],
  report_too_long: ['The report is too long', 'Its findings are more than such a file holds.'],
  too_many_failures: ['This failed too often', 'Try again later. If it stays, the server’s log tells more.'],
  crashed: ['Something went wrong inside Brainstem', 'Try again. If it stays, its log tells more.'],
  unprocessable: ['This cannot be sent as it is', ''],
  bad_request: ['The page and the server do not understand each other', 'Reload the page: one of them may be newer.'],
  no_apps: ['There is no app yet', 'Make one with “brainstem apps new NAME”, then sign in again.'],
  sign_in: ['This page cannot sign you in here', 'Whoever runs this server sets FIREBASE_API_KEY, the web API key of its Firebase project, and restarts it.'],
  internal: ['Something went wrong inside Brainstem', 'Try again. If it stays, its log tells more.'],
};

const BY_STATUS = { 400: 'bad_request', 401: 'invalid_token', 403: 'forbidden', 404: 'not_found', 409: 'conflict', 413: 'too_large', 415: 'unsupported_media_type', 422: 'unprocessable', 503: 'unavailable', 504: 'deadline_exceeded' };

/** Say some of it in other words, as where the server is not this machine's. */
export function reword(words) {
  Object.assign(WORDS, words);
}

/** Return {title, text, reference} for anything that was thrown or that a stored turn carries as its error. */
export function describe(problem) {
  const known = WORDS[problem.code] ?? WORDS[BY_STATUS[problem.status]];
  const [title, advice] = known ?? [problem.title || WORDS.internal[0], problem.status < 500 ? '' : WORDS.internal[1]];
  const parts = [sentence(problem.detail, title), problem.status === 429 ? later(problem.retryAfter) : advice];
  return { title, text: parts.filter(Boolean).join(' '), reference: problem.requestId || '' };
}

/** One line that says the same, for a small space. */
export function brief(problem) {
  const { title, text } = describe(problem);
  return `${title}. ${text}`.trim();
}

function sentence(detail, title) {
  const text = (detail ?? '').trim();
  if (!text || text === title) return '';
  return /[.!?…]$/.test(text) ? text : `${text}.`;
}

function later(seconds) {
  if (!seconds) return 'Try again later.';
  return `Try again in ${seconds < 90 ? `${seconds} seconds` : `${Math.ceil(seconds / 60)} minutes`}.`;
}
