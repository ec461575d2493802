/** The way in with an account of the server's Firebase project: e-mail address and password, or none where an app asks for none.
 *
 * Signing in with Google is not offered: its pop-up runs scripts of other origins, which this page's policy forbids.
 */

import { announce, note } from '../dialogs.js';
import { $, h } from '../dom.js';
import { reword } from '../problems.js';
import { initializeApp } from '../vendor/firebase-app.js';
import {
  browserLocalPersistence,
  connectAuthEmulator,
  createUserWithEmailAndPassword,
  indexedDBLocalPersistence,
  initializeAuth,
  onAuthStateChanged,
  sendPasswordResetEmail,
  signInAnonymously,
  signInWithEmailAndPassword,
  signOut,
} from '../vendor/firebase-auth.js';
import { problemOf } from './words.js';

const EMULATED = 'Accounts, chats and documents are kept by the emulators of this machine, and are gone when these end.';

/** Open the project's door, for which `config.firebase` names the project. */
export async function open({ config, ...calls }) {
  const { apiKey, authDomain, projectId, appId, appCheckKey } = config.firebase;
  const app = initializeApp({ apiKey, authDomain, projectId, ...(appId && { appId }) });
  // Before anything else, so that the SDK sends the token to Firebase's own services too.
  const proof = appCheckKey ? (await import('./appcheck.js')).appCheck(app, appCheckKey) : async () => null;
  return new FirebaseDoor(app, config.firebase, proof, calls);
}

class FirebaseDoor {
  #app;
  #proof;
  #auth;
  #database = null;
  #unfollow = null;
  #uid = null;
  #busy = false;
  #creating = false;

  /** `enter(identity)` opens the page for somebody, or throws why not; `ended(why)` and `changed(identity)` are called when the
   * sign-in of this browser ends or becomes another's, as by another tab. */
  constructor(app, settings, proof, { enter, ended, changed }) {
    Object.assign(this, { settings, enter, ended, changed });
    this.#app = app;
    this.#proof = proof;
    this.#auth = initializeAuth(app, { persistence: [indexedDBLocalPersistence, browserLocalPersistence] });
    const { emulators } = settings;
    if (emulators?.auth) connectAuthEmulator(this.#auth, `http://${emulators.auth}`, { disableWarnings: true });
    this.#words();
    this.#bind();
  }

  /** Who signed in on this browser and has not signed out, or null. */
  async restored() {
    await this.#auth.authStateReady();
    const user = this.#auth.currentUser;
    this.#unfollow ??= onAuthStateChanged(this.#auth, (now) => this.#follow(now));
    return user ? this.#identity(user) : null;
  }

  ask(why = '') {
    this.#show(false);
    $('#password').value = '';
    $('#account-problem').textContent = why;
    $('#email').focus();
  }

  async leave() {
    this.#forget();
    await signOut(this.#auth);
  }

  /** Leave nothing of who was here, neither in the form nor in the SDK's memory. */
  #forget() {
    this.#uid = null;
    for (const selector of ['#email', '#password']) $(selector).value = '';
    this.#database?.then((database) => database.close(), () => {});
    this.#database = null;
  }

  #words() {
    const emulated = Boolean(this.settings.emulators);
    const remedy = emulated ? 'Check that “make emulators” still runs' : 'Check your connection';
    reword({
      network: ['Brainstem cannot be reached', `${remedy}, then try again. Nothing that was saved is lost.`],
      no_apps: ['No app is open to you', 'Ask whoever runs this server to let you in, then sign in again.'],
    });
    $('#mode').textContent = emulated ? 'Firebase emulators' : '';
    $('#account-hint').hidden = !emulated;
    $('#account-hint').replaceChildren(h('strong', {}, 'Firebase emulators:'), ` ${EMULATED} Any e-mail address will do.`);
  }

