// trailers_h2.js server length|stream: prints its port; the trailers of a request come back as those of the answer, with
//                                      one more.
// trailers_h2.js BASE UPSTREAM length|stream: POST over h2c with a trailer; prints what came back.
// length: Content-Length stands beside the trailers.
'use strict';
const http2 = require('node:http2');

function server(how) {
	const one = http2.createServer();

	one.on('stream', (stream, headers) => {
		const parts = [];
		let seen = {};

		stream.on('data', (part) => parts.push(part));
		stream.on('trailers', (trailers) => { seen = trailers; });
		stream.on('wantTrailers', () => stream.sendTrailers({ ...seen, 'x-end': 'yes' }));
		stream.on('end', () => {
			const body = Buffer.concat(parts);
			const head = { ':status': 200, 'x-length-seen': headers['content-length'] || 'none' };

			if (how === 'length')
				head['content-length'] = body.length;
			if (headers[':path'] !== '/unannounced')
				head.trailer = 'x-sum, x-end';
			stream.respond(head, { waitForTrailers: true });
			stream.end(body);
		});
	});
	one.listen(0, '127.0.0.1', () => console.log(one.address().port));
}

function client(base, upstream, how) {
	const session = http2.connect(base);
	const head = { ':method': 'POST', ':path': '/t', 'x-rhc-upstream': upstream, 'trailer': 'x-sum' };
	const seen = { body: '', trailers: {} };
	const limit = setTimeout(() => { console.error('no end within 20 s'); process.exit(1); }, 20000);

	if (how === 'length')
		head['content-length'] = 5;
	const stream = session.request(head, { waitForTrailers: true });
	stream.setEncoding('latin1');
	stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': '12' }));
	stream.on('response', (headers) => { seen.head = headers; });
	stream.on('data', (text) => { seen.body += text; });
	stream.on('trailers', (headers) => { seen.trailers = headers; });
	stream.on('end', () => {
		clearTimeout(limit);
		console.log(JSON.stringify(seen));
		session.close();
	});
	stream.write('he');
	stream.end('llo');
}

const [first, ...rest] = process.argv.slice(2);
if (first === 'server')
	server(...rest);
else
	client(first, ...rest);
