// Keeps the page up to date: reads the place from the address, the state from
// /api/v1/state, and shows one view.
import { listen, offered } from './actions.js';
import { Charts } from './charts.js';
import { show, span } from './dom.js';
import { certificates, routes } from './routing.js';
import { deployments, events, facts, overview, service, verdict } from './views.js';

const at = (id) => document.getElementById(id);
let token = ''; // only here: it is gone with the page

// pace is how often the state is asked for, in milliseconds. A state that takes
// long to get is asked for less often: this many times as long. A change under
// way is looked at sooner, as the status says.
const pace = { behind: 500 };
const usualPace = 2000;
const restraint = 20;

let state = null; // the newest
let received = 0; // when it was last confirmed
let etag = '';

// happened are the events, the oldest first; kept bounds how many.
const happened = { list: [], last: 0, missed: false };
const kept = 1000;

// place reads the address: #/service/NAME?q=&problems=1&page=2.
function place() {
  const [path, search = ''] = (location.hash.slice(1) || '/').split('?');
  const query = Object.fromEntries(new URLSearchParams(search));
  let name = '';
  try {
    name = path.startsWith('/service/') ? decodeURIComponent(path.slice('/service/'.length)) : '';
  } catch { /* no name */ }
  return { path, query, name, actions: state ? offered(state, Boolean(token)) : new Map(), pausable: new Set(state?.pausable), page: Number.parseInt(query.page, 10) || 1 };
}

function draw() {
  const p = place();
  for (const a of at('nav').children) {
    if (a.getAttribute('href') === '#' + p.path) a.setAttribute('aria-current', 'page');
    else a.removeAttribute('aria-current');
  }
  if (document.activeElement !== at('search')) at('search').value = p.query.q ?? '';
  at('problems').checked = Boolean(p.query.problems);
  if (!state) return;
  const v = verdict(state);
  at('filter').hidden = false;
  at('verdict').className = v.kind;
  show(at('status'), v.line);
  show(at('reasons'), v.reasons);
  at('name').textContent = state.load_balancer;
  at('version').textContent = `Pointsman ${state.version}`;
  document.title = `${v.word}: ${state.load_balancer}`;
  icon(v.kind);
  const view = p.name ? service : { '/deployments': deployments, '/events': events, '/routes': routes, '/certificates': certificates }[p.path] ?? overview;
  show(at('facts'), view === overview && facts(state, p));
  show(at('view'), view(state, p, happened, fleet.is, recorded.is, shared.is, charts.isOpen() ? count : null));
  charts.draw(counted()[0]?.name, state.load_balancer);
}

// charts are those of the service that is shown: what HAProxy counts of it.
const charts = new Charts(at('charts'));
const count = { isUnderWay: false, asked: 0, spacing: 0, servers: new Map(), answers: new Map() }; // by backend: counters by server, and whose answers clients got
const countPace = 2000;

// counted gives the backends of the service that is shown, if one is.
function counted() {
  const { name } = place();
  const service = name && state?.services.find((x) => x.backend === name || x.name === name)?.name;
  return state?.services.filter((x) => service && x.name === service) ?? [];
}

// lookAtCounters asks for HAProxy's counters of the service that is shown: less often
// where its instances are so numerous that the answer takes long.
async function lookAtCounters() {
  const [svc] = counted();
  if (!svc || !charts.isOpen() || count.isUnderWay || performance.now() - count.asked < Math.max(countPace - 100, count.spacing)) return;
  count.isUnderWay = true;
  const begun = performance.now();
  count.asked = begun;
  try {
    const response = await ask(`/api/v1/counters/${encodeURIComponent(svc.name)}`, {}, AbortSignal.timeout(15000));
    if (!response.ok) return;
    const { instances, answers = [] } = await response.json();
    count.answers = new Map(answers.map((a) => [a.backend, a]));
    count.servers = new Map(state.services.filter((x) => x.name === svc.name).map((x) => [x.backend, new Map()]));
    for (const i of instances) count.servers.get(i.backend)?.set(i.server, i);
    charts.note(svc.name, state.services.filter((x) => x.name === svc.name), instances, performance.now());
    charts.draw(counted()[0]?.name, state.load_balancer);
  } catch { /* the state tells of a sidecar that is away */ } finally {
    count.isUnderWay = false;
    count.spacing = restraint * (performance.now() - begun);
  }
}

// shared is how the versions of services share the traffic, as Consul has it.
const shared = { is: null, asked: 0 };