  #bind() {
    $('#sign-in').hidden = true;
    $('#account').hidden = false;
    $('#account-guest').hidden = !this.settings.anonymous;
    $('#account').addEventListener('submit', (event) => {
      event.preventDefault();
      const act = this.#creating ? createUserWithEmailAndPassword : signInWithEmailAndPassword;
      this.#signIn(() => act(this.#auth, $('#email').value.trim(), $('#password').value));
    });
    $('#account-guest').addEventListener('click', () => this.#signIn(() => signInAnonymously(this.#auth)));
    $('#account-other').addEventListener('click', () => {
      this.#show(!this.#creating);
      $('#email').focus();
    });
    $('#account-forgot').addEventListener('click', () => this.#forgot());
  }

  #show(creating) {
    this.#creating = creating;
    $('#account-title').textContent = creating ? 'Create an account' : 'Brainstem';
    $('#account-lead').hidden = creating;
    $('#account-act').textContent = creating ? 'Create the account' : 'Sign in';
    $('#account-other').textContent = creating ? 'I have an account' : 'Create an account';
    $('#account-forgot').hidden = creating;
    $('#password-hint').hidden = !creating;
    $('#password').autocomplete = creating ? 'new-password' : 'current-password';
    $('#account-problem').replaceChildren();
  }

  async #signIn(act) {
    if (this.#busy) return;
    this.#busy = true;
    $('#account').setAttribute('aria-busy', 'true');
    $('#account-problem').replaceChildren();
    try {
      const { user } = await act();
      await this.enter(this.#identity(user));
      $('#password').value = '';
    } catch (error) {
      await signOut(this.#auth);
      this.#uid = null;
      $('#account-problem').replaceChildren(note(problemOf(error)));
    } finally {
      this.#busy = false;
      $('#account').removeAttribute('aria-busy');
    }
  }

  async #forgot() {
    if (!$('#email').reportValidity()) return;
    try {
      await sendPasswordResetEmail(this.#auth, $('#email').value.trim());
    } catch (error) {
      // Whether there is such an account is nobody's business.
      if (error.code !== 'auth/user-not-found') return $('#account-problem').replaceChildren(note(problemOf(error)));
    }
    const sent = 'If there is such an account, a message with a link to a new password is on its way.';
    $('#account-problem').replaceChildren(h('p', { class: 'hint' }, sent));
    announce(sent);
  }

  #follow(user) {
    if (this.#busy || (user?.uid ?? null) === this.#uid) return;
    this.#forget();
    if (user) this.changed(this.#identity(user));
    else this.ended('Your sign-in has ended. Sign in again to go on.');
  }

  #identity(user) {
    this.#uid = user.uid;
    return {
      name: user.email ?? 'Guest',
      headers: () => this.#headers(user),
      renew: () => this.#renew(user),
      live: this.settings.database && ((app) => (count, told) => this.#listen({ app, user: user.uid }, count, told)),
    };
  }

  async #headers(user) {
    const [token, proof] = await Promise.all([this.#token(user), this.#proof()]);
    return { Authorization: `Bearer ${token}`, ...(proof && { 'X-Firebase-AppCheck': proof }) };
  }

  async #token(user, fresh = false) {
    try {
      return await user.getIdToken(fresh);
    } catch (error) {
      throw problemOf(error);
    }
  }

  /** A fresh token in place of a refused one. Where Firebase gives none any more it signs out, which `#follow` hears. */
  async #renew(user) {
    try {
      await this.#token(user, true);
      return true;
    } catch (problem) {
      if (problem.code === 'network') throw problem;
      return false;
    }
  }

  /** Listen once the Firestore SDK is here, the larger part of it all; the page does not wait for it. */
  #listen(whose, count, told) {
    let stop = null;
    this.#database ??= import('./chats.js').then(({ Database }) => new Database(this.#app, this.settings));
    this.#database.then((database) => (stop ??= database.listen(whose, count, told)), told.lost);
    return () => (stop ? stop() : (stop = () => {}));
  }
}
