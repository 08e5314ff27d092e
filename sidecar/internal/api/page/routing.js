// The views of what leads clients to services: routes and certificates.
import { ago, h, span, table } from './dom.js';
import { byName, matches, takes } from './model.js';
import { number, paged, pill, serviceLink } from './views.js';

export function routes(s, place) {
  if (!s.frontends?.length) return [h('h2', null, 'Routes'), h('p', { class: 'empty' }, 'No frontend with routes is configured.')];
  return [s.frontends.map((f) => frontend(s, f, place)), refused(s.route_problems ?? [], place)];
}

// refused shows the claims of services in Consul that are not followed, with the reason.
function refused(all, place) {
  const wrong = all.filter((p) => matches(place.query.q ?? '', p.frontend ?? '', p.service, p.claim, p.owner ?? '', p.reason));
  return wrong.length > 0 && note('Claims that are refused', wrong, (p) => [
    h('b', null, p.service), p.claim && [' claims ', h('code', null, p.claim)], p.frontend && ` of frontend ${p.frontend}`, `: ${p.reason}`, p.owner && ` (${p.owner})`]);
}

// note lists what is wrong, at most a hundred.
function note(title, wrong, item) {
  const most = 100;
  return h('section', { class: 'note bad' }, h('h3', null, title),
    h('ul', null, wrong.slice(0, most).map((p) => h('li', null, item(p))), wrong.length > most && h('li', { class: 'quiet' }, `and ${number(wrong.length - most)} more`)));
}

// frontend shows the routes of one, and whether HAProxy's map has them.
function frontend(s, f, place) {
  const { q = '', problems } = place.query;
  const backends = new Map(s.services.map((svc) => [svc.backend, svc]));
  const all = f.default ? [...f.routes, { backend: f.default, isDefault: true, source: 'settings' }] : f.routes;
  const rows = all.filter((r) => matches(q, f.name, at(r), r.backend, r.source) && (!problems || f.error || !live(backends.get(r.backend))));
  return [
    h('h2', null, 'Frontend ', f.name, ' ', h('small', null, `${number(f.routes.length)} route${f.routes.length === 1 ? '' : 's'}`), ' ', mapState(f)),
    f.error && h('p', { class: 'note bad' }, `HAProxy does not have these routes: ${f.error}`),
    rows.length ? paged(rows, place, (shown) => routeTable(shown, backends, f.withheld ?? [])) : h('p', { class: 'empty' }, 'No route matches.'),
    !f.default && h('p', { class: 'quiet' }, 'Other requests get 404.'),
  ];
}

const mapState = (f) => (f.error ? pill('bad', '✕ not applied') : f.applied ? [pill('good', '✓ in HAProxy\'s map'), h('small', null, ' ', ago(f.applied))] : pill('busy', '… not seen in HAProxy yet'));

const at = (r) => (r.isDefault ? 'otherwise' : r.path === '/' ? `${r.host}/` : r.host + r.path);
const live = (svc) => (svc?.instances ?? []).filter(takes).length;

function routeTable(rows, backends, withheld) {
  return table('Routes', [['Host and path'], ['Service'], ['Take traffic', 'number'], ['Only if'], ['Defined by']], rows.map((r) => {
    const svc = backends.get(r.backend);
    const conditions = [r.methods?.length && `method ${r.methods.join(' or ')}`, ...(r.headers ?? []).map((x) => `header ${x}`)].filter(Boolean);
    return [
      [h('code', null, at(r)), r.strip > 0 && h('small', null, 'the path is taken off')],
      svc ? serviceLink(svc.name, svc.backend) : r.backend,
      withheld.includes(r.backend) ? pill('busy', '… not led there yet: no server is up') : svc ? live(svc) ? `${number(live(svc))} of ${number(svc.instances.length)}` : pill('bad', `0 of ${number(svc.instances.length)}`) : 'unknown',
      conditions.join(', '), r.source,
    ];
  }));
}

// soon is how long before its end a certificate is shown as a problem: those of most
// authorities are renewed 30 days before.
const soon = 14 * 86400 * 1000;
const left = (c) => new Date(c.not_after) - Date.now();

export function certificates(s, place) {
  const { q = '', problems } = place.query;
  const rows = (s.certificates ?? []).filter((c) => (!problems || left(c) < soon) && matches(q, c.backend, c.name, c.file, ...(c.hosts ?? [])))
    .toSorted((a, b) => left(a) - left(b) || byName.compare(a.name, b.name));
  const wrong = (s.certificate_problems ?? []).filter((p) => matches(q, p.backend, p.file, p.error));
  return [
    h('h2', null, 'Certificates ', h('small', null, number(rows.length))),
    wrong.length > 0 && note('Cannot be used', wrong, (p) => [h('b', null, p.file), ` of ${p.backend}: ${p.error}`]),
    rows.length ? paged(rows, place, certificateTable)
      : h('p', { class: 'empty' }, s.certificates?.length ? 'No certificate matches.' : 'No service has a directory of certificates (certificates.directory), and no bind line names one (crt).'),
  ];
}

function certificateTable(rows) {
  return table('Certificates', [['Certificate'], ['Service'], ['Hosts'], ['Expires'], ['File']], rows.map((c) => [
    c.name, serviceLink(c.backend), hosts(c.hosts ?? []), [pill(left(c) <= 0 ? 'bad' : left(c) < soon ? 'busy' : 'good', left(c) <= 0 ? 'expired' : `in ${span(left(c) / 1000)}`),
      h('small', null, h('time', { datetime: c.not_after }, new Date(c.not_after).toLocaleString()))],
    h('code', null, c.file),
  ]));
}

const hosts = (names) => [names.slice(0, 5).join(', '), names.length > 5 && h('small', null, `and ${number(names.length - 5)} more`)];
