// The status page: shows what /api/v1/events tells. The types are those of
// docs/api.md. Nothing is built and nothing is loaded from elsewhere.
// ---- small things ----

const $ = (id) => document.getElementById(id);

// h makes an element: h('li', {class: 'x', onclick: f}, 'text', child).
function h(tag, props, ...children) {
  const el = document.createElement(tag);
  for (const [k, v] of Object.entries(props || {})) {
    if (v === undefined || v === null || v === false) continue;
    if (k.startsWith('on')) el.addEventListener(k.slice(2), v);
    else el.setAttribute(k, v === true ? '' : v);
  }
  el.append(...children.filter((c) => c !== null && c !== undefined));
  return el;
}

const SVG = 'http://www.w3.org/2000/svg';
function s(tag, props, text) {
  const el = document.createElementNS(SVG, tag);
  for (const [k, v] of Object.entries(props || {})) el.setAttribute(k, v);
  if (text !== undefined) el.textContent = text;
  return el;
}

function setText(el, text) {
  if (el.textContent !== text) el.textContent = text;
}
function setAttr(el, name, value) {
  if (value === null) el.removeAttribute(name);
  else if (el.getAttribute(name) !== value) el.setAttribute(name, value);
}

const time = (t) => (t ? Date.parse(t) : 0);

// A clock that agrees with the server's, whatever this machine's says.
let skew = 0;
const now = () => Date.now() + skew;

