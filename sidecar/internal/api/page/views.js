// The views. Each takes the state and the place (see main.js), and gives nodes.
import { button, without } from './actions.js';
import { ago, bytes, h, since, span, table } from './dom.js';
import { argument, byName, findings, healths, holders, isDeploying, isProblem, kinds, matches, order, phases, statuses, summary, takes, troubles } from './model.js';
import { isThere, of, rollout } from './rollout.js';

// perPage bounds the rows that the page has at a time.
const perPage = 100;

const link = (path, query = {}) => {
  const set = Object.entries(query).filter(([, v]) => v);
  return '#' + path + (set.length ? '?' + new URLSearchParams(set) : '');
};
// serviceLink names the backend where it has another name: a service may have several.
export const serviceLink = (name, backend = name) => h('a', { href: link('/service/' + encodeURIComponent(backend)) }, name, backend !== name && [' ', h('small', null, backend)]);
export const pill = (kind, ...text) => h('span', { class: 'pill ' + kind }, ...text);
export const number = (n) => n.toLocaleString('en');
const plural = (n, what) => `${number(n)} ${what}${n === 1 ? '' : 's'}`;

const phasePills = (counts) => h('span', { class: 'pills' },
  phases.filter((p) => counts[p]).map((p) => pill(kinds[p], `${number(counts[p])} ${p}`)));

function meter(share, label) {
  const percent = Math.round(share * 100);
  return h('span', { class: 'share' },
    h('progress', { max: 100, value: percent, 'aria-label': label }), h('span', { class: 'number' }, `${percent} %`));
}

// paged shows one page of the rows, and the way to the others.
export function paged(rows, place, make) {
  const last = Math.max(1, Math.ceil(rows.length / perPage));
  const page = Math.min(Math.max(1, place.page), last);
  const to = (n, text) => (n < 1 || n > last
    ? h('span', { class: 'quiet' }, text)
    : h('a', { href: link(place.path, { ...place.query, page: n > 1 ? n : '' }) }, text));
  const shown = rows.slice((page - 1) * perPage, page * perPage);
  return [
    make(shown),
    last > 1 && h('nav', { class: 'pages', 'aria-label': 'Pages' },
      to(page - 1, '← Previous'), h('span', null, `${number((page - 1) * perPage + 1)}–${number((page - 1) * perPage + shown.length)} of ${number(rows.length)}`), to(page + 1, 'Next →')),
  ];
}

// verdict gives what stands above every view: the status line and the reasons.
export function verdict(state) {
  const is = statuses[state.verdict.status] ?? statuses.degraded;
  const most = 8;
  const reasons = state.verdict.reasons;
  return {
    kind: is.kind,
    word: is.word,
    line: [h('span', { class: 'mark', 'aria-hidden': 'true' }, is.mark), ' ', h('strong', null, is.word),
      h('span', { class: 'quiet' }, is.kind === 'good' && !reasons.length ? ' HAProxy runs what Consul says.' : '')],
    reasons: reasons.length > 0 && h('ul', null,
      reasons.slice(0, most).map((r) => h('li', { class: (statuses[r.status] ?? statuses.degraded).kind },
        r.service && [serviceLink(r.service, r.backend), ': '], r.text)),
      reasons.length > most && h('li', { class: 'quiet' }, `and ${number(reasons.length - most)} more`)),
  };
}

