// npm `eventsource` 4 with the token in a header or in the query.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
const require = createRequire(process.env.TOOLS + '/package.json');
const { EventSource } = await import(pathToFileURL(require.resolve('eventsource')));
const [base, way, token] = process.argv.slice(2);
const path = process.env.PATH_OF_STREAM;
const mark = path.includes('?') ? '&' : '?';
const source = way === 'header'
  ? new EventSource(base + path, {
    fetch: (url, init) =>
      fetch(url, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } }),
  })
  : new EventSource(`${base}${path}${mark}access_token=${token}`);
for (const name of JSON.parse(process.env.EVENTS)) {
  source.addEventListener(name, (event) => {
    console.log(JSON.stringify({ event: name, payload: event.data }));
  });
}
source.addEventListener('error', (error) => {
  console.log(JSON.stringify({ closed: error.code ?? 0 }));
  source.close();
});
