// npm `eventsource`: every stream at once, until each has had its last event.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { shown } from './shown.mjs';
const require = createRequire(process.env.TOOLS + '/package.json');
const { EventSource } = await import(pathToFileURL(require.resolve('eventsource')));
const { streams, names, last } = JSON.parse(process.env.TASK);

const read = ({ key, port, path }) => new Promise((resolve, reject) => {
  const source = new EventSource(`http://127.0.0.1:${port}${path}`);
  for (const name of names) {
    source.addEventListener(name, ({ type, data }) => {
      console.log(JSON.stringify({ key, event: type, data: shown(data) }));
      if (name !== last) return;
      source.close();
      resolve();
    });
  }
  source.addEventListener('error', ({ message }) => reject(new Error(`${key}: ${message}`)));
});
await Promise.all(streams.map(read));
process.exit(0);
