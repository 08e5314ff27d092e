// Keeps the page up to date: reads the place from the address, the state from
// /api/v1/state, and shows one view.
import { show, span } from './dom.js';
import { deployments, facts, overview, service, verdict } from './views.js';

const at = (id) => document.getElementById(id);
const tokenKey = 'pointsman-token';

// pace is how often the state is asked for, in milliseconds. A state that takes
// long to get is asked for less often: this many times as long.
const pace = 2000;
const restraint = 20;

let state = null; // the newest
let received = 0; // when it was last confirmed
let etag = '';

// place reads the address: #/service/NAME?q=&problems=1&page=2.
function place() {
  const [path, search = ''] = (location.hash.slice(1) || '/').split('?');
  const query = Object.fromEntries(new URLSearchParams(search));
  let name = '';
  try {
    name = path.startsWith('/service/') ? decodeURIComponent(path.slice('/service/'.length)) : '';
  } catch { /* no name */ }
  return { path, query, name, page: Number.parseInt(query.page, 10) || 1 };
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
  const view = p.name ? service : p.path === '/deployments' ? deployments : overview;
  show(at('facts'), view === overview && facts(state));
  show(at('view'), view(state, p));
}

// icon colours the tab as the verdict is.
function icon(kind) {
  const colour = { good: '1a7f4b', busy: 'b26b00', bad: 'c62f3b' }[kind];
  const svg = `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><circle cx='8' cy='8' r='7' fill='%23${colour}'/></svg>`;
  const href = 'data:image/svg+xml,' + svg;
  if (at('icon').getAttribute('href') !== href) at('icon').setAttribute('href', href);
}

// ask asks the API with the token that was given, if one was.
function ask(path, headers = {}, signal = undefined) {
  const token = sessionStorage.getItem(tokenKey);
  if (token) headers.Authorization = `Bearer ${token}`;
  return fetch(path, { headers, signal, cache: 'no-store' });
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

// tell says whether what is shown is of now.
function tell(trouble) {
  at('trouble').hidden = !trouble || !at('ask').hidden;
  const text = trouble ? `The sidecar does not answer: ${trouble}.${state ? ` What follows is ${span((Date.now() - received) / 1000)} old.` : ''}` : '';
  if (at('trouble').textContent !== text) at('trouble').textContent = text;
  at('fresh').textContent = trouble ? 'not live' : 'live';
  document.body.classList.toggle('stale', Boolean(trouble));
}

let timer = 0;
let running = false;

async function tick() {
  if (running) return;
  running = true;
  clearTimeout(timer);
  const begun = performance.now();
  let trouble = '';
  try {
    await refresh();
  } catch (error) {
    trouble = error.message;
  }
  try {
    draw();
  } finally {
    tell(trouble);
    running = false;
    if (!document.hidden) timer = setTimeout(tick, Math.max(pace, restraint * (performance.now() - begun)));
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
  sessionStorage.setItem(tokenKey, at('token').value.trim());
  at('token').value = '';
  tick();
});
at('skip').addEventListener('click', (e) => {
  e.preventDefault();
  at('view').focus();
});
addEventListener('hashchange', () => {
  draw();
  scrollTo(0, 0);
});
document.addEventListener('visibilitychange', () => document.hidden || tick());
tick();