// facts gives what the load balancer is made of.
export function facts(s, place) {
  const { haproxy, consul, file, reloads } = s;
  const fact = (name, value, ...more) => h('div', null, h('dt', null, name), h('dd', null, value, more.filter(Boolean).map((m) => h('small', null, m))));
  return h('dl', { class: 'facts' },
    fact('HAProxy', haproxy.running ? haproxy.version : haproxy.stopped ? 'not running' : 'cannot be read',
      haproxy.pid && `worker pid ${haproxy.pid}`, haproxy.maintenance && 'in maintenance',
      maintenance(place, s)),
    fact('Old workers', haproxy.old_workers_unknown ? 'unknown' : number(haproxy.old_workers),
      haproxy.old_workers_memory > 0 && bytes(haproxy.old_workers_memory)),
    fact('Reloads', number(reloads.succeeded),
      reloads.failed > 0 && `${number(reloads.failed)} failed`,
      reloads.last_reason && ['last ', ago(reloads.last), `, ${reloads.last_reason}`],
      reloads.pending && (reloads.under_way ? `under way: ${reloads.pending}` : [`due: ${reloads.pending}`, reloads.waits_for && `, waits for ${reloads.waits_for}`]),
      requested(s.reload_requests?.at(-1)),
      button(place, 'reload', 'Reload', `Reload HAProxy of ${s.load_balancer}? A new worker loads haproxy.cfg; old connections stay with the old worker.`, '/api/v1/reload', 'pointsman reload')),
    fact('Consul', consul.reachable ? 'reachable' : 'not reachable', ['oldest answer ', ago(consul.last_contact)]),
    fact('haproxy.cfg', file.error ? 'not written' : file.pending ? 'being written' : file.current ? 'current' : 'not current', ['written ', ago(file.written)]),
    fact('Sidecar', s.ready ? 'ready' : 'not ready', ['started ', ago(s.started)], without(s, place)));
}

// requested says what became of an operator's newest request for a reload.
function requested(r) {
  if (!r) return null;
  const text = [`requested by ${r.by}: ${r.status.replace('_', ' ')}`, r.ended && [' ', ago(r.ended)]];
  return r.status === 'failed' ? h('span', { class: 'differs' }, text) : text; // the verdict has HAProxy's words
}

const maintenance = (place, s) => (s.haproxy.maintenance
  ? button(place, 'maintenance', 'End maintenance', `Bring ${s.load_balancer} back into rotation?`, '/api/v1/maintenance/off', 'pointsman maintenance off')
  : button(place, 'maintenance', 'Maintenance', `Take ${s.load_balancer} out of rotation? Its health answer changes to 503; requests that still arrive are served.`, '/api/v1/maintenance/on', 'pointsman maintenance on'));

// balancerLink leads to the page of a load balancer.
const balancerLink = (lb) => (/^https?:/.test(lb.url ?? '') ? h('a', { href: lb.url + '/#/', rel: 'noreferrer' }, lb.name) : lb.name);
const shareOf = (v, svc) => {
  const all = svc.versions.reduce((sum, x) => sum + x.weight, 0);
  return all ? v.weight / all : 0;
};

// fleet gives all load balancers, from any sidecar; the one that differs stands out.
export function fleet(f) {
  if (!f || (f.load_balancers.length < 2 && f.status === 'in_step')) return null;
  const is = statuses[f.status] ?? statuses.degraded;
  const columns = [['Load balancer'], ['State'], ['HAProxy'], ['Old workers', 'number'], ['Reloads', 'number'], ['Consul'], ['haproxy.cfg'], ['Differs or fails', 'wide']];
  const row = (lb) => {
    const s = lb.summary;
    if (!s) {
      const stopped = ago(lb.stopped, '');
      return [lb.name, pill('bad', '✕ ', stopped ? 'sidecar stopped' : 'not reachable'), '', '', '', '', '', stopped ? ['stopped ', stopped, ', HAProxy keeps running'] : lb.error];
    }
    const v = statuses[s.verdict.status] ?? statuses.degraded;
    return [
      [balancerLink(lb), lb.name === f.by && h('small', null, 'this one')], pill(v.kind, v.mark + ' ', v.word),
      [s.haproxy.version || '–', s.haproxy.pid && h('small', null, `pid ${s.haproxy.pid}`), s.haproxy.maintenance && h('small', null, 'in maintenance')],
      s.haproxy.old_workers_unknown ? 'unknown' : number(s.haproxy.old_workers),
      [number(s.reloads.succeeded), s.reloads.failed > 0 && h('small', null, `${number(s.reloads.failed)} failed`)],
      [s.consul.reachable ? 'reachable' : 'not reachable', h('small', null, 'answer ', ago(s.consul.last_contact))],
      s.file_current ? 'current' : 'not current',
      [(lb.differs ?? []).map((d) => h('p', { class: 'differs' }, '≠ ', d)), s.verdict.status !== 'in_step' && (s.verdict.reasons ?? []).slice(0, 2).map((r) => h('small', null, r.service && r.service + ': ', r.text))],
    ];
  };
  const rows = f.load_balancers.toSorted((a, b) => Number(Boolean(b.differs) || !b.reached) - Number(Boolean(a.differs) || !a.reached));
  return h('section', { id: 'fleet', 'aria-label': 'All load balancers' },
    h('h2', null, 'Load balancers ', h('small', null, number(f.load_balancers.length)), ' ', pill(is.kind, is.mark + ' ', is.word)),
    table('Load balancers', columns, rows.slice(0, perPage).map(row)));
}

