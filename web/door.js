/** The way in where there is no password: a name is enough, for the server is this machine's own. */

import { localToken } from './api.js';
import { note } from './dialogs.js';
import { $ } from './dom.js';
import { remembered } from './state.js';

export class LocalDoor {
  /** `enter(identity)` opens the page for somebody, or throws why not; `ended(why)` is called when a sign-in no longer holds. */
  constructor({ enter, ended }) {
    Object.assign(this, { enter, ended });
    $('#sign-in').addEventListener('submit', (event) => this.#submit(event));
  }

  /** Who was here before and has not left, or null. */
  async restored() {
    const name = remembered.get('user');
    return name ? this.#identity(name) : null;
  }

  /** Ask for a name. */
  ask(why = '') {
    $('#name').value = remembered.get('user') ?? '';
    $('#sign-in-problem').textContent = why;
    $('#name').focus();
  }

  /** Nothing to do: the next visitor may be anybody, and their name is only a proposal. */
  async leave() {}

  async #submit(event) {
    event.preventDefault();
    const name = $('#name').value.trim();
    if (!name) return;
    $('#sign-in-problem').replaceChildren();
    try {
      await this.enter(await this.#identity(name));
      remembered.set('user', name);
    } catch (problem) {
      $('#sign-in-problem').replaceChildren(note(problem));
    }
  }

  async #identity(name) {
    let token = await localToken(name);
    const renew = async () => {
      try {
        token = await localToken(name);
        return true;
      } catch (error) {
        if (error.code === 'network') throw error;
        this.ended('Your sign-in has ended. Sign in again to go on.');
        return false;
      }
    };
    return { name, headers: () => ({ Authorization: `Bearer ${token}` }), renew };
  }
}
