// fetch.js BASE KIND: Node's fetch (undici) through the sidecar.  KIND: direct, proxy (undici's ProxyAgent, which uses CONNECT).
'use strict';
const crypto = require('node:crypto');
const { fetch, Agent, ProxyAgent, request } = require('undici');

const [base, kind, target] = process.argv.slice(2);
const limit = setTimeout(() => { console.error('no end within 20 s'); process.exit(1); }, 20000);

async function direct() {
	const dispatcher = new Agent({ connections: 8, pipelining: 1 });
	const options = { dispatcher, headers: { 'x-rhc-upstream': 'origin' } };
	const all = await Promise.all(Array.from({ length: 50 }, async (_, i) => {
		const answer = await fetch(`${base}/bytes/${1000 * i}`, options);
		return (await answer.arrayBuffer()).byteLength === 1000 * i && answer.status === 200;
	}));
	const body = Buffer.alloc(500000, 'a');
	const upload = await fetch(`${base}/sha`, { ...options, method: 'POST', body });
	// a stream has no length: chunked
	const parts = new ReadableStream({ start(c) { c.enqueue(body.subarray(0, 1000)); c.enqueue(body.subarray(1000)); c.close(); } });
	const stream = await fetch(`${base}/sha`, { ...options, method: 'POST', body: parts, duplex: 'half' });
	const missing = await fetch(`${base}/status/503`, options);
	const aborted = await fetch(`${base}/hang`, { ...options, signal: AbortSignal.timeout(300) }).catch((e) => e.name);
	return { ok: all.filter(Boolean).length, same: await upload.text() === await stream.text(), status: missing.status,
		aborted };
}

async function proxy() {
	const dispatcher = new ProxyAgent(base);
	const answer = await request(target, { dispatcher });
	const body = Buffer.from(await answer.body.arrayBuffer());
	await dispatcher.close();
	return { status: answer.statusCode, hash: crypto.createHash('sha256').update(body).digest('hex') };
}

(kind === 'proxy' ? proxy() : direct()).then((result) => {
	clearTimeout(limit);
	console.log(JSON.stringify(result));
	process.exit(0);
});