// everywhere gives the versions of a backend on each load balancer.
function everywhere(f, svc) {
  const rows = (f?.load_balancers ?? []).flatMap((lb) => {
    const its = lb.summary?.services?.find((x) => x.name === svc.name && x.backend === svc.backend);
    if (!its) return lb.summary ? [] : [[lb.name, pill('bad', 'not reachable'), '', '', '', '', '', '']];
    return (its.versions ?? []).map((v) => [balancerLink(lb), v.listed ? v.version || 'no version' : 'not in Consul',
      `${number(v.live)} of ${number(v.total)}`, number(v.starting), number(v.draining), number(v.down), meter(shareOf(v, its), `Share of ${v.version} on ${lb.name}`), number(v.sessions)]);
  });
  return (f?.load_balancers ?? []).length > 1 && rows.length > 0 && [
    h('h3', null, 'On each load balancer'),
    table('On each load balancer', [['Load balancer'], ['Version'], ['Take traffic', 'number'], ['Starting', 'number'], ['Draining', 'number'], ['Down', 'number'], ['Share of the weight'], ['Sessions', 'number']], rows.slice(0, perPage)),
  ];
}

export function overview(s, place, happened, all) {
  const of = findings(s.verdict);
  const { q = '', problems } = place.query;
  const rows = s.services
    .filter((svc) => matches(q, svc.name, svc.backend, ...new Set(svc.instances.map((i) => i.version))))
    .filter((svc) => !problems || of.has(svc.backend) || svc.instances.some(isProblem));
  const columns = [['Service'], ['State'], ['Take traffic', 'number'], ['Versions'], ['Instances'], ['Sessions', 'number'], ['Applied']];
  const row = (svc) => {
    const sum = summary(svc);
    const is = statuses[of.get(svc.backend)?.status ?? (s.verdict.status === 'not_running' ? 'not_running' : 'in_step')];
    return [
      serviceLink(svc.name, svc.backend), pill(is.kind, is.mark + ' ', is.word), `${number(sum.live)} of ${number(sum.total)}`,
      h('span', { class: 'pills' }, sum.versions.slice(0, 4).map((v) => h('span', { class: 'version' }, v.label, h('small', null, ` ${number(v.live)}/${number(v.total)}`))), sum.versions.length > 4 && h('small', null, `and ${sum.versions.length - 4} more`)),
      phasePills(sum.phases), number(sum.sessions), ago(svc.applied),
    ];
  };
  return [
    fleet(all),
    h('h2', null, 'Services ', h('small', null, number(rows.length))),
    rows.length ? paged(rows, place, (shown) => table('Services', columns, shown.map(row))) : h('p', { class: 'empty' }, s.services.length ? 'No service matches.' : 'No service is configured.'),
  ];
}

export function service(s, place, happened, all, recorded, shared, counted) {
  const backends = s.services.filter((x) => x.backend === place.name || x.name === place.name);
  if (backends.length) return [of(shared, backends[0].name).map((r) => [h('h2', null, 'Rollout'), rollout(r, s, place)]), backends.flatMap((svc) => backend(svc, place, all, counted))];
  return [h('h2', null, place.name), h('p', { class: 'empty' }, 'This load balancer does not route the service.')];
}