function duration(sec) {
  if (!(sec >= 0)) return '–';
  if (sec < 0.0095) return `${(sec * 1000).toFixed(1)} ms`;
  if (sec < 0.995) return `${Math.round(sec * 1000)} ms`;
  if (sec < 9.95) return `${sec.toFixed(1)} s`;
  if (sec < 60) return `${Math.floor(sec)} s`;
  if (sec < 3600) return `${Math.floor(sec / 60)}m ${String(Math.floor(sec % 60)).padStart(2, '0')}s`;
  if (sec < 86400) return `${Math.floor(sec / 3600)}h ${String(Math.floor((sec % 3600) / 60)).padStart(2, '0')}m`;
  return `${Math.floor(sec / 86400)}d ${Math.floor((sec % 86400) / 3600)}h`;
}
// age is a duration that grows by whole seconds.
function age(t) {
  if (!t) return '–';
  const sec = Math.max(0, Math.floor((now() - t) / 1000));
  return sec < 60 ? `${sec} s` : duration(sec);
}
const ago = (t) => (t ? `${age(t)} ago` : 'never');
function bytes(n) {
  if (n === null || n === undefined) return '–';
  if (n < 1000) return `${n} B`;
  for (const unit of ['kB', 'MB', 'GB', 'TB']) {
    n /= 1000;
    if (n < 999.5 || unit === 'TB') return `${n < 9.95 ? n.toFixed(1) : Math.round(n)} ${unit}`;
  }
}
const clock = (t) => new Date(t).toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const web = (url) => (/^https?:\/\//.test(url) ? url : null);

const PREPARE = new Set(['resolve_secrets', 'prepare_executor', 'prepare_script']);
const SOURCES = new Set(['get_sources', 'clear_worktree']);
const AFTER = new Set(['after_script', 'cleanup_file_variables']);
function phaseClass(p) {
  if (PREPARE.has(p)) return 'ph-prepare';
  if (SOURCES.has(p)) return 'ph-sources';
  if (/cache|artifacts/.test(p)) return 'ph-transfer';
  if (p.startsWith('step_') || p === 'build_script') return 'ph-script';
  if (AFTER.has(p)) return 'ph-after';
  return 'ph-other';
}
const phaseName = (p) => (p || 'waiting').replace(/^step_/, '').replace(/_on_success$|_on_failure$/, '').replaceAll('_', ' ');

// ---- what is known ----

const known = { status: null, runners: [], jobs: new Map(), finished: [] };
let filterText = '';
let finishedShown = 'all';

// prepare adds to a job what would otherwise be worked out for every frame.
function prepare(j) {
  j.t = { started: time(j.started), stage: time(j.stage_since), output: time(j.last_output), unsent: time(j.log_unsent_since), ended: time(j.ended) };
  j.text = `${j.name} ${j.project} ${j.runner_name} ${j.runner} ${j.stage} ${j.id} ${j.reason || ''}`.toLowerCase();
  return j;
}

const maxFinished = 300;
const apply = {
  snapshot(d) {
    skew = time(d.status.now) - Date.now();
    known.status = d.status;
    known.runners = d.runners;
    known.jobs = new Map(d.jobs.map((j) => [j.run, prepare(j)]));
    known.finished = d.finished.map(prepare).reverse();
  },
  delta(d) {
    if (d.status) {
      skew = time(d.status.now) - Date.now();
      known.status = d.status;
    }
    if (d.runners) known.runners = d.runners;
    for (const j of d.jobs || []) known.jobs.set(j.run, prepare(j));
    for (const run of d.gone || []) known.jobs.delete(run);
    if (d.finished) known.finished = [...d.finished.map(prepare).reverse(), ...known.finished].slice(0, maxFinished);
  },
};

// ---- lists that stay quick however long they are ----

// List shows rows of equal height and keeps only those in sight in the page.
class List {
  // columns: {key, name, class, sort(item), cell() -> {el, set(item)}}
  constructor(host, kind, label, columns, o) {
    this.columns = columns;
    this.o = o;
    this.items = [];
    this.byKey = new Map(); // rows in the page
    this.sort = o.sort || null;
    this.head = h('div', { class: 'tr th', role: 'row' });
    for (const c of columns) {
      const cell = h('div', { class: `td c-${c.key} ${c.class || ''}`, role: 'columnheader' });
      if (c.sort) cell.append(h('button', { type: 'button', onclick: () => this.sortBy(c) }, c.name));
      else cell.append(c.name);
      c.head = cell;
      this.head.append(cell);
    }
    this.rows = h('div', { class: 'rows', role: 'rowgroup' });
    this.empty = h('p', { class: 'empty' }, o.empty);
    this.grid = h('div', { class: kind, role: 'table', 'aria-label': label }, h('div', { role: 'rowgroup', class: 'thead' }, this.head), this.rows);
    this.rows.classList.add('body');
    this.box = h('div', { class: 'card table scroll', tabindex: '0', role: 'region', 'aria-label': `${label}, can be scrolled` }, this.grid, this.empty);
    this.box.addEventListener('scroll', () => draw(), { passive: true });
    host.append(this.box);
    this.measure();
    this.showSort();
  }
  measure() {
    this.height = parseFloat(getComputedStyle(this.rows.closest('.card').firstChild).getPropertyValue('--row')) || 38;
  }
  sortBy(c) {
    const down = this.sort && this.sort.key === c.key ? !this.sort.down : c.down === true;
    this.sort = { key: c.key, down };
    this.showSort();
    changed();
  }
  showSort() {
    for (const c of this.columns) {
      setAttr(c.head, 'aria-sort', this.sort && this.sort.key === c.key ? (this.sort.down ? 'descending' : 'ascending') : null);
    }
  }
  set(items) {
    const c = this.sort && this.columns.find((x) => x.key === this.sort.key);
    if (c) {
      const sign = this.sort.down ? -1 : 1;
      items = items.map((i) => [c.sort(i), i]).sort((a, b) => sign * (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0)).map((p) => p[1]);
    }
    this.items = items;
  }
  // draw brings the rows in sight up to date.
  draw() {
    const n = this.items.length;
    this.empty.hidden = n > 0;
    this.grid.hidden = n === 0;
    if (n === 0) {
      this.rows.replaceChildren();
      this.byKey.clear();
      return;
    }
    this.rows.style.height = `${n * this.height}px`;
    setAttr(this.grid, 'aria-rowcount', String(n + 1));
    const first = Math.max(0, Math.floor(this.box.scrollTop / this.height) - 6);
    const last = Math.min(n, Math.ceil((this.box.scrollTop + this.box.clientHeight) / this.height) + 6);
    const wanted = new Map();
    for (let i = first; i < last; i++) wanted.set(this.items[i].run, i);
    const active = document.activeElement;
    for (const [key, row] of this.byKey) {
      if (wanted.has(key)) continue;
      const at = row.el.contains(active) ? this.items.findIndex((i) => i.run === key) : -1;
      if (at >= 0) wanted.set(key, at); // who reads it keeps it
      else {
        row.el.remove();
        this.byKey.delete(key);
      }
    }
    const order = [...wanted].sort((a, b) => a[1] - b[1]);
    let next = this.rows.firstChild;
    for (const [key, i] of order) {
      let row = this.byKey.get(key);
      if (!row) this.byKey.set(key, (row = this.make()));
      if (row.el === next) next = next.nextSibling;
      else this.rows.insertBefore(row.el, next);
      if (row.at !== i || row.h !== this.height) {
        row.at = i;
        row.h = this.height;
        row.el.style.transform = `translateY(${i * this.height}px)`;
        setAttr(row.el, 'aria-rowindex', String(i + 2));
      }
      for (const set of row.sets) set(this.items[i]);
    }
  }
  make() {
    const row = { el: h('div', { class: 'tr', role: 'row' }), sets: [], at: -1 };
    for (const c of this.columns) {
      const cell = h('div', { class: `td c-${c.key} ${c.class || ''}`, role: 'cell' });
      row.sets.push(c.cell(cell));
      row.el.append(cell);
    }
    return row;
  }
}

// text makes a cell that shows what f says of an item; tone may colour it.
const text = (f, tone) => (cell) => (j) => {
  setText(cell, f(j));
  if (tone) {
    const t = tone(j);
    cell.classList.toggle('warn', t === 'warn');
    cell.classList.toggle('bad', t === 'bad');
  }
};

// titled is text that may be cut and is whole in its tooltip.
const titled = (f) => (cell) => (j) => {
  const t = f(j);
  setText(cell, t);
  setAttr(cell, 'title', t);
};

function jobCell(cell) {
  let run = 0;
  const name = h('button', { class: 'job', type: 'button', onclick: () => openDetail(run) });
  const number = h('span', { class: 'number mono' });
  cell.append(name, number);
  return (j) => {
    run = j.run;
    setText(number, `#${j.id}`);
    setText(name, j.name || `job ${j.id}`);
    setAttr(name, 'title', `${j.name} #${j.id}`);
  };
}

function stageCell(cell) {
  const chip = h('span', { class: 'stage' });
  cell.append(chip);
  return (j) => {
    const name = j.ending ? 'delivering the result' : phaseName(j.stage);
    setText(chip, j.directive ? `${name} (${j.directive})` : name);
    setAttr(chip, 'class', `stage ${j.ending ? 'ph-other' : phaseClass(j.stage)}`);
    setAttr(chip, 'title', j.executor_stage ? `${j.stage}, executor: ${j.executor_stage}` : j.stage);
  };
}

const quietAfter = 10 * 60; // seconds without output that are worth a look
const silence = (j) => (now() - (j.t.output || j.t.started)) / 1000;
const overdue = (j) => j.timeout_seconds > 0 && (now() - j.t.started) / 1000 > 0.8 * j.timeout_seconds;

const running = () => new List($('jobs-list'), 'jobs', 'Running jobs', [
  { key: 'job', name: 'Job', sort: (j) => j.name, cell: jobCell },
  { key: 'project', name: 'Project', sort: (j) => j.project, cell: titled((j) => j.project || `project ${j.project_id}`) },
  { key: 'runner', name: 'Runner', sort: (j) => j.runner_name, cell: titled((j) => j.runner_name || j.runner) },
  { key: 'stage', name: 'Stage', sort: (j) => j.stage, cell: stageCell },
  { key: 'stageage', name: 'In stage', class: 'num', sort: (j) => j.t.stage, cell: text((j) => age(j.t.stage)) },
  { key: 'age', name: 'Running', class: 'num', sort: (j) => j.t.started, cell: text((j) => (overdue(j) ? `▲ ${age(j.t.started)}` : age(j.t.started)), (j) => (overdue(j) ? 'warn' : '')) },
  { key: 'output', name: 'Last output', class: 'num', sort: (j) => j.t.output, cell: text((j) => (silence(j) > quietAfter ? `▲ ${age(j.t.output)}` : age(j.t.output)), (j) => (silence(j) > quietAfter ? 'warn' : '')) },
  { key: 'cpu', name: 'CPU', class: 'num', down: true, sort: (j) => j.cpu_seconds ?? -1, cell: text((j) => (j.cpu_seconds === null ? '–' : duration(j.cpu_seconds))) },
  { key: 'memory', name: 'Memory', class: 'num', down: true, sort: (j) => j.memory_bytes ?? -1, cell: text((j) => bytes(j.memory_bytes)) },
  { key: 'unsent', name: 'Unsent log', class: 'num', down: true, sort: (j) => j.log_unsent_bytes, cell: text((j) => (j.log_unsent_bytes ? bytes(j.log_unsent_bytes) : '–'), (j) => (j.log_send_failures > 2 ? 'bad' : '')) },
], { sort: { key: 'age', down: false }, empty: 'No job runs right now.' });

const RESULTS = { success: ['good', '✓ success'], failed: ['bad', '✕ failed'], canceled: ['idle', '⊘ canceled'], refused: ['warn', '▲ refused'] };
function resultCell(cell) {
  const pill = h('span', { class: 'pill' });
  cell.append(pill);
  return (j) => {
    const [tone, name] = RESULTS[j.result] || ['idle', j.result];
    setText(pill, j.lost ? `${name}, lost` : name);
    setAttr(pill, 'data-tone', j.lost ? 'bad' : tone);
  };
}

function timelineCell(cell) {
  const bar = h('div', { class: 'timeline', role: 'img' });
  cell.append(bar);
  let shown = 0;
  return (j) => {
    if (shown === j.run) return;
    shown = j.run;
    bar.replaceChildren(...j.timeline.map((p) => {
      const seg = h('i', { class: p.failed ? 'ph-failed' : phaseClass(p.phase), title: `${phaseName(p.phase)}: ${duration(p.seconds)}` });
      seg.style.flexGrow = String(Math.max(p.seconds, 0.001));
      return seg;
    }));
    bar.setAttribute('aria-label', j.timeline.length ? `Phases: ${j.timeline.map((p) => `${phaseName(p.phase)} ${duration(p.seconds)}${p.failed ? ' failed' : ''}`).join(', ')}` : 'No phases');
  };
}

const why = (j) => (j.result === 'success' ? '' : [j.reason ? j.reason.replaceAll('_', ' ') : '', j.exit_code ? `exit ${j.exit_code}` : ''].filter(Boolean).join(', '));
const ended = () => new List($('finished-list'), 'finished', 'Recent jobs', [
  { key: 'result', name: 'Result', sort: (j) => j.result, cell: resultCell },
  { key: 'job', name: 'Job', sort: (j) => j.name, cell: jobCell },
  { key: 'project', name: 'Project', sort: (j) => j.project, cell: titled((j) => j.project || `project ${j.project_id}`) },
  { key: 'runner', name: 'Runner', sort: (j) => j.runner_name, cell: titled((j) => j.runner_name || j.runner) },
  { key: 'timeline', name: 'Timeline', cell: timelineCell },
  { key: 'took', name: 'Took', class: 'num', down: true, sort: (j) => j.seconds, cell: text((j) => duration(j.seconds)) },
  { key: 'ended', name: 'Ended', class: 'num', down: true, sort: (j) => j.t.ended, cell: text((j) => ago(j.t.ended)) },
  { key: 'reason', name: 'Why', cell: (cell) => (j) => { setText(cell, why(j)); setAttr(cell, 'title', j.error || why(j)); } },
], { empty: 'No job has ended since this process began.' });

// ---- runners ----

function health(r) {
  const off = time(r.disabled_until);
  if (r.entries === 0) return ['idle', 'leaving'];
  if (off > now()) return ['bad', `▲ off for ${duration((off - now()) / 1000)}`];
  if (!r.healthy) return ['bad', '▲ refused by GitLab'];
  if (r.last_poll_result === 'failed') return ['warn', '▲ no answer'];
  if (r.last_poll_result === 'forbidden') return ['bad', '▲ forbidden'];
  if (!r.last_success) return ['idle', 'not asked yet'];
  return ['good', '✓ healthy'];
}
const limitOf = (r) => {
  const all = known.status ? known.status.config.concurrent : 0;
  return r.limit > 0 ? Math.min(r.limit, all || r.limit) : all;
};

function meterCell(cell) {
  const label = h('span', {});
  const fill = h('i', {});
  cell.append(h('div', { class: 'meter' }, label, h('span', { 'aria-hidden': 'true' }, fill)));
  return (r) => {
    const limit = limitOf(r);
    setText(label, `${r.running} / ${limit || '∞'}`);
    setAttr(label, 'title', r.limit > 0 ? `limit ${r.limit}` : 'no limit of its own');
    fill.style.width = `${limit ? Math.min(100, (100 * r.running) / limit) : 0}%`;
  };
}
const runnerColumns = [
  { key: 'name', name: 'Name', cell: (cell) => { const b = h('strong', {}); const tok = h('span', { class: 'muted mono' }); cell.append(b, ' ', tok); return (r) => { setText(b, r.name || r.runner); setText(tok, r.name ? r.runner : ''); }; } },
  { key: 'executor', name: 'Executor', cell: text((r) => r.executor) },
  { key: 'health', name: 'Health', cell: (cell) => { const pill = h('span', { class: 'pill' }); cell.append(pill); return (r) => { const [tone, name] = health(r); setText(pill, name); setAttr(pill, 'data-tone', tone); }; } },
  { key: 'running', name: 'Jobs / limit', cell: meterCell },
  { key: 'requests', name: 'Requests', class: 'num', cell: text((r) => `${r.requests} / ${r.request_concurrency}`) },
  { key: 'poll', name: 'Last answer', cell: text((r) => (r.last_success ? ago(time(r.last_success)) : 'never')) },
  { key: 'lastjob', name: 'Last job', class: 'num', cell: text((r) => ago(time(r.last_job))) },
  { key: 'url', name: 'GitLab', cell: titled((r) => r.url.replace(/^https?:\/\//, '')) },
];
let runnerRows = [];
function drawRunners() {
  const host = $('runners');
  if (!host.firstChild) {
    host.append(h('div', { role: 'rowgroup' }, h('div', { class: 'tr th', role: 'row' },
      ...runnerColumns.map((c) => h('div', { class: `td c-${c.key} ${c.class || ''}`, role: 'columnheader' }, c.name)))),
    h('div', { class: 'body', role: 'rowgroup' }), h('p', { class: 'empty' }, 'No runner is configured. '));
  }
  const [, body, empty] = host.children;
  empty.hidden = known.runners.length > 0;
  while (runnerRows.length > known.runners.length) runnerRows.pop().el.remove();
  while (runnerRows.length < known.runners.length) {
    const row = { el: h('div', { class: 'tr', role: 'row' }), sets: [] };
    for (const c of runnerColumns) {
      const cell = h('div', { class: `td c-${c.key} ${c.class || ''}`, role: 'cell' });
      row.sets.push(c.cell(cell));
      row.el.append(cell);
    }
    runnerRows.push(row);
    body.append(row.el);
  }
  known.runners.forEach((r, i) => runnerRows[i].sets.forEach((set) => set(r)));
  setText($('runners-count'), String(known.runners.length));
}

// ---- head, notices, slots, configuration ----

const STATES = { starting: 'info', running: 'good', 'graceful-shutdown': 'warn', 'forceful-shutdown': 'bad' };
function drawStatus() {
  const st = known.status;
  setText($('build'), `${st.version} · ${st.system_id}${st.started ? ` · up ${age(time(st.started))}` : ''}`);
  const state = $('state');
  setText(state, st.draining && st.state === 'running' ? 'draining' : st.state.replace('-', ' '));
  setAttr(state, 'data-tone', st.draining ? 'warn' : STATES[st.state] || 'idle');
  const links = $('links');
  const want = st.links.map((l) => l.path).join();
  if (links.dataset.for !== want) {
    links.dataset.for = want;
    links.replaceChildren(...st.links.map((l) => h('a', { href: l.path }, l.name)));
  }
  const sl = st.slots;
  setText($('slots-count'), String(sl.running));
  setText($('slots-total'), String(sl.total));
  setText($('slots-running'), String(sl.running));
  setText($('slots-requesting'), String(sl.requesting));
  setText($('slots-idle'), String(sl.idle));
  const bar = $('slots-bar');
  if (!bar.firstChild) bar.append(h('i', { class: 'run' }), h('i', { class: 'ask' }));
  const all = Math.max(sl.total, sl.running, 1);
  bar.children[0].style.width = `${(100 * sl.running) / all}%`;
  bar.children[1].style.width = `${(100 * sl.requesting) / all}%`;
  setAttr(bar, 'aria-label', `${sl.running} of ${sl.total} slots run a job, ${sl.requesting} ask for one, ${sl.idle} are idle`);
  const machines = st.machines || [];
  $('machines-section').hidden = machines.length === 0;
  $('machines').replaceChildren(...machines.map((m) => h('li', {}, h('strong', {}, String(m.count)), ` ${m.state}`)));
  drawConfig(st.config);
  drawNotices(st);
  document.title = `${sl.running ? `(${sl.running}) ` : ''}glassrunner · ${state.textContent}`;
}

const configRows = new Map();
function drawConfig(c) {
  const facts = [
    ['File', c.path, 'mono'],
    ['Generation', String(c.generation)],
    ['In force since', c.last_success ? `${clock(time(c.last_success))} (${ago(time(c.last_success))})` : 'never'],
    ['Last reload', c.last_error ? `failed ${ago(time(c.last_try))}` : 'succeeded'],
    ['Jobs at once', String(c.concurrent)],
    ['Warnings', String(c.warnings)],
    ['Hash', c.hash ? c.hash.slice(0, 12) : '–', 'mono'],
  ];
  for (const [name, value, cls] of facts) {
    let dd = configRows.get(name);
    if (!dd) {
      configRows.set(name, (dd = h('dd', { class: cls })));
      $('config').append(h('div', {}, h('dt', {}, name), dd));
    }
    setText(dd, value);
  }
}

function drawNotices(st) {
  const list = [];
  if (st.config.last_error) list.push(['bad', 'The last reload failed.', `The configuration before it is in force. ${st.config.last_error}`]);
  if (st.draining) list.push(['warn', 'No more jobs are taken.', `${st.jobs} still ${st.jobs === 1 ? 'runs' : 'run'}.`]);
  for (const r of known.runners) {
    const [tone, name] = health(r);
    if (tone === 'bad') list.push(['bad', `${r.name || r.runner}:`, time(r.disabled_until) > now() ? `GitLab refused it ${r.failures} times in a row; it asks again at ${clock(time(r.disabled_until))}.` : `${name.replace('▲ ', '')}.`]);
    else if (tone === 'warn') list.push(['warn', `${r.name || r.runner}:`, `GitLab at ${r.url} gave no usable answer to the last request for a job.`]);
  }
  const key = JSON.stringify(list);
  const host = $('notices');
  if (host.dataset.for === key) return;
  host.dataset.for = key;
  host.replaceChildren(...list.map(([tone, head, rest]) => h('p', { class: 'notice', 'data-tone': tone }, h('strong', {}, head), h('span', {}, rest))));
}

// ---- charts ----

const charts = [];
let hist = null;
let range = '1h';
const finite = (v) => v !== null && v !== undefined;
const sum = (list) => list.reduce((a, b) => a + (b || 0), 0);
const last = (list) => { for (let i = list.length - 1; i >= 0; i--) if (finite(list[i])) return list[i]; return null; };
const peak = (list) => list.reduce((a, b) => (finite(b) && b > a ? b : a), 0);

// nice returns a round number not below v.
function nice(v, whole) {
  if (!(v > 0)) return 1;
  const p = 10 ** Math.floor(Math.log10(v));
  for (const m of [1, 2, 3, 5, 10]) if (m * p >= v * 0.999) return whole ? Math.max(1, Math.ceil(m * p)) : m * p;
}

// group makes one value of n neighbours, so that it is wide enough to be seen.
function group(list, n, how) {
  if (n === 1) return list;
  const out = [];
  for (let i = 0; i < list.length; i += n) {
    const part = list.slice(i, i + n).filter(finite);
    out.push(part.length ? how(part) : null);
  }
  return out;
}
const middle = (list) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)];

class Chart {
  // o: {name, series: [{key, name, n, kind}], unit(v), headline(hist) -> [value, unit], whole, bars}
  constructor(o) {
    this.o = o;
    this.value = h('span', { class: 'value' }, '–');
    this.svg = s('svg', { role: 'img' });
    this.tip = h('div', { class: 'tip', hidden: true, 'aria-hidden': 'true' });
    this.plot = h('div', { class: 'plot' }, this.svg, this.tip);
    const key = h('div', { class: 'key' });
    if (o.series.length > 1) for (const x of o.series) key.append(h('span', {}, h('i', { class: `sw b${x.n}` }), x.name));
    this.el = h('figure', { class: 'card chart' }, h('figcaption', {}, h('span', { class: 'name' }, o.name), this.value), key, this.plot);
    this.plot.addEventListener('pointermove', (e) => this.point(e));
    this.plot.addEventListener('pointerleave', () => { this.tip.hidden = true; if (this.cursor) this.cursor.setAttribute('visibility', 'hidden'); });
    $('charts').append(this.el);
  }
  draw() {
    const { o, svg } = this;
    const w = this.plot.clientWidth;
    const H = 84, left = 0, right = o.unit === seconds ? 46 : 30, base = H - 15, high = 6;
    if (!hist || w < 40) return;
    const n = hist.jobs_running.length;
    const per = Math.max(1, Math.ceil((n * (o.bars ? 6 : 3)) / (w - right)));
    const lists = o.series.map((x) => group(hist[x.key], per, o.bars ? sum : x.how || peak));
    const count = lists[0].length;
    let max;
    if (o.bars) max = peak(lists[0].map((_, i) => lists.reduce((a, l) => a + (l[i] || 0), 0)));
    else max = Math.max(...lists.map(peak));
    max = nice(Math.max(max, o.least || 0), o.whole);
    const x = (i) => left + ((w - right - left) * i) / Math.max(1, count - (o.bars ? 0 : 1));
    const y = (v) => base - ((base - high) * v) / max;
    svg.setAttribute('viewBox', `0 0 ${w} ${H}`);
    const parts = [];
    for (const v of [0, max / 2, max]) {
      parts.push(s('line', { class: 'grid-line', x1: left, x2: w - right, y1: Math.round(y(v)) + 0.5, y2: Math.round(y(v)) + 0.5 }));
      if (v === 0 || !(o.whole && v % 1)) parts.push(s('text', { x: w - right + 5, y: y(v) + 3.5 }, v === 0 ? '0' : o.unit(v)));
    }
    const t0 = time(hist.start), t1 = t0 + n * hist.step_seconds * 1000;
    parts.push(s('text', { x: left, y: H - 2 }, clock(t0).replace(/:\d\d($| )/, '$1')));
    parts.push(s('text', { x: w - right, y: H - 2, 'text-anchor': 'end' }, clock(t1).replace(/:\d\d($| )/, '$1')));
    if (o.bars) {
      const bw = Math.max(1, x(1) - x(0) - 1);
      const d = o.series.map(() => '');
      for (let i = 0; i < count; i++) {
        let at = 0;
        lists.forEach((l, k) => {
          if (!l[i]) return;
          const y0 = y(at), y1 = Math.min(y(at + l[i]), y0 - 1);
          d[k] += `M${x(i).toFixed(1)} ${y0.toFixed(1)}h${bw.toFixed(1)}V${y1.toFixed(1)}h${(-bw).toFixed(1)}z`;
          at += l[i];
        });
      }
      d.forEach((p, k) => p && parts.push(s('path', { class: `f${o.series[k].n}`, d: p })));
    } else {
      lists.forEach((l, k) => {
        const c = o.series[k];
        let line = '', area = '', open = -1;
        const close = (i) => { if (open >= 0) { if (i - 1 === open) line += 'h1.5'; area += `L${x(i - 1).toFixed(1)} ${base}L${x(open).toFixed(1)} ${base}z`; open = -1; } };
        // Points further apart than the gaps of a quiet runner are still one line.
        for (let i = 0; i <= count; i++) {
          if (i === count || !finite(l[i])) { if (!c.sparse || i === count) close(i); continue; }
          const at = `${x(i).toFixed(1)} ${y(l[i]).toFixed(1)}`;
          line += (open < 0 ? 'M' : 'L') + at;
          area += (open < 0 ? 'M' : 'L') + at;
          if (open < 0) open = i;
        }
        if (!line) return;
        if (c.kind === 'area') parts.push(s('path', { class: `area f${c.n}`, d: area }));
        parts.push(s('path', { class: `line s${c.n} ${c.kind === 'dash' ? 'dash' : ''}`, d: line }));
      });
    }
    this.cursor = s('line', { class: 'cursor', y1: high, y2: base, visibility: 'hidden' });
    svg.replaceChildren(...parts, this.cursor);
    this.state = { lists, count, per, x, w, right };
    const [value, unit] = o.headline(hist);
    this.value.replaceChildren(value, ' ', h('small', {}, unit));
    svg.setAttribute('aria-label', `${o.name}, ${o.said(hist)}`);
  }
  // point shows the values below the pointer.
  point(e) {
    const st = this.state;
    if (!st) return;
    const box = this.plot.getBoundingClientRect();
    const px = Math.min(Math.max(0, e.clientX - box.left), st.w - st.right);
    const i = Math.min(st.count - 1, Math.max(0, Math[this.o.bars ? 'floor' : 'round']((px / (st.w - st.right)) * (st.count - (this.o.bars ? 0 : 1)))));
    const values = this.o.series.map((x, k) => `${x.name} ${finite(st.lists[k][i]) ? this.o.unit(st.lists[k][i]) : '–'}`);
    this.tip.textContent = `${clock(time(hist.start) + i * st.per * hist.step_seconds * 1000)} · ${values.join(' · ')}`;
    this.tip.hidden = false;
    const cx = st.x(i);
    this.cursor.setAttribute('x1', cx);
    this.cursor.setAttribute('x2', cx);
    this.cursor.setAttribute('visibility', 'visible');
    this.tip.style.left = `${Math.max(0, Math.min(cx + 8, st.w - this.tip.offsetWidth))}px`;
  }
}

const plain = (v) => (v >= 10000 ? `${Math.round(v / 1000)}k` : String(Math.round(v * 10) / 10));
const seconds = (v) => (v >= 3600 ? `${Math.round(v / 360) / 10} h` : v >= 60 ? `${Math.round(v / 6) / 10} m` : v >= 1 ? `${Math.round(v * 10) / 10} s` : `${Math.round(v * 1000)} ms`);
const RANGES = { '1h': 'hour', '6h': '6 hours', '24h': '24 hours' };
const inRange = () => `over the last ${RANGES[range]}`;

function makeCharts() {
  charts.push(
    new Chart({
      name: 'Jobs running', unit: plain, whole: true, least: 1,
      series: [{ key: 'jobs_running', name: 'running', n: 1, kind: 'area' }, { key: 'slots', name: 'slots', n: 5, kind: 'dash' }],
      headline: (d) => [plain(known.status ? known.status.jobs : last(d.jobs_running) || 0), `now, ${plain(peak(d.jobs_running))} at most`],
      said: (d) => `${known.status ? known.status.jobs : 0} now, at most ${peak(d.jobs_running)} ${inRange()}`,
    }),
    new Chart({
      name: 'Queue wait', unit: seconds,
      series: [{ key: 'queue_wait_p95_seconds', name: '95 %', n: 4, sparse: true }, { key: 'queue_wait_p50_seconds', name: 'median', n: 2, sparse: true, how: middle }],
      headline: (d) => [finite(last(d.queue_wait_p95_seconds)) ? seconds(last(d.queue_wait_p95_seconds)) : '–', 'lately, 95 %'],
      said: (d) => (finite(last(d.queue_wait_p95_seconds)) ? `95 % of the latest jobs waited at most ${seconds(last(d.queue_wait_p95_seconds))}` : 'no jobs yet'),
    }),
    new Chart({
      name: 'Success rate', unit: plain, whole: true, bars: true,
      series: [{ key: 'jobs_succeeded', name: 'success', n: 1 }, { key: 'jobs_failed', name: 'script failed', n: 4 }, { key: 'jobs_errored', name: 'other failure', n: 3 }, { key: 'jobs_canceled', name: 'canceled', n: 5 }],
      headline: (d) => { const r = rate(d); return [r === null ? '–' : `${r} %`, `of ${plain(total(d))}`]; },
      said: (d) => (total(d) ? `${rate(d)} % of ${total(d)} jobs ${inRange()} were successful; ${sum(d.jobs_failed)} failed by their scripts, ${sum(d.jobs_errored)} for other reasons, ${sum(d.jobs_canceled)} were canceled` : 'no jobs yet'),
    }),
    new Chart({
      name: 'Requests to GitLab', unit: seconds,
      series: [{ key: 'request_p95_seconds', name: '95 %', n: 4, sparse: true }, { key: 'request_p50_seconds', name: 'median', n: 2, sparse: true, how: middle }],
      headline: (d) => [finite(last(d.request_p95_seconds)) ? seconds(last(d.request_p95_seconds)) : '–', 'lately, 95 %'],
      said: (d) => (finite(last(d.request_p95_seconds)) ? `95 % of the latest requests took at most ${seconds(last(d.request_p95_seconds))}` : 'no requests yet'),
    }),
    new Chart({
      name: 'Failed requests', unit: plain, whole: true, bars: true,
      series: [{ key: 'request_errors', name: 'failed', n: 3 }],
      headline: (d) => [plain(sum(d.request_errors)), `of ${plain(sum(d.requests))}`],
      said: (d) => `${sum(d.request_errors)} of ${sum(d.requests)} ${inRange()}`,
    }),
    new Chart({
      name: 'Log lag', unit: seconds, least: 1,
      series: [{ key: 'log_lag_seconds', name: 'oldest unsent byte', n: 1, kind: 'area' }],
      headline: (d) => [seconds(last(d.log_lag_seconds) || 0), `${seconds(peak(d.log_lag_seconds))} at most`],
      said: (d) => `the oldest byte that GitLab does not have is ${seconds(last(d.log_lag_seconds) || 0)} old, at most ${seconds(peak(d.log_lag_seconds))} ${inRange()}`,
    }),
  );
  new ResizeObserver(() => drawCharts()).observe($('charts'));
}
const total = (d) => sum(d.jobs_succeeded) + sum(d.jobs_failed) + sum(d.jobs_errored) + sum(d.jobs_canceled);
const rate = (d) => {
  const judged = total(d) - sum(d.jobs_canceled);
  return judged ? Math.floor((1000 * sum(d.jobs_succeeded)) / judged) / 10 : null;
};
const drawCharts = () => charts.forEach((c) => c.draw());

async function loadHistory() {
  const wanted = range;
  try {
    const r = await fetch(`/api/v1/history?range=${wanted}`);
    if (!r.ok) return;
    const d = await r.json();
    if (wanted !== range || !d.jobs_running) return;
    hist = d;
    drawCharts();
  } catch {
    // The stream says whether the server is there; it comes back by itself.
  }
}

// addHistory joins the newest steps to those that are shown.
function addHistory(part) {
  if (!hist || !part.jobs_running || hist.step_seconds !== part.step_seconds) return;
  const length = hist.jobs_running.length;
  const step = hist.step_seconds * 1000;
  const at = Math.round((time(part.start) - time(hist.start)) / step);
  if (at < 0 || at > length) return void loadHistory();
  let over = 0;
  for (const [key, list] of Object.entries(hist)) {
    if (!Array.isArray(list)) continue;
    part[key].forEach((v, i) => { list[at + i] = v; });
    over = Math.max(0, list.length - length);
    list.splice(0, over);
  }
  hist.start = new Date(time(hist.start) + over * step).toISOString();
  drawCharts();
}

// ---- one job ----

let openRun = 0;
async function openDetail(run) {
  openRun = run;
  await drawDetail();
  if (!$('detail').open) $('detail').showModal();
}

const fact = (name, value, cls) => (value === '' || value === null || value === undefined ? null : h('div', {}, h('dt', {}, name), h('dd', { class: cls }, value)));

async function drawDetail() {
  const run = openRun;
  let d, tail = null;
  try {
    const r = await fetch(`/api/v1/jobs/${run}`);
    d = r.ok ? await r.json() : null;
    if (d && d.running && known.status && known.status.log_tail) {
      const t = await fetch(`/api/v1/jobs/${run}/log`);
      if (t.ok) tail = await t.text();
    }
  } catch {
    return; // the next time
  }
  if (run !== openRun) return;
  const j = d && (d.running || d.finished);
  if (!j) {
    $('detail-body').replaceChildren(h('p', { class: 'muted' }, 'This job is not among those that run or ended last any more.'));
    return;
  }
  prepare(j);
  setText($('detail-title'), `${j.name || 'job'} #${j.id}`);
  const link = web(j.url);
  const facts = h('dl', { class: 'facts' },
    fact('Project', j.project || `project ${j.project_id}`), fact('Pipeline', j.pipeline_id ? `#${j.pipeline_id}` : ''), fact('Stage of the pipeline', j.job_stage),
    fact('Runner', `${j.runner_name || j.runner} (${j.executor})`), fact('Waited in the queue', duration(j.queued_seconds)),
    fact('Started', `${clock(j.t.started)} (${ago(j.t.started)})`), fact('Time limit', j.timeout_seconds ? duration(j.timeout_seconds) : ''),
    d.running ? fact('Stage', phaseName(j.stage)) : fact('Result', (RESULTS[j.result] || ['', j.result])[1]),
    d.running ? fact('In stage for', age(j.t.stage)) : fact('Took', duration(j.seconds)),
    d.running ? fact('Last output', ago(j.t.output)) : fact('Ended', `${clock(j.t.ended)} (${ago(j.t.ended)})`),
    fact('CPU', j.cpu_seconds === null ? '' : duration(j.cpu_seconds)), fact('Memory', j.memory_bytes === null ? '' : bytes(j.memory_bytes)),
    fact('Log', bytes(j.log_bytes)), fact('Of it unsent', d.running && j.log_unsent_bytes ? `${bytes(j.log_unsent_bytes)}, the oldest for ${age(j.t.unsent)}` : ''),
    d.finished ? fact('Delivery of the result', j.lost ? 'lost' : duration(j.delivery_seconds), j.lost ? 'bad' : '') : null,
    d.finished && j.reason ? fact('Reason', j.reason.replaceAll('_', ' ')) : null, j.exit_code ? fact('Exit code', String(j.exit_code)) : null,
    j.error ? h('div', { class: 'wide' }, h('dt', {}, 'Error'), h('dd', { class: 'mono' }, j.error)) : null);
  const phases = [...((d.running ? d.timeline : j.timeline) || [])];
  if (d.running && j.stage && !j.ending) phases.push({ phase: j.stage, start: j.stage_since, seconds: (now() - j.t.stage) / 1000, failed: false, runs: true });
  const begin = Math.min(j.t.started, ...phases.map((p) => time(p.start)));
  const end = Math.max(begin + 1, ...phases.map((p) => time(p.start) + p.seconds * 1000));
  const rows = phases.map((p) => {
    const bar = h('i', { class: p.failed ? 'ph-failed' : phaseClass(p.phase) });
    bar.style.left = `${(100 * (time(p.start) - begin)) / (end - begin)}%`;
    bar.style.width = `${(100 * p.seconds * 1000) / (end - begin)}%`;
    return h('li', {}, h('span', { class: p.failed ? 'bad' : '' }, phaseName(p.phase) + (p.failed ? ' ✕' : p.runs ? ' …' : '')), h('span', { class: 'track', 'aria-hidden': 'true' }, bar), h('span', { class: 'num' }, duration(p.seconds)));
  });
  const log = $('detail-body').querySelector('pre.log');
  const atEnd = !log || log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
  const where = log ? log.scrollTop : 0;
  $('detail-body').replaceChildren(...[
    link ? h('p', {}, h('a', { href: link, rel: 'noreferrer' }, 'Open this job in GitLab')) : null, facts,
    h('div', {}, h('h3', {}, 'Timeline'), rows.length ? h('ul', { class: 'waterfall' }, ...rows) : h('p', { class: 'muted' }, 'No phase has ended yet.')),
    tail === null ? null : h('div', {}, h('h3', {}, 'End of the log'), h('pre', { class: 'log', tabindex: '0' }, clean(tail))),
  ].filter(Boolean));
  const fresh = $('detail-body').querySelector('pre.log');
  if (fresh) fresh.scrollTop = atEnd ? fresh.scrollHeight : where;
}

// clean takes colours and section marks out of a log.
const clean = (t) => t.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, '').replace(/^.*section_(start|end):[^\r\n]*\r/gm, '').replace(/[^\n]*\r(?!\n)/g, '').replace(/[\x00-\x08\x0b-\x1f]/g, '');

// ---- drawing ----

let lists = null;
let dirty = true; // the lists' content is old
let asked = false;
function draw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    if (!known.status) return;
    if (dirty) {
      dirty = false;
      const words = filterText.toLowerCase().split(/\s+/).filter(Boolean);
      const match = (j) => words.every((w) => j.text.includes(w));
      const jobs = [...known.jobs.values()];
      const shown = words.length ? jobs.filter(match) : jobs;
      lists.running.set(shown);
      lists.running.empty.textContent = words.length && jobs.length ? 'No job that runs matches the filter.' : lists.running.o.empty;
      setText($('jobs-count'), shown.length === jobs.length ? String(jobs.length) : `${shown.length} of ${jobs.length}`);
      const done = known.finished.filter((j) => (finishedShown === 'all' || j.result !== 'success' || j.lost) && match(j));
      lists.ended.set(done);
      lists.ended.empty.textContent = known.finished.length ? 'None of the jobs that ended is like that.' : lists.ended.o.empty;
      setText($('finished-count'), done.length === known.finished.length ? String(done.length) : `${done.length} of ${known.finished.length}`);
    }
    drawStatus();
    drawRunners();
    lists.running.draw();
    lists.ended.draw();
  });
}
function changed() {
  dirty = true;
  draw();
}

