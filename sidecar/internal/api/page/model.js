// What the state says, summed up. Nothing here touches the page.

// phases in the order of a life, as /api/v1/state names them.
export const phases = ['unknown', 'starting', 'up', 'down', 'draining', 'drained', 'out'];

export const statuses = {
  in_step: { word: 'In step', mark: '✓', kind: 'good' },
  behind: { word: 'Behind', mark: '…', kind: 'busy' },
  degraded: { word: 'Degraded', mark: '!', kind: 'bad' },
  not_running: { word: 'HAProxy not running', mark: '✕', kind: 'bad' },
};

export const kinds = {
  up: 'good', starting: 'busy', unknown: 'busy', draining: 'busy', down: 'bad', drained: 'off', out: 'off',
};

// healths are Consul's words that are no good news.
export const healths = { critical: 'bad', warning: 'busy', maintenance: 'busy', gone: 'off' };

// takes reports whether HAProxy sends new requests to an instance.
export const takes = (i) => i.phase === 'up' && i.weight > 0 && !i.standby;

// isProblem reports whether an operator who looks for problems wants to see it.
export const isProblem = (i) => !i.standby && (!takes(i) || Boolean(i.reason)) || Boolean(i.moves_to);

// argument names the server of an instance in a command to copy into a terminal. An ID is
// what the registration says: it may hold what a shell runs, or be that of two.
export function argument(i, service) {
  const plain = /^[\w.:@-]+$/;
  const isUnique = service.instances.every((x) => x === i || (x.id !== i.id && x.server !== i.id));
  return i.id && plain.test(i.id) && plain.test(service.name) && isUnique ? `${service.name}/${i.id}` : `${service.backend}/${i.server}`;
}

// summary counts the instances of a service, in all and by version.
export function summary(service) {
  const all = group();
  const versions = new Map();
  for (const i of service.instances) {
    const is = kindOf(i);
    if (!versions.has(is.label)) versions.set(is.label, { ...group(), ...is });
    for (const g of [all, versions.get(is.label)]) count(g, i);
  }
  all.versions = [...versions.values()].sort((a, b) => byName.compare(b.label, a.label));
  return all;
}

// kindOf says under what label an instance is counted, and whether that is a
// version. pointsman status has the same words.
function kindOf(i) {
  if (i.own) return { label: 'the operator\'s own', isVersion: true };
  if (i.role_lost) return { label: 'without the backend\'s tags', isVersion: false };
  if (i.health === 'unknown') return { label: 'not known before Consul answers', isVersion: false };
  if (!i.id && !i.version) return { label: 'not in Consul', isVersion: false };
  return { label: i.version || 'no version', isVersion: true };
}

const group = () => ({ total: 0, live: 0, weight: 0, sessions: 0, leaving: 0, phases: {} });

function count(g, i) {
  g.total++;
  g.sessions += i.sessions;
  g.phases[i.phase] = (g.phases[i.phase] ?? 0) + 1;
  if (i.leaving) g.leaving++;
  if (takes(i)) {
    g.live++;
    g.weight += i.weight;
  }
}

// byName sorts api-2 before api-10.
export const byName = new Intl.Collator('en', { numeric: true });

// isDeploying reports whether a service changes from one version to another, or
// instances leave it.
export const isDeploying = (sum) => sum.versions.filter((v) => v.isVersion).length > 1 || sum.leaving > 0 || Boolean(sum.phases.draining);

// holders are the instances that leave and still have sessions.
export const holders = (service) => service.instances.filter((i) => i.phase === 'draining' || ((i.leaving || i.health === 'gone') && i.sessions > 0));

// findings gives the worst status of each backend in a verdict.
export function findings(verdict) {
  const of = new Map();
  for (const f of verdict.reasons) if (f.backend && !of.has(f.backend)) of.set(f.backend, f); // the worst come first
  return of;
}

const urgency = ['down', 'unknown', 'starting', 'draining', 'out', 'drained', 'up'];

// order puts what needs a look first.
export const order = (a, b) =>
  urgency.indexOf(a.phase) - urgency.indexOf(b.phase) || Number(isProblem(b)) - Number(isProblem(a)) || byName.compare(a.server, b.server);

// matches reports whether one of the texts has the words that are searched for.
export function matches(words, ...texts) {
  const text = texts.filter(Boolean).join('\n').toLowerCase();
  return words.toLowerCase().split(/\s+/).every((w) => text.includes(w));
}

// troubles are the kinds of events that are bad news.
export const troubles = new Set(['server_down', 'step_failed', 'instance_rejected', 'guard_held', 'reload_failed', 'file_failed', 'haproxy_down', 'consul_lost', 'not_ready', 'sessions_ended']);
