// A browser whose page comes from another origin than its streams: `WebSocket` with the token in a
// subprotocol or in the query, `EventSource` with it in the query, `fetch` with it in a header.
import { createServer } from 'node:http';
import { Tab } from './chromium.mjs';
const [base, way, token] = process.argv.slice(2);

/* What the page does; it knows nothing of this process but its argument. */
async function page({ base, way, token, streams }) {
  const say = (what) => report(JSON.stringify(what));
  const events = ['somewhat.new', 'update', 'status.update', 'delete', 'notification',
    'notifications_merged', 'conversation', 'announcement', 'announcement.reaction',
    'announcement.delete'];
  // A host for each: see chromium.mjs.
  const address = ({ path }, number) => {
    const url = new URL(path, base);
    url.hostname = `s${number}.trunkline.test`;
    return url;
  };

  const webSocket = () => new Promise((resolve) => {
    const url = `${base}/api/v1/streaming`;
    const socket = way === 'protocol'
      ? new WebSocket(url, token) : new WebSocket(`${url}?access_token=${token}`);
    socket.onopen = () => {
      if (socket.protocol !== (way === 'protocol' ? token : '')) say({ error: 'the subprotocol' });
      for (const { subscribe } of streams) {
        socket.send(JSON.stringify({ type: 'subscribe', ...subscribe }));
      }
    };
    socket.onmessage = ({ data }) => {
      const { stream, event, payload } = JSON.parse(data);
      say({ key: stream.join(' '), event, payload });
    };
    socket.onclose = ({ code, wasClean }) => resolve(wasClean ? code : `unclean ${code}`);
  });

  // It connects again by itself when a stream ends; the refusal is the end.
  const eventSource = (stream, number) => new Promise((resolve) => {
    const url = address(stream, number);
    url.searchParams.set('access_token', token);
    const source = new EventSource(url);
    let opened = false;
    source.onopen = () => { opened = true; };
    for (const event of events) {
      source.addEventListener(event, ({ data }) => say({ key: stream.key, event, payload: data }));
    }
    source.onmessage = ({ data }) => say({ error: `nameless: ${data}` });
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) resolve(opened ? 401 : 'never opened');
    };
  });

  // The header makes the browser ask with OPTIONS first.
  const fetched = async (stream, number) => {
    const headers = { Authorization: `Bearer ${token}` };
    const response = await fetch(address(stream, number), { headers });
    let text = '';
    for await (const more of response.body.pipeThrough(new TextDecoderStream())) {
      const blocks = (text + more).replace(':)\n', '').split('\n\n');
      text = blocks.pop();
      for (const block of blocks.filter((block) => block !== ':thump')) {
        const [, event, payload] = /^event: (.*)\ndata: (.*)$/.exec(block);
        say({ key: stream.key, event, payload });
      }
    }
    return 'end';
  };

  try {
    const ends = {
      protocol: () => [webSocket()],
      query: () => [webSocket()],
      eventsource: () => streams.map(eventSource),
      fetch: () => streams.map(fetched),
    }[way]();
    for (const closed of new Set(await Promise.all(ends))) say({ closed });
  } catch (error) {
    say({ closed: String(error) });
  }
}

const wishes = { base, way, token, streams: JSON.parse(process.env.STREAMS) };
const script = `(${page})(${JSON.stringify(wishes)})`;
const server = createServer((request, response) => {
  const found = request.url === '/';
  response.writeHead(found ? 200 : 204, { 'Content-Type': 'text/html; charset=utf-8' });
  response.end(found ? `<!doctype html><title>A page</title><script>${script}</script>` : '');
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));

const tab = await Tab.open((line) => {
  console.log(line);
  if ('closed' in JSON.parse(line)) {
    for (const error of tab.errors) console.error(error);
    tab.exit(0);
  }
});
await tab.go(`http://127.0.0.1:${server.address().port}/`);