async function lookAtRollouts() {
  const p = place().path;
  const isOpen = shared.is?.rollouts?.some((r) => r.document?.state === 'running');
  if (!(p === '/deployments' || p.startsWith('/service/')) || performance.now() - shared.asked < (isOpen ? 900 : 2000)) return;
  shared.asked = performance.now();
  try {
    const response = await ask('/api/v1/rollouts', {}, AbortSignal.timeout(15000));
    const body = await response.json();
    shared.is = response.ok ? body : { rollouts: shared.is?.rollouts ?? [], error: body.error };
    draw();
  } catch { /* the state tells of a sidecar that is away */ }
}

// recorded is what was deployed, as Consul has it.
const recorded = { is: null, asked: 0 };

async function lookUp() {
  const isOpen = recorded.is?.services?.some((r) => r.deployments[0]?.state === 'under_way');
  if (place().path !== '/deployments' || performance.now() - recorded.asked < (isOpen ? 900 : 2000)) return;
  recorded.asked = performance.now();
  try {
    const response = await ask('/api/v1/deployments', {}, AbortSignal.timeout(15000));
    const body = await response.json();
    recorded.is = response.ok ? body : { services: recorded.is?.services ?? [], error: body.error };
    draw();
  } catch { /* the state tells of a sidecar that is away */ }
}

// fleet is all load balancers, as this sidecar last found them.
const fleet = { is: null, asked: 0 };
const fleetPace = 3000;

// look asks for all load balancers, beside the state: one may take its time.
async function look() {
  const p = place().path;
  if (performance.now() - fleet.asked < fleetPace || !(p === '/' || p.startsWith('/service/') || p === '/deployments')) return;
  fleet.asked = performance.now();
  try {
    const response = await ask('/api/v1/fleet', {}, AbortSignal.timeout(15000));
    if (!response.ok) return;
    fleet.is = await response.json();
    draw();
  } catch { /* the state tells of a sidecar that is away */ } finally {
    fleet.asked = performance.now();
  }
}

// icon colours the tab as the verdict is.
function icon(kind) {
  const colour = { good: '1a7f4b', busy: 'b26b00', bad: 'c62f3b' }[kind];
  const svg = `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><circle cx='8' cy='8' r='7' fill='%23${colour}'/></svg>`;
  const href = 'data:image/svg+xml,' + svg;
  if (at('icon').getAttribute('href') !== href) at('icon').setAttribute('href', href);
}

// ask asks the API with the token that was given, if one was.
function ask(path, headers = {}, signal = undefined, method = 'GET') {
  if (token) headers.Authorization = `Bearer ${token}`;
  return fetch(path, { method, headers, signal, cache: 'no-store' });
}

async function refresh() {
  const response = await ask('/api/v1/state', etag ? { 'If-None-Match': etag } : {}, AbortSignal.timeout(30000));
  if (response.status === 401) {
    at('ask').hidden = false;
    throw new Error('the bearer token is needed');
  }
  if (response.status !== 304) {
    const body = await response.json();
    if (!response.ok) throw new Error(body.error);
    state = body;
    etag = response.headers.get('ETag') ?? '';
  }
  at('ask').hidden = true;
  received = Date.now();
}

// states reads the stream of the state: the whole at first, then what has changed. It
// goes on after the last one when it ends; until then the state is asked for.
const states = { id: '', isLive: false };

async function followState(signal) {
  const response = await ask('/api/v1/state/stream', states.id ? { 'Last-Event-ID': states.id } : {}, signal);
  if (!response.ok) throw new Error(response.statusText);
  try {
    await read(response.body.pipeThrough(new TextDecoderStream()).getReader(), (blocks) => {
      for (const block of blocks) {
        const data = block.indexOf('data: ');
        if (data < 0) continue;
        merge(JSON.parse(block.slice(data + 6)));
        states.id = /^id: (.*)$/m.exec(block)?.[1] ?? '';
      }
      states.isLive = Boolean(state);
      received = Date.now(); // also a comment says that this is still the state
      tell('');
      if (blocks.some((b) => b.includes('data: '))) paint();
    });
  } finally {
    states.isLive = false;
  }
}

function merge(delta) {
  const known = new Map((state?.services ?? []).map((s) => [s.backend, s]));
  const order = delta.backends ?? [...known.keys()];
  for (const s of delta.services) known.set(s.backend, s);
  state = { ...delta.state, services: order.map((b) => known.get(b)).filter(Boolean) };
  etag = '';
}

// paint draws once for each frame at most.
let isDue = false;
function paint() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    draw();
    look();
    lookUp();
    lookAtRollouts();
    lookAtCounters();
  });
}

