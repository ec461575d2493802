/** What Firebase's errors mean to a person. */

import { offline, Problem } from '../problems.js';

const WRONG = ['The e-mail address or the password is wrong', 'Check both and try again, or create an account if you have none.'];
const SET_UP = 'This server’s sign-in is not set up rightly';

const WORDS = {
  'auth/invalid-credential': WRONG,
  'auth/wrong-password': WRONG,
  'auth/user-not-found': WRONG,
  'auth/invalid-email': ['This is no e-mail address', 'It needs a name, an @ and a domain, like ada@example.com.'],
  'auth/email-already-in-use': ['There is an account of this e-mail address', 'Sign in with its password instead.'],
  'auth/weak-password': ['This password is too easy to guess', 'Take a longer one: six characters or more.'],
  'auth/password-does-not-meet-requirements': ['This password is too easy to guess', 'Take a longer one, with capitals, small letters, digits and signs.'],
  'auth/user-disabled': ['This account is closed', 'Ask whoever runs this server why.'],
  'auth/too-many-requests': ['Too many attempts', 'Wait some minutes, then try again.'],
  'auth/quota-exceeded': ['Too many attempts', 'Wait some minutes, then try again.'],
  'auth/admin-restricted-operation': ['New accounts are not taken here', 'Ask whoever runs this server for one.'],
  'auth/operation-not-allowed': [SET_UP, 'Its Firebase project must allow signing in with e-mail and password (Authentication, Sign-in method).'],
  'auth/invalid-api-key': [SET_UP, 'Firebase refuses its web API key: FIREBASE_API_KEY.'],
  'auth/configuration-not-found': [SET_UP, 'Its Firebase project has no Authentication yet.'],
};

/** The SDK calls a refused key by the server's whole sentence. */
const BAD_KEY = /^auth\/api-key-not-valid/;

/** The problem that an error of the SDK is. */
export function problemOf(error) {
  if (error instanceof Problem) return error;
  const code = BAD_KEY.test(error.code) ? 'auth/invalid-api-key' : error.code;
  if (code === 'auth/network-request-failed') return offline();
  const [title, detail] = WORDS[code] ?? ['Signing in did not work', `Try again. If it stays, tell whoever runs this server${code ? ` what Firebase said: ${code}` : ''}.`];
  return new Problem({ code: code ?? 'internal', title, detail });
}