// ---- the stream ----

let source = null;
let retry = 0;
function live(on, text) {
  setAttr($('live'), 'data-on', String(on));
  setText($('live-text'), text);
}
function connect() {
  source = new EventSource('/api/v1/events');
  source.addEventListener('open', () => { retry = 0; });
  for (const [name, f] of Object.entries(apply)) {
    source.addEventListener(name, (e) => {
      f(JSON.parse(e.data));
      live(true, 'live');
      changed();
      if (name === 'snapshot') loadHistory();
    });
  }
  source.addEventListener('history', (e) => { if (range === '1h') addHistory(JSON.parse(e.data)); });
  source.addEventListener('error', () => {
    live(false, 'reconnecting');
    if (source.readyState !== EventSource.CLOSED) return; // it tries by itself
    retry = Math.min(retry + 1, 5);
    setTimeout(connect, 1000 * 2 ** retry);
  });
}

// ---- colours ----

const THEMES = [['auto', '◐', 'as the system has them'], ['light', '☀', 'light'], ['dark', '☾', 'dark']];
function theme(name) {
  const t = THEMES.find((x) => x[0] === name) || THEMES[0];
  if (t[0] === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = t[0];
  setText($('theme'), t[1]);
  setAttr($('theme'), 'aria-label', `Colours: ${t[2]}`);
  setAttr($('theme'), 'title', `Colours: ${t[2]}`);
  return t[0];
}

function start() {
  let stored = 'auto';
  try { stored = localStorage.getItem('theme') || 'auto'; } catch { /* not allowed: not remembered */ }
  let current = theme(stored);
  $('theme').addEventListener('click', () => {
    current = theme(THEMES[(THEMES.findIndex((x) => x[0] === current) + 1) % THEMES.length][0]);
    try { localStorage.setItem('theme', current); } catch { /* the same */ }
  });
  lists = { running: running(), ended: ended() };
  makeCharts();
  $('filter').addEventListener('input', (e) => { filterText = e.target.value; changed(); });
  const pressed = (attr, act) => document.querySelectorAll(`[data-${attr}]`).forEach((b) => b.addEventListener('click', () => {
    document.querySelectorAll(`[data-${attr}]`).forEach((o) => o.setAttribute('aria-pressed', String(o === b)));
    act(b.dataset[attr]);
  }));
  pressed('range', (v) => { range = v; loadHistory(); });
  pressed('show', (v) => { finishedShown = v; changed(); });
  $('detail-close').addEventListener('click', () => $('detail').close());
  $('detail').addEventListener('click', (e) => { if (e.target === $('detail')) $('detail').close(); });
  $('detail').addEventListener('close', () => { openRun = 0; });
  addEventListener('resize', () => { lists.running.measure(); lists.ended.measure(); draw(); });
  connect();
  // Ages grow; what is hidden need not.
  setInterval(() => { if (!document.hidden) draw(); }, 1000);
  setInterval(() => { if (!document.hidden && openRun) drawDetail(); }, 2000);
  setInterval(() => { if (!document.hidden && range !== '1h') loadHistory(); }, 30000);
  document.addEventListener('visibilitychange', () => { if (!document.hidden) { draw(); loadHistory(); } });
}
start();
