// Rollouts: how the versions of a service share its traffic, step by step.
import { button } from './actions.js';
import { ago, h, span, table } from './dom.js';
import { number, pill, serviceLink } from './views.js';

const stateKinds = { running: 'busy', paused: 'busy', promoted: 'good', aborted: 'bad' };
const seconds = (go) => {
  const units = { h: 3600, m: 60, s: 1, ms: 0.001 };
  return [...(go ?? '').matchAll(/([\d.]+)(ms|h|m|s)/g)].reduce((sum, [, n, unit]) => sum + Number(n) * units[unit], 0);
};
const left = (at) => (new Date(at) - Date.now()) / 1000;
const percent = (part, all) => (all > 0 ? ` (${(100 * part / all).toFixed(2)} %)` : '');

// of gives the rollout of a service that shares its traffic now; nothing where none does.
export const of = (shared, service) => (shared?.rollouts ?? []).filter((r) => r.service === service && isThere(r));
export const isThere = (r) => r.problem || Object.keys(r.document?.shares ?? {}).length > 0;

// rollout shows one as its steps, with what was counted in the current one.
export function rollout(r, s, place) {
  const d = r.document && { step: 0, ...r.document }; // 0 is left out
  if (!d) return h('p', { class: 'note bad' }, `The rollout of ${r.service} in Consul is invalid, and the last valid one stays: ${r.problem}`);
  const found = r.report;
  const steps = d.steps ?? [];
  return h('section', { class: 'card', id: `rollout-${d.service}`, 'aria-label': `Rollout of ${d.service}` },
    h('h3', null, 'Rollout of ', serviceLink(d.service), ' ', d.canary && [d.stable, ' → ', d.canary, ' '], pill(stateKinds[d.state] ?? 'bad', d.state)),
    h('p', { class: 'quiet' }, `Last changed by ${d.modified_by}, `, ago(d.modified_at), found && `; moved by ${found.leader}`, '.'),
    changes(r, place),
    d.reason && h('p', { class: d.state === 'aborted' ? 'note bad' : null }, 'Reason: ', d.reason),
    steps.length > 0 && h('ol', { class: 'steps' }, steps.map((share, i) => step(d, found, share, i))),
    table('Shares', [['Version'], ['Wanted', 'number'], ['Seen here', 'number'], ['Requests in this step', 'number'], ['Errors', 'number'], ['Retries', 'number'], ['Mean time', 'number']],
      Object.entries(d.shares).sort(([, a], [, b]) => b - a).map(([version, wanted]) => row(d, found, s, version, wanted))));
}

// changes gives the buttons of what the API allows with a rollout as it is, and why not the
// rest. Each is of the one that is shown: the API refuses it where the rollout has changed
// since, so that two who press "Promote" do one step.
function changes(r, place) {
  const d = r.document;
  if (!/^[\w.:@-]+$/.test(d.service)) return null; // a shell would run what is in it
  const actions = r.actions ?? [];
  const refused = actions.filter((a) => a.refused);
  return [
    h('p', null, actions.filter((a) => !a.refused).flatMap((a) => [button(place, 'rollout', label(a.action), question(a, d),
      `/api/v1/rollouts/${encodeURIComponent(d.service)}/${a.action}?modified_at=${encodeURIComponent(d.modified_at)}`, `pointsman rollout ${a.action} ${d.service}`), ' '])),
    place.actions.size > 0 && refused.length > 0 && h('details', null,
      h('summary', null, `Not possible now: ${refused.map((a) => label(a.action)).join(', ')}`),
      h('ul', null, refused.map((a) => h('li', null, h('b', null, label(a.action)), `: ${a.refused}`)))),
  ];
}

const label = (action) => action[0].toUpperCase() + action.slice(1);

const question = (a, { service, stable, canary }) => ({
  pause: `Keep ${service} at the current step until a resume?`,
  resume: `Continue the steps of ${service}?`,
  promote: `Give ${canary} of ${service} ${a.shares?.[canary]} % of the traffic now?`,
  abort: `Give ${stable} of ${service} all traffic now? Instances of other versions get no new request, and finish what they have.`,
  undo: `Give the versions of ${service} the shares of before the last change again: ${sharesText(a.shares ?? {})}?`,
  end: `Give all instances of ${service} their own weights again? Those of a version without a share get requests again, unless they are stopped.`,
}[a.action] ?? `${label(a.action)} the rollout of ${service}?`);

const sharesText = (shares) => Object.entries(shares).map(([version, share]) => `${version} ${share} %`).sort().join(', ');

// step is one, done, current or next.
function step(d, found, share, i) {
  const isOver = i < d.step || d.state === 'promoted';
  const isCurrent = i === d.step && (d.state === 'running' || d.state === 'paused');
  const text = `${share} % for ${d.canary} `;
  if (isOver) return h('li', { class: 'good' }, text, h('small', null, 'done'));
  if (d.state === 'aborted') return h('li', { class: i === d.step ? 'bad' : null }, text, h('small', null, i === d.step ? 'aborted' : 'not reached'));
  if (!isCurrent) return h('li', null, text, h('small', null, 'next'));
  return h('li', { class: 'busy', 'aria-current': 'step' }, text, h('small', null, `for ${span(-left(d.step_at))}`),
    d.state === 'paused' ? h('small', { class: 'deadline' }, 'paused until resume, promote or abort') : h('small', { class: 'deadline' }, waits(d, found)));
}

// waits says what comes next, and when.
function waits(d, found) {
  const rest = left(d.step_at) + seconds(d.interval);
  const next = d.steps[d.step + 1];
  const isKnown = found?.verdict === 'pass';
  const when = rest > 0 ? `${next} % in ${span(rest)} at the earliest` : `${next} % as soon as it is known to be as good`;
  const look = found?.numbers?.next_look && left(found.numbers.next_look) > 0 ? `, next look in ${span(left(found.numbers.next_look))}` : '';
  return [when, look, found?.reason && h('span', null, isKnown ? '. As good: ' : '. Waits: ', found.reason)];
}

function row(d, found, s, version, wanted) {
  const seen = s.services.filter((x) => x.name === d.service).flatMap((x) => (x.rollout?.shares ?? []).filter((y) => y.version === version));
  const side = { [d.canary]: 'canary', [d.stable]: 'stable' }[version];
  const counted = found?.numbers?.[side];
  return [
    [version, side && h('small', null, side)], `${wanted} %`, seen.length ? [...new Set(seen.map((x) => `${x.actual} %`))].join(', ') : '–',
    counted ? number(counted.requests) : '–', counted ? number(counted.errors) + percent(counted.errors, counted.requests) : '–', counted ? number(counted.retries) : '–',
    counted?.response_time_ms > 0 ? `${counted.response_time_ms} ms` : '–',
  ];
}