const milliseconds = (n) => `${n.toLocaleString('en', { maximumFractionDigits: n < 10 ? 1 : 0 })} ms`;

function backend(svc, place, all, counted) {
  const sum = summary(svc);
  const { q = '', problems } = place.query;
  const rows = svc.instances.filter((i) => (!problems || isProblem(i)) && matches(q, i.id, i.node, i.server, i.address, i.version, i.phase, i.reason, i.consul_check)).sort(order);
  return [
    h('h2', null, svc.name, ' ', h('small', null, `backend ${svc.backend}`)),
    h('p', { class: 'quiet' }, `${number(sum.live)} of ${plural(sum.total, 'instance')} take traffic. `, 'Last answer of Consul ', ago(svc.answered), ', applied ', ago(svc.applied), svc.applied_after_ms && ` (${milliseconds(svc.applied_after_ms)} after it changed)`, svc.free_slots > 0 && `, ${plural(svc.free_slots, 'free slot')}`, '.'),
    guard(svc, place),
    pause(svc, place),
    svc.rejected.length > 0 && h('section', { class: 'note bad' }, h('h3', null, 'Rejected instances'),
      h('ul', null, svc.rejected.slice(0, perPage).map((r) => h('li', null, h('b', null, r.id), ` on ${r.node}: ${r.error}`)))),
    h('h3', null, 'Versions'),
    versions(sum),
    counted?.answers.has(svc.backend) && answers(counted.answers.get(svc.backend)),
    everywhere(all, svc),
    h('h3', null, 'Instances ', h('small', null, number(rows.length))),
    rows.length ? paged(rows, place, (shown) => instances(shown, svc, { ...place, counted: counted?.servers.get(svc.backend) })) : h('p', { class: 'empty' }, svc.instances.length ? 'No instance matches.' : 'Consul lists no instance.'),
  ];
}

function guard(svc, place) {
  const { held, since, until } = svc.guard;
  return held?.length > 0 && h('section', { class: 'note bad' },
    h('h3', null, 'Mass removal blocked'),
    h('p', null, `The guard holds ${plural(held.length, 'server')} since `, ago(since), until && [', until ', new Date(until).toLocaleString()], ': ', held.slice(0, 20).join(', '), held.length > 20 && ' …'),
    h('p', null, 'If they are really gone: ', h('code', null, `pointsman guard release ${svc.backend}`)),
    button(place, 'guard', 'Release', `Take the ${plural(held.length, 'server')} that the guard holds in ${svc.backend} out of traffic?`, `/api/v1/guard/${encodeURIComponent(svc.backend)}/release`, `pointsman guard release ${svc.backend}`));
}

// pauseFor is how long the page pauses a service. The command has other times.
const pauseFor = 30; // seconds

// pause says that new requests wait, and until when; without a pause there is the button.
function pause(svc, place) {
  const { until, applied, problem, modified_by: by, reason } = svc.pause ?? {};
  const path = `/api/v1/service/${encodeURIComponent(svc.name)}/`;
  const name = /^[\w.:@-]+$/.test(svc.name) ? svc.name : 'SERVICE'; // a shell would run what is in it
  if (!until) {
    return place.pausable.has(svc.name) && h('p', null, button(place, 'pause', 'Pause', `Let new requests of ${svc.name} wait for ${pauseFor} s on all load balancers? Requests that are at servers end as usual. After that time the waiting requests continue.`,
      `${path}pause?hold=${pauseFor}s`, `pointsman pause ${name} --hold ${pauseFor}s`));
  }
  return h('section', { class: problem ? 'note bad' : 'note' },
    h('h3', null, 'Paused'),
    h('p', null, applied ? 'New requests wait in HAProxy' : problem ? `Not applied: ${problem}` : 'Not applied yet', ', until ', new Date(until).toLocaleTimeString('en-GB'), ` (${span((new Date(until) - Date.now()) / 1000)} left). Paused by ${by}.`,
      reason && ` Reason: ${reason}`),
    button(place, 'pause', 'Resume', `End the pause of ${svc.name} on all load balancers?`, path + 'resume', `pointsman resume ${name}`));
}

