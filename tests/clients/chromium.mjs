// Headless Chromium over its DevTools protocol, spoken on a pipe: it ends when this process does.
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';

// Every name below .trunkline.test is this machine: browsers open at most six HTTP connections to a
// host, so that event streams need several.
const OPTIONS = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
  '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-extensions', '--no-proxy-server', '--log-level=3',
  '--host-resolver-rules=MAP *.trunkline.test 127.0.0.1', '--remote-debugging-pipe'];
// Less than the test's, so that what did not happen is told.
const PATIENCE_MS = 25_000;

/** A tab. `report` gets what the page passes to its global function `report`. */
export class Tab {
  #child; #profile; #pipe; #calls = new Map(); #number = 0; #session; #report;
  /** What the page complained about: exceptions, errors on its console, failed loads. */
  errors = [];

  static async open(report = () => {}) {
    const tab = new Tab();
    tab.#report = report;
    tab.#profile = join(process.env.HOME, 'chromium');
    const command = ['--pdeathsig', 'KILL', '--', 'chromium', ...OPTIONS,
      `--user-data-dir=${tab.#profile}`, 'about:blank'];
    const child = tab.#child = spawn('setpriv', command, { stdio: ['ignore', 2, 2, 'pipe', 'pipe'] });
    child.on('exit', (code) => { console.error(`Chromium has ended: ${code}`); process.exit(1); });
    tab.#pipe = child.stdio[3];
    let text = '';
    child.stdio[4].setEncoding('utf8').on('data', (more) => {
      const messages = (text + more).split('\0');
      text = messages.pop();
      for (const message of messages) tab.#receive(JSON.parse(message));
    });
    const { targetId } = await tab.#call('Target.createTarget', { url: 'about:blank' });
    const attached = await tab.#call('Target.attachToTarget', { targetId, flatten: true });
    tab.#session = attached.sessionId;
    for (const domain of ['Runtime', 'Log', 'Page']) await tab.#call(`${domain}.enable`);
    await tab.#call('Runtime.addBinding', { name: 'report' });
    return tab;
  }

  /** Ends Chromium and removes what it wrote, then this process. */
  async exit(code) {
    this.#child.removeAllListeners('exit');
    const ended = new Promise((resolve) => this.#child.on('exit', resolve));
    this.#pipe.write(JSON.stringify({ id: ++this.#number, method: 'Browser.close' }) + '\0');
    await ended;
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
    process.exit(code);
  }

  go(url) { return this.#call('Page.navigate', { url }); }

  /** The value of an expression in the page. */
  async value(expression) {
    const wanted = { expression, awaitPromise: true, returnByValue: true, userGesture: true };
    const { result, exceptionDetails } = await this.#call('Runtime.evaluate', wanted);
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description}`);
    return result.value;
  }

  /** Waits until an expression is true in the page. */
  async until(expression) {
    const deadline = Date.now() + PATIENCE_MS;
    while (!await this.value(expression)) {
      if (Date.now() > deadline) throw new Error(`did not happen: ${expression}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  #call(method, params = {}) {
    const id = ++this.#number;
    this.#pipe.write(JSON.stringify({ id, method, params, sessionId: this.#session }) + '\0');
    return new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject, method }));
  }

  #receive({ id, method, params, result, error }) {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    if (error) call?.reject(new Error(`${call.method}: ${error.message}`));
    else if (call) call.resolve(result);
    if (method === 'Runtime.bindingCalled') this.#report(params.payload);
    if (method === 'Runtime.exceptionThrown') {
      this.errors.push(params.exceptionDetails.exception?.description ?? 'an exception');
    }
    if (method === 'Runtime.consoleAPICalled' && ['error', 'warning'].includes(params.type)) {
      this.errors.push(params.args.map(({ value, description }) => value ?? description).join(' '));
    }
    if (method === 'Log.entryAdded' && params.entry.level === 'error') {
      this.errors.push(`${params.entry.text} ${params.entry.url ?? ''}`);
    }
  }
}
