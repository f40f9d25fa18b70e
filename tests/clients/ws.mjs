// npm `ws`: a WebSocket in the way named by argv[3]: protocol, query or header.
import { createRequire } from 'node:module';
const require = createRequire(process.env.TOOLS + '/package.json');
const WebSocket = require('ws');
const [base, way, token] = process.argv.slice(2);
const url = `${base}/api/v1/streaming`;
const socket = {
  protocol: () => new WebSocket(url, token),
  query: () => new WebSocket(`${url}?access_token=${token}`),
  header: () => new WebSocket(url, { headers: { Authorization: `Bearer ${token}` } }),
}[way]();
socket.on('open', () => {
  for (const stream of JSON.parse(process.env.STREAMS)) {
    socket.send(JSON.stringify({ type: 'subscribe', ...stream }));
  }
});
socket.on('message', (data) => {
  const { stream, event, payload } = JSON.parse(data);
  console.log(JSON.stringify({ stream, event, payload }));
});
socket.on('close', (code) => console.log(JSON.stringify({ closed: code })));
socket.on('error', (error) => console.log(JSON.stringify({ error: String(error) })));
