// npm `eventsource` 4: an event stream each, with the token in a header or in the query. It connects
// again by itself when a stream ends; that this is refused is its end.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
const require = createRequire(process.env.TOOLS + '/package.json');
const { EventSource } = await import(pathToFileURL(require.resolve('eventsource')));
const [base, way, token] = process.argv.slice(2);
const say = (what) => console.log(JSON.stringify(what));
const events = ['somewhat.new', 'update', 'status.update', 'delete', 'notification',
  'notifications_merged', 'conversation', 'announcement', 'announcement.reaction',
  'announcement.delete'];
const authorized = (url, init) =>
  fetch(url, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } });

const open = ({ key, path }) => new Promise((resolve) => {
  const mark = path.includes('?') ? '&' : '?';
  const source = way === 'header'
    ? new EventSource(base + path, { fetch: authorized })
    : new EventSource(`${base}${path}${mark}access_token=${token}`);
  for (const event of events) {
    source.addEventListener(event, ({ data }) => say({ key, event, payload: data }));
  }
  source.addEventListener('message', ({ data }) => say({ error: `nameless: ${data}` }));
  source.addEventListener('error', ({ code }) => {
    if (source.readyState === EventSource.CLOSED) resolve(code);
  });
});
const codes = await Promise.all(JSON.parse(process.env.STREAMS).map(open));
for (const closed of new Set(codes)) say({ closed });
