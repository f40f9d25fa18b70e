// npm `masto` 7: its streaming client with a subscription for each stream, the token in a
// subprotocol, in the query or, through a WebSocket of the application's own, in a header. It
// connects again by itself; that this is refused is its end.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
const require = createRequire(process.env.TOOLS + '/package.json');
const WebSocket = require('ws');
const { createStreamingAPIClient } = await import(pathToFileURL(require.resolve('masto')));
const [base, way, token] = process.argv.slice(2);
const say = (what) => console.log(JSON.stringify(what));

// masto.js tells its iterators nothing when its WebSocket closes; this one does.
const codes = [];
class Shown extends WebSocket {
  constructor(url, protocols) {
    const headers = way === 'header' ? { Authorization: `Bearer ${token}` } : {};
    super(url, way === 'header' ? [] : protocols, { headers });
    this.on('close', (code) => codes.push(code));
    this.on('unexpected-response', (request, response) => {
      codes.push(response.statusCode);
      say({ closed: codes });
      process.exit(0);
    });
  }
}

const client = createStreamingAPIClient({
  streamingApiUrl: base,
  accessToken: way === 'header' ? undefined : token,
  useInsecureAccessToken: way === 'query',
  implementation: Shown,
});
const follow = async ({ key, subscribe: { stream, ...parameters } }) => {
  const resource = stream.split(':').reduce((parent, name) => parent[name], client);
  for await (const message of resource.subscribe(parameters)) {
    const payload = JSON.stringify(message.payload);
    say({ key, event: message.event, payload });
  }
};
try {
  await Promise.all(JSON.parse(process.env.STREAMS).map(follow));
} catch (error) {
  say({ error: String(error) });
}
