// npm `masto` 7: its own streaming client with a subscription for each stream.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
const require = createRequire(process.env.TOOLS + '/package.json');
const { createStreamingAPIClient } = await import(pathToFileURL(require.resolve('masto')));
const [base, way, token] = process.argv.slice(2);
const client = createStreamingAPIClient({
  streamingApiUrl: `${base}/api/v1/streaming`,
  accessToken: token,
  useInsecureAccessToken: way === 'query',
  retry: false,
});
const list = process.env.LIST;
const subscriptions = {
  user: () => client.user.subscribe(),
  'user:notification': () => client.user.notification.subscribe(),
  public: () => client.public.subscribe(),
  'public:local': () => client.public.local.subscribe(),
  'public:remote': () => client.public.remote.subscribe(),
  direct: () => client.direct.subscribe(),
  hashtag: () => client.hashtag.subscribe({ tag: 'x' }),
  'hashtag:local': () => client.hashtag.local.subscribe({ tag: 'x' }),
  list: () => client.list.subscribe({ list }),
};
await Promise.all(Object.entries(subscriptions).map(async ([name, subscribe]) => {
  try {
    for await (const { stream, event, payload } of subscribe()) {
      const text = typeof payload === 'string' ? payload : JSON.stringify(payload ?? null);
      console.log(JSON.stringify({ subscription: name, stream, event, payload: text }));
    }
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}));
console.log(JSON.stringify({ closed: 1005 }));