function versions(sum) {
  return table('Versions', [['Version'], ['Take traffic', 'number'], ['Share of the weight'], ['Sessions', 'number'], ['Instances']],
    sum.versions.map((v) => [
      v.label, `${number(v.live)} of ${number(v.total)}`,
      meter(sum.weight ? v.weight / sum.weight : 0, `Share of ${v.label}`), number(v.sessions), phasePills(v.phases),
    ]));
}

// keep gives the button that keeps an instance in drain, or ends that.
function keep(i, svc, place) {
  if (i.drain_refused && !i.operator_drain) return null;
  const name = i.id || i.server;
  const path = `/api/v1/server/${encodeURIComponent(svc.name)}/${encodeURIComponent(name)}/`;
  return i.operator_drain
    ? button(place, 'drain', 'Ready', `End the drain of ${name} of ${svc.name}?`, path + 'ready', `pointsman ready ${argument(i, svc)}`)
    : button(place, 'drain', 'Drain', `Keep ${name} of ${svc.name} in drain? It gets no new requests until that is ended.`, path + 'drain', `pointsman drain ${argument(i, svc)}`);
}

// answers says whose answers the clients of a backend got.
const answers = (a) => [
  h('h3', null, 'Whose answers ', h('small', null, 'since the worker began')),
  h('ul', { class: 'plain', id: 'answers' },
    h('li', null, `5xx: ${number(a['5xx'])}, of these ${number(a.service_5xx)} by servers that are there now. By HAProxy: no server up, queue or connection ${number(a.no_server)}, answer broken or late ${number(a.broken)}.`),
    h('li', null, `4xx: ${number(a['4xx'])}, of these ${number(a.service_4xx)} by servers that are there now. Denied by HAProxy's rules, with any status: ${number(a.denied)}.`)),
];

// weight gives the one in effect, and where it is not Consul's, that and why. During a slow
// start HAProxy's counters have less.
function weight(i, counted) {
  const slow = takes(i) && counted?.slow_start_percent > 0 && counted;
  const now = slow ? slow.weight : i.weight_reason ? i.effective_weight : i.weight;
  return [number(now), slow && h('small', null, `of ${number(i.effective_weight)}: slow start, ${slow.slow_start_percent} %`),
    i.weight_reason && h('small', null, `Consul's ${number(i.consul_weight)}: ${i.weight_reason}`)];
}

function instances(rows, svc, place) {
  return table('Instances', [['Instance'], ['Version'], ['Phase'], ['Address'], ['Weight', 'number'], ['Sessions', 'number'], ['Consul'], ['Why it gets no traffic, or waits', 'wide']],
    rows.map((i) => [
      [i.id || i.server, i.node && h('small', null, `on ${i.node}`), i.id && i.server !== i.id && h('small', null, `server ${i.server}`)],
      i.version || h('span', { class: 'quiet' }, '–'), [pill(kinds[i.phase] ?? 'off', i.phase), since(i.since), i.leaving && h('small', null, 'leaving'), i.backup && h('small', null, 'backup'), ' ', keep(i, svc, place)],
      [h('code', null, i.address), i.moves_to && h('small', null, `moves to ${i.moves_to}`)], weight(i, place.counted?.get(i.server)), number(i.sessions), healths[i.health] ? pill(healths[i.health], i.health) : i.health,
      i.own ? 'as HAProxy decides: a server of the operator\'s own, left alone' : [i.reason, i.damped_until && [' (', span((new Date(i.damped_until) - Date.now()) / 1000), ' left)'], i.consul_check && h('small', null, `Consul's check: ${i.consul_check}`)],
    ]));
}

