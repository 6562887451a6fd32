// ws_client.js URL HOST: talks for a while and prints what it saw.
'use strict';
const { WebSocket } = require('ws');

const [url, host] = process.argv.slice(2);
const socket = new WebSocket(url, ['chat'], { headers: { Host: host } });
const seen = { texts: 0, bytes: 0, pongs: 0 };
const limit = setTimeout(() => { console.error('no end within 20 s'); process.exit(1); }, 20000);

socket.on('upgrade', (answer) => { seen.status = answer.statusCode; seen.id = Boolean(answer.headers['x-request-id']); });
socket.on('unexpected-response', (request, answer) => {
	seen.status = answer.statusCode;
	answer.resume();
	answer.on('end', done);
});
socket.on('open', () => {
	seen.protocol = socket.protocol;
	socket.ping();
	for (let i = 0; i < 100; i++)
		socket.send(`text ${i}`);
	socket.send(Buffer.alloc(3000000, 7));
});
socket.on('pong', () => { seen.pongs++; });
socket.on('message', (data, binary) => {
	if (binary) {
		seen.bytes += data.length;
		socket.send('close:4001');
	} else if (seen.first === undefined) {
		seen.first = data.toString();
	} else {
		seen.texts++;
	}
});
socket.on('close', (code, reason) => { seen.code = code; seen.reason = reason.toString(); done(); });
socket.on('error', (error) => { seen.error = error.message; });

function done() {
	clearTimeout(limit);
	console.log(JSON.stringify(seen));
	process.exit(0);
}