// tell says whether the page shows the state of now.
function tell(trouble) {
  at('trouble').hidden = !trouble || !at('ask').hidden;
  const text = trouble ? `The sidecar does not answer: ${trouble}.${state ? ` What follows is ${span((Date.now() - received) / 1000)} old.` : ''}` : '';
  if (at('trouble').textContent !== text) at('trouble').textContent = text;
  at('fresh').textContent = trouble ? 'not live' : 'live';
  document.body.classList.toggle('stale', Boolean(trouble));
}

let timer = 0;
let running = false;
let asked = 0; // when the state was last asked for
let spacing = 0; // how long after that it may be asked for again
let isNews = false; // something has happened since

async function tick() {
  if (running) return;
  running = true;
  clearTimeout(timer);
  asked = performance.now();
  isNews = false;
  let trouble = '';
  try {
    // A stream says at least every 15 s that it lives.
    if (!states.isLive || Date.now() - received > 20000) await refresh();
    look();
    lookUp();
    lookAtRollouts();
    lookAtCounters();
  } catch (error) {
    trouble = error.message;
  }
  try {
    draw();
  } finally {
    tell(trouble);
    running = false;
    spacing = states.isLive ? 200 : Math.max(200, restraint * (performance.now() - asked));
    if (!document.hidden) timer = setTimeout(tick, isNews ? spacing : Math.max(pace[state?.verdict.status] ?? usualPace, spacing));
  }
}

// soon asks for the state earlier than else, because something has happened.
function soon() {
  isNews = true;
  if (running || document.hidden) return;
  clearTimeout(timer);
  timer = setTimeout(tick, asked + spacing - performance.now());
}

function note(events) {
  happened.list.push(...events);
  happened.list.splice(0, happened.list.length - kept);
  if (events.length) happened.last = events.at(-1).seq;
}

let stream = null; // ends the stream of events

// follow reads the events and the state, and goes on after the last ones when a stream
// ends.
function follow() {
  if (stream || document.hidden) return;
  stream = new AbortController();
  again(followEvents, stream.signal);
  again(followState, stream.signal);
}

async function followEvents(signal) {
  if (!happened.last) {
    const response = await ask(`/api/v1/events?limit=${kept}`, {}, signal);
    if (!response.ok) throw new Error(response.statusText);
    const first = await response.json();
    note(first.events);
    happened.last = first.last;
  }
  const response = await ask(`/api/v1/events?follow&after=${happened.last}`, {}, signal);
  if (!response.ok) throw new Error(response.statusText);
  await read(response.body.pipeThrough(new TextDecoderStream()).getReader(), take);
}

// take notes what has happened.
function take(blocks) {
  const events = [];
  for (const block of blocks) {
    if (block.startsWith('event: missed')) happened.missed = true;
    else if (block.includes('data: ')) events.push(JSON.parse(block.slice(block.indexOf('data: ') + 6)));
  }
  if (!events.length) return;
  note(events);
  if (states.isLive) paint();
  else soon();
}

// read takes server-sent events apart, until the stream ends. EventSource would
// do so too, but it cannot show a token.
async function read(reader, take) {
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split('\n\n');
    rest = blocks.pop();
    if (blocks.length) take(blocks);
  }
}

// again runs a stream until the page is left, and begins it again when it ends.
async function again(run, signal) {
  for (let wait = 1000; !signal.aborted; wait = Math.min(2 * wait, 30000)) {
    const begun = Date.now();
    try {
      await run(signal);
    } catch { /* the state tells of a sidecar that is away */ }
    if (Date.now() - begun > 60000) wait = 1000;
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

// filter puts what is searched for into the address, so that it can be shared.
function filter() {
  const query = new URLSearchParams();
  if (at('search').value) query.set('q', at('search').value);
  if (at('problems').checked) query.set('problems', '1');
  history.replaceState(null, '', '#' + place().path + (query.size ? '?' + query : ''));
  draw();
}

at('filter').addEventListener('submit', (e) => e.preventDefault());
at('search').addEventListener('input', filter);
at('problems').addEventListener('change', filter);
at('ask').addEventListener('submit', (e) => {
  e.preventDefault();
  token = at('token').value.trim();
  at('token').value = '';
  tick();
  leave();
  follow();
});
listen((path) => ask(path, {}, AbortSignal.timeout(30000), 'POST'), soon);
at('skip').addEventListener('click', (e) => {
  e.preventDefault();
  at('view').focus();
});
addEventListener('hashchange', () => {
  look();
  lookUp();
  lookAtRollouts();
  lookAtCounters();
  draw();
  scrollTo(0, 0);
});
// leave ends the stream: the sidecar has a bounded number of them.
function leave() {
  stream?.abort();
  stream = null;
}

document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    leave();
    return;
  }
  tick();
  follow();
});
tick();
follow();