export function deployments(s, place, happened, all, recorded, shared) {
  const found = (name) => matches(place.query.q ?? '', name);
  const known = (recorded?.services ?? []).filter((r) => found(r.service) && (r.problem || r.deployments.length));
  const rows = s.services.map((svc) => [svc, summary(svc)])
    .filter(([svc, sum]) => isDeploying(sum) && found(svc.name))
    .sort(([a], [b]) => byName.compare(a.name, b.name));
  const underWay = known.filter((r) => r.deployments[0]?.state === 'under_way');
  const last = known.flatMap((r) => r.deployments.slice(r.deployments[0]?.state === 'under_way' ? 1 : 0).map((d) => ({ ...d, undo: d.id === r.undo_id && r.undo_version }))).toSorted((a, b) => new Date(b.started) - new Date(a.started));
  const sharing = (shared?.rollouts ?? []).filter((r) => isThere(r) && found(r.service));
  return [
    sharing.length > 0 && [h('h2', null, 'Rollouts ', h('small', null, number(sharing.length))), sharing.slice(0, perPage).map((r) => [rollout(r, s, place), s.services.filter((x) => x.name === r.service).map((x) => everywhere(all, x))])],
    shared?.error && h('p', { class: 'note bad' }, `The rollouts cannot be read: ${shared.error}`),
    underWay.length > 0 && [h('h2', null, 'Under way ', h('small', null, number(underWay.length))), underWay.map((r) => steps(s, r.deployments[0], all))],
    h('h2', null, 'On this load balancer ', h('small', null, number(rows.length))),
    h('p', { class: 'quiet' }, 'Services with more than one version, or with instances that leave.'),
    rows.length ? paged(rows, place, (shown) => shown.map(deployment)) : h('p', { class: 'empty' }, 'None: each service has one version, and no instance leaves.'),
    known.filter((r) => r.problem).map((r) => h('p', { class: 'note bad' }, `The record of ${r.service} in Consul cannot be read: ${r.problem}`)),
    recorded?.error && h('p', { class: 'note bad' }, `The records of deployments cannot be read: ${recorded.error}`),
    last.length > 0 && [h('h2', null, 'Last deployments ', h('small', null, number(last.length))), paged(last, place, lastOnes)],
  ];
}

const deploymentKinds = { under_way: 'busy', done: 'good', failed: 'bad', lost: 'bad' };
const outcome = (d) => ({ under_way: 'under way', lost: 'ended without a result' })[d.state] ?? d.outcome;
const change = (d) => [d.old_version && d.old_version !== d.version && `${d.old_version} → `, d.version, d.undoes && h('small', null, ' undo')];
const between = (from, to) => span((new Date(to) - new Date(from)) / 1000);

// steps shows a deployment that is under way: what is done, what it waits for, and
// what happens when the time is over.
function steps(s, d, all) {
  const current = d.steps.findLastIndex((x) => !x.ended);
  const svc = s.services.filter((x) => x.name === d.service);
  return h('section', { class: 'card', id: `deployment-${d.id}` },
    h('h3', null, serviceLink(d.service), ' ', change(d), ' ', pill(deploymentKinds[d.state] ?? 'bad', outcome(d))),
    h('p', { class: 'quiet' }, `Started by ${d.by}, `, ago(d.started), '.'),
    h('ol', { class: 'steps' }, d.steps.map((x, i) => h('li', { 'aria-current': i === current ? 'step' : null, class: x.failed ? 'bad' : x.ended ? 'good' : 'busy' },
      h('b', null, x.name), x.detail && `: ${x.detail}`, ' ',
      x.ended ? h('small', null, between(x.started, x.ended)) : [h('small', null, between(x.started, Date.now())),
        x.deadline && h('small', { class: 'deadline' }, `${between(Date.now(), x.deadline)} left, then: ${x.at_deadline}`)]))),
    d.load_balancers.length > 0 && table('Progress', [['Load balancer'], ['New instances live'], ['Old instances drained'], ['Blocked by', 'wide']], d.load_balancers.map((b) => [
      b.name, progress(b.live, b.want, `live on ${b.name}`), b.of > 0 ? progress(b.drained, b.of, `drained on ${b.name}`) : '–',
      b.trouble ? pill('bad', `not reachable: ${b.trouble}`) : b.waits ?? (b.live < b.want ? `${number(b.want - b.live)} of ${d.version} not live yet` : ''),
    ])),
    svc.map((x) => everywhere(all, x)),
    d.problems.length > 0 && h('ul', null, d.problems.map((p) => h('li', { class: 'bad' }, p))));
}

