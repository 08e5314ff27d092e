// Buttons for what changes something. They are there only where it may be done: with the
// token, which this tab has in its memory, and over a connection on which it cannot be read.
import { h, show } from './dom.js';

const at = (id) => document.getElementById(id);

// offered gives the actions of a sidecar that have buttons, with the reason why one is
// refused; '' for one that is not.
export const offered = (state, hasToken) => new Map(hasToken && isSecureContext ? state.actions?.map((a) => [a.action, a.refused ?? '']) : []);

// without says why there are no buttons; nothing where there are.
export function without(state, place) {
  if (place.actions.size) return null;
  return state.actions?.every((a) => a.refused) ? state.actions[0].refused : 'actions need HTTPS, or a page from localhost';
}

// button makes one that asks before it does what: POSTs to a path of the API. The command
// does the same in a terminal.
export function button(place, action, label, what, path, command) {
  const refused = place.actions.get(action);
  if (refused === undefined) return null;
  if (refused) return [h('button', { type: 'button', class: 'act', disabled: true }, label), h('small', null, refused)];
  return h('button', { type: 'button', class: 'act', 'aria-haspopup': 'dialog', 'data-post': path, 'data-what': what, 'data-command': command }, label);
}

// listen asks when a button is pressed, and then does it. done is called after it.
export function listen(ask, done) {
  const dialog = at('confirm');
  let path = '';
  addEventListener('click', (e) => {
    const pressed = e.target.closest?.('[data-post]');
    if (!pressed) return;
    path = pressed.dataset.post;
    at('what').textContent = pressed.dataset.what;
    at('command').textContent = pressed.dataset.command;
    at('sure').textContent = pressed.textContent;
    show(at('refused'));
    dialog.showModal();
  });
  at('cancel').addEventListener('click', () => dialog.close());
  at('sure').addEventListener('click', async () => {
    at('sure').disabled = true;
    try {
      const response = await ask(path);
      const body = await response.json();
      if (!response.ok) throw new Error(body.error);
      dialog.close();
      done();
    } catch (error) {
      show(at('refused'), `Not done: ${error.message}`);
    } finally {
      at('sure').disabled = false;
    }
  });
}
