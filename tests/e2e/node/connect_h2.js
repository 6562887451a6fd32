// connect_h2.js BASE TARGET: CONNECT over h2c; sends words, ends its half, prints what came back.
'use strict';
const http2 = require('node:http2');

const [base, target] = process.argv.slice(2);
const session = http2.connect(base);
const stream = session.request({ ':method': 'CONNECT', ':authority': target });
const seen = { text: '' };
const limit = setTimeout(() => { console.error('no end within 20 s'); process.exit(1); }, 20000);

stream.setEncoding('latin1');
stream.on('response', (headers) => {
	seen.status = headers[':status'];
	stream.write('one ');
	stream.end('two ');
});
stream.on('data', (text) => { seen.text += text; });
stream.on('end', () => {
	clearTimeout(limit);
	console.log(JSON.stringify(seen));
	session.close();
});
