// Draws what HAProxy counts of a service. The charts stay in place while the rest of the
// page is made again: a canvas is not compared.
import { h, show } from './dom.js';
import { History } from './history.js';
import uPlot from './uplot.js';

// mostServices bounds of how many services the page remembers the counters.
const mostServices = 8;
const height = 140; // pixels
const shortest = 60; // seconds that a chart shows at least

const one = (n) => n.toLocaleString('en', { maximumFractionDigits: n < 10 ? 1 : 0 });
const kinds = [
  { measure: 'share', name: 'Share of the requests', unit: ' %', most: 100 },
  { measure: 'requests', name: 'Requests a second', unit: '' },
  { measure: 'errors', name: 'Errors a second', unit: '', about: 'answers 5xx, connections that failed, answers that broke off' },
  { measure: 'time', name: 'Mean response time', unit: ' ms', about: 'HAProxy\'s mean of about the last 512 requests of each server, not of the moment' },
  { measure: 'sessions', name: 'Sessions', unit: '', about: 'in all workers' },
];

// Charts are those of the service that the page shows.
export class Charts {
  #at;
  #services = new Map(); // histories by service, the one looked at last at the end
  #shown = ''; // for which service and versions the charts were made
  #plots = [];
  #history = null;
  #drawn = null; // the newest point that they have

  constructor(at) {
    this.#at = at;
    const redraw = () => this.#plots.forEach((p) => p.redraw());
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
    new ResizeObserver(() => this.#plots.forEach((p) => p.setSize({ width: p.root.parentElement.clientWidth, height }))).observe(at);
    at.addEventListener('toggle', () => this.#fill());
  }

  // isOpen reports whether a person sees them.
  isOpen() { return this.#at.open; }

  // note takes the counters of a service, asked for at a time of performance.now().
  note(name, backends, instances, at) {
    const history = this.#services.get(name) ?? new History();
    this.#services.delete(name);
    this.#services.set(name, history);
    for (const oldest of this.#services.keys()) if (this.#services.size > mostServices) this.#services.delete(oldest);
    history.note(backends, instances, at);
  }

  // draw shows the charts of a service; name is empty for none.
  draw(name, balancer) {
    const history = this.#services.get(name);
    this.#at.hidden = !name;
    if (!name) return;
    show(this.#at.querySelector('summary'), `Traffic of ${name} on ${balancer}`);
    const id = JSON.stringify([name, history?.versions ?? []]);
    if (id !== this.#shown) {
      this.#shown = id;
      this.#history = history ?? null;
      this.#make();
    }
    this.#fill();
  }

  #make() {
    this.#plots.forEach((p) => p.destroy());
    this.#plots = [];
    this.#drawn = null;
    const all = document.getElementById('charts-all');
    all.replaceChildren();
    show(document.getElementById('charts-versions'), (this.#history?.versions ?? []).map((v) => h('li', { class: `line-${this.#history.colours.get(v)}` }, v)));
    if (!this.#history) return;
    const figures = kinds.map((kind) => [kind, h('div', { role: 'img' }), h('span', { class: 'number' })]);
    all.append(...figures.map(([kind, at, values]) => h('figure', null, h('figcaption', null, h('b', null, kind.name), ' ', values), at, kind.about && h('small', null, kind.about))));
    // Only now each has its width.
    for (const [kind, at, values] of figures) {
      const plot = new uPlot(this.#options(kind, at.clientWidth), this.#data(kind), at);
      plot.tell = (index) => {
        const text = this.#history.versions.map((v) => [v, this.#history.value(v, kind.measure, index ?? undefined)])
          .filter(([, n]) => n !== null).map(([v, n]) => `${v}: ${one(n)}${kind.unit}`).join(', ');
        if (values.textContent !== text) values.textContent = text;
        if (index === undefined || index === null) at.setAttribute('aria-label', `${kind.name}, newest: ${text || 'none yet'}`);
      };
      this.#plots.push(plot);
    }
  }

  // fill brings the newest points into the charts, where they are seen.
  #fill() {
    if (!this.#history || !this.#at.open || !this.#history.points.length) return;
    if (this.#drawn === this.#history.points.at(-1)) return;
    this.#drawn = this.#history.points.at(-1);
    this.#plots.forEach((p, i) => {
      p.setData(this.#data(kinds[i]));
      p.tell(p.cursor.idx);
    });
  }

  #data(kind) {
    const { points, versions } = this.#history;
    return [points.map((p) => p.at), ...versions.map((v) => this.#history.line(v, kind.measure))];
  }

  // seconds is the time that the charts show.
  #seconds() {
    const { points } = this.#history;
    const last = points.at(-1)?.at ?? Date.now() / 1000;
    return [Math.min(points[0]?.at ?? last, last - shortest), last];
  }

  #options(kind, width) {
    const colour = (name) => () => getComputedStyle(document.documentElement).getPropertyValue(name);
    const axis = { stroke: colour('--quiet'), font: '11px system-ui, sans-serif', grid: { stroke: colour('--line'), width: 1 }, ticks: { stroke: colour('--line'), width: 1 } };
    return {
      width, height,
      legend: { show: false },
      cursor: { sync: { key: 'charts' }, drag: { x: false, y: false }, y: false },
      hooks: { setCursor: [(u) => u.tell?.(u.cursor.idx)] },
      scales: {
        x: { range: () => this.#seconds() }, // of one point uPlot would make a day
        y: { range: (u, min, max) => [0, kind.most ?? (max > 0 ? 1.1 * max : 1)] },
      },
      axes: [{ ...axis, size: 28, space: 70, values: (u, at) => at.map((t) => new Date(1000 * t).toLocaleTimeString('en-GB').slice(0, t % 60 ? 8 : 5)) }, { ...axis, size: 48, space: 30 }],
      series: [{}, ...this.#history.versions.map((v) => ({ label: v, stroke: colour(`--line-${this.#history.colours.get(v)}`), width: 2, points: { show: false } }))],
    };
  }
}
