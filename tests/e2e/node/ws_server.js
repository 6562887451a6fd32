// A WebSocket server: echoes text and binary, answers "close:CODE" by closing.  Prints its port.
'use strict';
const { WebSocketServer } = require('ws');

const server = new WebSocketServer({ host: '127.0.0.1', port: 0,
	handleProtocols: (offered) => offered.has('chat') ? 'chat' : false });
server.on('listening', () => console.log(server.address().port));
server.on('connection', (socket, request) => {
	socket.send(`hello ${request.url}`);
	socket.on('message', (data, binary) => {
		const text = binary ? '' : data.toString();
		if (text.startsWith('close:'))
			socket.close(Number(text.slice(6)), 'as asked');
		else
			socket.send(data, { binary });
	});
});
process.on('SIGTERM', () => process.exit(0));
