// Makes and updates the page. Text from the catalog is hostile: it becomes text
// nodes and attribute values, and never markup.

// h makes an element. Attributes that are null, undefined or false are left out.
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? '' : value);
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(element, child);
    else if (child instanceof Node) element.append(child);
    else if (child !== null && child !== undefined && child !== false) element.append(document.createTextNode(String(child)));
  }
}

// show makes the children of an element equal to new ones. What is the same
// stays: the focus, a selection and the place in the page survive an update.
export function show(element, ...children) {
  const next = document.createDocumentFragment();
  append(next, children);
  patchChildren(element, next);
}

function patch(now, next) {
  if (now.nodeType !== next.nodeType || now.nodeName !== next.nodeName) {
    now.replaceWith(next);
    return;
  }
  if (now.nodeType === Node.TEXT_NODE) {
    if (now.data !== next.data) now.data = next.data;
    return;
  }
  for (const { name } of [...now.attributes]) if (!next.hasAttribute(name)) now.removeAttribute(name);
  for (const { name, value } of next.attributes) if (now.getAttribute(name) !== value) now.setAttribute(name, value);
  patchChildren(now, next);
}

function patchChildren(now, next) {
  const have = [...now.childNodes];
  const want = [...next.childNodes];
  want.forEach((child, i) => (i < have.length ? patch(have[i], child) : now.append(child)));
  have.slice(want.length).forEach((child) => child.remove());
}

// table makes one that a phone shows as a list of cards: each cell has its
// column's name. Columns are [name, kind]; rows are lists of cells.
export function table(caption, columns, rows) {
  return h('table', null,
    h('caption', { class: 'hidden' }, caption),
    h('thead', null, h('tr', null, columns.map(([name, kind]) => h('th', { scope: 'col', class: kind }, name)))),
    h('tbody', null, rows.map((cells) => h('tr', null, cells.map((cell, i) =>
      h(i === 0 ? 'th' : 'td', { scope: i === 0 ? 'row' : null, class: columns[i][1], 'data-name': columns[i][0] }, cell))))));
}

// ago makes a point in time; Go's zero time is none.
export function ago(text, none = 'never') {
  const at = new Date(text);
  if (!text || Number.isNaN(at.getTime()) || at.getUTCFullYear() < 1971) return none;
  return h('time', { datetime: at.toISOString(), title: at.toLocaleString() }, span((Date.now() - at) / 1000) + ' ago');
}

// since says since when something is as it is, and how long that is; null for no time.
export function since(text) {
  const at = new Date(text);
  if (!text || Number.isNaN(at.getTime())) return null;
  const isToday = at.toDateString() === new Date().toDateString();
  const day = isToday ? '' : at.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' }) + ' ';
  return h('small', null, 'since ', h('time', { datetime: at.toISOString(), title: at.toLocaleString() }, day + at.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' })),
    `, ${span((Date.now() - at) / 1000)}`);
}

// span says how long something took, in seconds.
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

export function bytes(n) {
  return n >= 1 << 30 ? `${(n / (1 << 30)).toFixed(1)} GB` : `${Math.round(n / (1 << 20))} MB`;
}
