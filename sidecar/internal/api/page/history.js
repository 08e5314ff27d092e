// What HAProxy counts of a service, over time, by version. Nothing here touches the page.
import { summary } from './model.js';

// mostPoints bounds how long it is remembered, mostVersions how many lines a chart has: the
// versions beyond them are one.
export const mostPoints = 300;
export const mostVersions = 8;
export const others = 'others';

// longest is the time without an answer, in milliseconds, over which nothing is said.
const longest = 60000;

// History is that of one service. Each of its points is at a time, in seconds, and has for a
// version: requests and errors a second, the mean response time in milliseconds, the share of
// the requests in percent, and the sessions.
export class History {
  points = [];
  versions = []; // whose lines there are
  colours = new Map(); // the number of each one's colour, which it keeps as long as it has a point
  #last = new Map(); // the newest counters of each instance
  #at = 0;

  // note takes the counters that were asked for at a time of performance.now(), and the
  // backends of the service in the state.
  note(backends, instances, at, now = Date.now()) {
    const passed = at - this.#at;
    const isFirst = !this.#at || passed > longest;
    if (isFirst && this.points.length) this.#add({ at: now / 1000 - 1, of: new Map() }); // the lines break off
    const known = new Map();
    const sums = new Map();
    for (const i of instances) {
      const key = `${i.backend}/${i.server}/${i.node}/${i.instance}`; // the first two have no slash
      const before = this.#last.get(key);
      known.set(key, i);
      const sum = this.#sum(sums, i.version || 'no version');
      if (isFirst || !before) continue;
      const requests = since(before.requests, i.requests);
      sum.requests += requests;
      sum.errors += since(before.errors, i.errors);
      sum.time += requests * i.response_time_ms;
    }
    for (const v of backends.flatMap((svc) => summary(svc).versions)) this.#sum(sums, v.label).sessions += v.sessions;
    this.#last = known;
    this.#at = at;
    const all = [...sums.values()].reduce((n, s) => n + s.requests, 0);
    const of = new Map();
    for (const [version, s] of sums) {
      of.set(version, {
        requests: isFirst ? null : 1000 * s.requests / passed, errors: isFirst ? null : 1000 * s.errors / passed,
        time: s.requests ? s.time / s.requests : null, share: all ? 100 * s.requests / all : null, sessions: s.sessions,
      });
    }
    this.#add({ at: now / 1000, of });
  }

  // line gives a measure of a version at all points; null where there is none.
  line(version, measure) {
    return this.points.map((p) => p.of.get(version)?.[measure] ?? null);
  }

  // value gives a measure of a version at a point, or at the last one; null for none.
  value(version, measure, at = this.points.length - 1) {
    return this.points[at]?.of.get(version)?.[measure] ?? null;
  }

  #sum(sums, version) {
    if (!this.versions.includes(version)) {
      const taken = [...this.colours.values()];
      const free = Array.from({ length: mostVersions - 1 }, (_, n) => n).find((n) => !taken.includes(n));
      if (free === undefined) version = others;
      if (!this.versions.includes(version)) {
        this.versions.push(version);
        this.colours.set(version, free ?? mostVersions - 1);
      }
    }
    if (!sums.has(version)) sums.set(version, { requests: 0, errors: 0, time: 0, sessions: 0 });
    return sums.get(version);
  }

  #add(point) {
    this.points.push(point);
    if (this.points.length <= mostPoints) return;
    this.points.shift();
    this.versions = this.versions.filter((v) => this.points.some((p) => p.of.has(v)) || !this.colours.delete(v));
  }
}

// since is what was counted: a counter that fell began again with a worker.
const since = (before, after) => (after < before ? after : after - before);
