// grpc_client.js ADDRESS AUTHORITY SCENARIO [ARGUMENT]: runs it and prints one line of JSON.
'use strict';
const grpc = require('@grpc/grpc-js');

const [address, authority, scenario, argument] = process.argv.slice(2);
const raw = (value) => value;
const client = new grpc.Client(address, grpc.credentials.createInsecure(), {
	'grpc.default_authority': authority, 'grpc.enable_retries': 0 });
const path = (name) => `/test.Echo/${name}`;

function tell(value) {
	console.log(JSON.stringify(value));
	client.close();
}

function unary(name, text, options = {}) {
	return new Promise((resolve) => {
		const result = { trailers: {} };
		const metadata = new grpc.Metadata();
		if (argument && argument.includes('key'))
			metadata.set('idempotency-key', 'k1');
		const call = client.makeUnaryRequest(path(name), raw, raw, Buffer.from(text), metadata, options, (error, value) => {
			result.code = error ? error.code : 0;
			result.details = error ? error.details : '';
			result.metadata = error ? error.metadata.getMap() : {};
			result.value = value ? value.toString() : null;
			result.bytes = value ? value.length : 0;
		});
		call.on('metadata', (m) => { result.headers = m.getMap(); });
		call.on('status', (status) => { result.trailers = status.metadata.getMap(); setImmediate(() => resolve(result)); });
		if (options.cancel)
			setTimeout(() => call.cancel(), options.cancel);
	});
}

const scenarios = {
	unary: async () => tell(await unary('Echo', argument || 'hello')),
	large: async () => {
		const got = await unary('Echo', 'x'.repeat(Number(argument)));
		tell({ code: got.code, bytes: got.bytes });
	},
	fail: async () => tell(await unary('Fail', argument.replace('+key', ''))),
	told: async () => tell(await unary('Told', '', argument ? { deadline: Date.now() + Number(argument) } : {})),
	deadline: async () => {
		const began = Date.now();
		const got = await unary('Slow', '30000', { deadline: Date.now() + Number(argument) });
		tell({ ...got, took: Date.now() - began });
	},
	slow: async () => tell(await unary('Slow', argument)),
	cancel: async () => tell(await unary('Slow', '30000', { cancel: Number(argument) })),
	down: () => new Promise((resolve) => {
		let count = 0, bytes = 0;
		const call = client.makeServerStreamRequest(path('Down'), raw, raw, Buffer.from(argument));
		call.on('data', (data) => { count++; bytes += data.length; });
		call.on('error', () => {});
		call.on('status', (status) => { tell({ code: status.code, count, bytes }); resolve(); });
	}),
	late: () => new Promise((resolve) => {
		let count = 0;
		const call = client.makeServerStreamRequest(path('FailLate'), raw, raw, Buffer.from(argument));
		call.on('data', () => { count++; });
		call.on('error', () => {});
		call.on('status', (status) => { tell({ code: status.code, details: status.details, count }); resolve(); });
	}),
	up: () => new Promise((resolve) => {
		const call = client.makeClientStreamRequest(path('Up'), raw, raw, (error, value) => {
			tell({ code: error ? error.code : 0, value: value ? value.toString() : null });
			resolve();
		});
		for (let i = 0; i < Number(argument); i++)
			call.write(Buffer.alloc(1000, 1));
		call.end();
	}),
	// each word waits for its echo: nothing may be held back until the end
	chat: () => new Promise((resolve) => {
		let count = 0;
		const call = client.makeBidiStreamRequest(path('Chat'), raw, raw);
		call.on('data', (data) => {
			if (data.toString() !== `word ${count}`)
				throw new Error(`out of order: ${data}`);
			if (++count === Number(argument))
				call.end();
			else
				call.write(Buffer.from(`word ${count}`));
		});
		call.on('error', () => {});
		call.on('status', (status) => { tell({ code: status.code, count }); resolve(); });
		call.write(Buffer.from('word 0'));
	}),
	many: async () => {
		const all = await Promise.all(Array.from({ length: Number(argument) }, (_, i) => unary('Echo', `call ${i}`)));
		tell({ ok: all.filter((got, i) => got.code === 0 && got.value === `call ${i}`).length });
	},
};

const limit = setTimeout(() => { console.error('no end within 25 s'); process.exit(1); }, 25000);
Promise.resolve(scenarios[scenario]()).then(() => clearTimeout(limit));