const progress = (n, of, label) => h('span', { class: 'share' },
  h('progress', { max: of || 1, value: n, 'aria-label': label }), h('span', { class: 'number' }, `${number(n)} of ${number(of)}`));

function lastOnes(rows) {
  return table('Last deployments', [['Service'], ['Version'], ['Result'], ['Took', 'number'], ['Started'], ['By'], ['Why', 'wide']], rows.map((d) => [
    d.service, change(d), pill(deploymentKinds[d.state] ?? 'bad', outcome(d)), span(d.took_ms / 1000), ago(d.started), d.by, [d.problems.slice(0, 2).map((p) => h('small', null, p)), d.undo && undoing(d)],
  ]));
}

// undoing is how a deployment is taken back: its commands are on the machine that made it.
const undoing = (d) => h('small', { class: 'undo' }, `Back to ${d.undo}, with the commands of the deployment: `,
  h('code', null, `pointsman deploy undo --service ${/^[\w.:@-]+$/.test(d.service) ? d.service : 'SERVICE'} --start CMD --stop CMD`));

function deployment([svc, sum]) {
  const left = holders(svc).sort((a, b) => b.sessions - a.sessions);
  const most = 10;
  return h('section', { class: 'card' },
    h('h3', null, serviceLink(svc.name, svc.backend)),
    h('div', { class: 'sides' }, sum.versions.toReversed().map((v) => h('div', { class: 'side' },
      h('h4', null, v.label), meter(sum.weight ? v.weight / sum.weight : 0, `Share of ${v.label}`),
      h('p', null, `${number(v.live)} of ${number(v.total)} take traffic, ${plural(v.sessions, 'session')}`), phasePills(v.phases)))),
    left.length > 0 && [h('h4', null, 'Not drained yet'),
      h('ul', { class: 'plain' }, left.slice(0, most).map((i) => h('li', null, h('b', null, i.id || i.server), ` ${i.version ?? ''}: ${plural(i.sessions, 'session')}`, i.reason && h('small', null, i.reason))),
        left.length > most && h('li', { class: 'quiet' }, `and ${number(left.length - most)} more`))]);
}

// events shows what happened, the newest first.
export function events(s, place, happened) {
  const { q = '', problems } = place.query;
  const rows = happened.list.filter((e) => (!problems || isTrouble(e)) && matches(q, e.kind, words(e.kind), e.service, e.backend, e.server, e.instance, e.reason, e.detail, e.error)).reverse();
  return [
    h('h2', null, 'Events ', h('small', null, number(rows.length))),
    happened.missed && h('p', { class: 'quiet' }, 'Some events came too fast to be kept, or are of a sidecar that has ended.'),
    rows.length ? paged(rows, place, eventTable) : h('p', { class: 'empty' }, happened.list.length ? 'No event matches.' : 'Nothing has happened since the sidecar started.'),
  ];
}

const isTrouble = (e) => e.error || troubles.has(e.kind) || e.detail === 'critical';
const words = (kind) => kind.replaceAll('_', ' ').replace('haproxy', 'HAProxy').replace('consul', 'Consul');

function eventTable(rows) {
  return table('Events', [['Time'], ['Event'], ['Service'], ['Server'], ['What and why', 'wide']], rows.map((e) => {
    const at = new Date(e.at);
    return [
      h('time', { datetime: e.at, title: at.toLocaleString() }, at.toLocaleTimeString('en-GB') + '.' + String(at.getMilliseconds()).padStart(3, '0')),
      isTrouble(e) ? pill('bad', words(e.kind)) : words(e.kind),
      e.service && serviceLink(e.service, e.backend), [e.server || e.instance, e.instance && e.instance !== e.server && e.server && h('small', null, e.instance)],
      [e.detail, e.reason && !e.detail?.startsWith(e.reason) && [e.detail && ', ', e.reason.replaceAll('_', ' ')], e.error && h('small', null, e.error)],
    ];
  }));
}
