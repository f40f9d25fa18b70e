// npm `ws`: one WebSocket with the token in a subprotocol, in the query or in a header.
import { createRequire } from 'node:module';
const require = createRequire(process.env.TOOLS + '/package.json');
const WebSocket = require('ws');
const [base, way, token] = process.argv.slice(2);
const url = `${base}/api/v1/streaming`;
const say = (what) => console.log(JSON.stringify(what));
const socket = {
  protocol: () => new WebSocket(url, token),
  query: () => new WebSocket(`${url}?access_token=${token}`),
  header: () => new WebSocket(url, { headers: { Authorization: `Bearer ${token}` } }),
}[way]();
socket.on('open', () => {
  if (socket.protocol !== (way === 'protocol' ? token : '')) say({ error: 'the subprotocol' });
  for (const { subscribe } of JSON.parse(process.env.STREAMS)) {
    socket.send(JSON.stringify({ type: 'subscribe', ...subscribe }));
  }
});
socket.on('message', (data) => {
  const { stream, event, payload } = JSON.parse(data);
  say({ key: stream.join(' '), event, payload });
});
socket.on('close', (code) => say({ closed: code }));
socket.on('error', (error) => say({ error: String(error) }));
