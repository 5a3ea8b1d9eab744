// A browser that is told by lines on standard input what to do: one JSON
// command a line, one JSON answer a line. The tests are in Go; see
// browser_test.go.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { readFileSync } from 'node:fs';

const require = createRequire(`${process.env.GLASSRUNNER_BROWSER_TOOLS}/package.json`);
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const browser = await chromium.launch({
  executablePath: process.env.GLASSRUNNER_CHROMIUM,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--force-color-profile=srgb'],
});
let context = null;
let page = null;
let complaints = [];

const commands = {
  async open({ url, width, height, scheme, touch, user, password, expect = [] }) {
    if (context) await context.close();
    complaints = [];
    context = await browser.newContext({
      viewport: { width: width || 1440, height: height || 1000 }, colorScheme: scheme || 'light', hasTouch: !!touch,
      deviceScaleFactor: 1, locale: 'en-GB', timezoneId: 'UTC', reducedMotion: 'reduce', bypassCSP: false,
      httpCredentials: user ? { username: user, password } : undefined,
    });
    page = await context.newPage();
    const origin = new URL(url).origin;
    const fine = (text) => expect.some((e) => text.includes(e));
    page.on('console', (m) => { if (['error', 'warning'].includes(m.type()) && !fine(m.text())) complaints.push(`console: ${m.text()}`); });
    page.on('pageerror', (e) => complaints.push(`exception: ${e.stack || e}`));
    page.on('request', (r) => { if (new URL(r.url()).origin !== origin) complaints.push(`request to elsewhere: ${r.url()}`); });
    const answer = await page.goto(url);
    return answer.status();
  },
  async wait({ selector, text, timeout }) {
    const target = text === undefined ? page.locator(selector).first() : page.locator(selector).filter({ hasText: text }).first();
    await target.waitFor({ state: 'attached', timeout: timeout || 20000 });
    return target.textContent();
  },
  async gone({ selector, text, timeout }) {
    await page.locator(selector).filter({ hasText: text }).first().waitFor({ state: 'detached', timeout: timeout || 20000 });
  },
  eval: ({ js }) => page.evaluate(js),
  press: ({ key }) => page.keyboard.press(key),
  type: ({ text }) => page.keyboard.type(text),
  click: ({ selector }) => page.locator(selector).first().click(),
  screenshot: ({ path, full }) => page.screenshot({ path, fullPage: !!full }).then(() => null),
  complaints: () => complaints,
  // axe's default rules are those of WCAG 2.2 A and AA and its best practices.
  async axe() {
    // Not as a script element: the page's policy forbids those.
    await page.evaluate(axe);
    const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
    if (found.passes.length < 15) throw new Error(`axe looked at too little: ${found.passes.length} rules`);
    return found.violations.map((v) => `${v.id} (${v.impact}): ${v.help}: ${v.nodes.slice(0, 4).map((n) => `${n.target.join(' ')} ${n.failureSummary.replace(/\s+/g, ' ')}`).join(' | ')}`);
  },
  // load measures the page for some seconds: the processor time of its main
  // thread, which a busy machine does not change, and the time between frames.
  async load({ seconds, during }) {
    const cdp = await context.newCDPSession(page);
    await cdp.send('Performance.enable', { timeDomain: 'threadTicks' });
    const task = async () => (await cdp.send('Performance.getMetrics')).metrics.find((m) => m.name === 'TaskDuration').value;
    const before = await task();
    const frames = await page.evaluate(async ([ms, code]) => {
      const gaps = [];
      const end = performance.now() + ms;
      let last = performance.now();
      const act = code ? new Function('i', code) : () => {};
      for (let i = 0; performance.now() < end; i++) {
        await new Promise(requestAnimationFrame);
        const t = performance.now();
        gaps.push(t - last);
        last = t;
        act(i);
      }
      return gaps.sort((a, b) => a - b);
    }, [seconds * 1000, during || '']);
    const at = (q) => Math.round(10 * frames[Math.min(frames.length - 1, Math.floor(q * frames.length))]) / 10;
    return { busy: (await task() - before) / seconds, frames: frames.length, median: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1) };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { cmd, ...args } = JSON.parse(line);
  let answer;
  try {
    answer = { ok: (await commands[cmd](args)) ?? null };
  } catch (e) {
    answer = { error: String(e.message || e) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
