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
    h('p', null, changes(d, place)),
    d.reason && h('p', { class: d.state === 'aborted' ? 'note bad' : null }, 'Reason: ', d.reason),
    steps.length > 0 && h('ol', { class: 'steps' }, steps.map((share, i) => step(d, found, share, i))),
    table('Shares', [['Version'], ['Wanted', 'number'], ['Seen here', 'number'], ['Requests in this step', 'number'], ['Errors', 'number'], ['Retries', 'number'], ['Mean time', 'number']],
      Object.entries(d.shares).sort(([, a], [, b]) => b - a).map(([version, wanted]) => row(d, found, s, version, wanted))));
}

// changes gives the buttons of what may be done with a rollout as it is. Each is of the one
// that is shown: the API refuses it where the rollout has changed since, so that two who
// press "Promote" do one step.
function changes(d, place) {
  if (!/^[\w.:@-]+$/.test(d.service)) return null; // a shell would run what is in it
  const isOpen = d.state === 'running' || d.state === 'paused';
  const hasSteps = (d.steps ?? []).length > 0;
  const act = (what, label, question) => button(place, 'rollout', label, question,
    `/api/v1/rollouts/${encodeURIComponent(d.service)}/${what}?modified_at=${encodeURIComponent(d.modified_at)}`, `pointsman rollout ${what} ${d.service}`);
  const next = d.steps?.[d.step + 1];
  const before = (d.state === 'promoted' || d.state === 'aborted') && sharesBefore(d);
  return [
    d.state === 'running' && hasSteps && act('pause', 'Pause', `Keep ${d.service} at the current step until a resume?`),
    d.state === 'paused' && hasSteps && act('resume', 'Resume', `Go on with the steps of ${d.service}?`),
    isOpen && d.canary && act('promote', 'Promote', `Give ${d.canary} of ${d.service} ${next ?? 100} % of the traffic now?`),
    d.stable && d.state !== 'aborted' && act('abort', 'Abort', `Give ${d.stable} of ${d.service} all traffic now? Instances of other versions get no new request, and finish what they have.`),
    before && act('undo', 'Undo', `Give the versions of ${d.service} the shares of before the last change again: ${sharesText(before)}?`),
  ].flatMap((b) => (b ? [b, ' '] : []));
}

// sharesBefore gives the shares that an undo brings back, by the rules of Undo in
// rollout/change.go; nothing where it is refused.
function sharesBefore(d) {
  const isSame = (shares) => sharesText(shares) === sharesText(d.shares);
  for (const { action, shares } of d.history ?? []) {
    if (Object.keys(shares ?? {}).length === 0) return null; // the end of another rollout
    if (isSame(shares)) {
      if (action === 'prepare') return null;
      continue;
    }
    const before = { ...Object.fromEntries(Object.keys(d.shares).map((version) => [version, 0])), ...shares };
    return isSame(before) ? null : before;
  }
  return null;
}

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
    d.state === 'paused' ? h('small', { class: 'deadline' }, 'paused: it goes on after resume, promote or abort') : h('small', { class: 'deadline' }, waits(d, found)));
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
