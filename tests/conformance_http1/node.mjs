// Which requests Node's HTTP parser reads in given bytes: each case goes to a server of its own
// connection, strict as Node is by default. Prints {major: VERSION, read: {NAME: [REQUEST, …]}}.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';

const cases = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const read = {};
let current;
const note = ({ method, url }) => read[current].push(`${method} ${url}`);
const server = createServer((request, response) => {
  note(request);
  request.resume();
  response.end();
});
const expects = (request, response) => { note(request); request.resume(); response.end(); };
server.on('checkContinue', expects).on('checkExpectation', expects);
const leaves = (request, socket) => { note(request); socket.destroy(); };
server.on('upgrade', leaves).on('connect', leaves);
server.on('clientError', (error, socket) => socket.destroy());
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));

for (const { name, bytes } of cases) {
  current = name;
  read[name] = [];
  await new Promise((resolve) => {
    const socket = connect(server.address().port, '127.0.0.1');
    socket.on('error', () => {}).on('close', resolve).resume();
    socket.end(Buffer.from(bytes, 'base64'));
  });
}
console.log(JSON.stringify({ major: Number(process.versions.node.split('.')[0]), read }));
server.close();
