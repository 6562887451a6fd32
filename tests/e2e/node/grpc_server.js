// A gRPC server without .proto files: messages are bytes.  Prints its port.
'use strict';
const grpc = require('@grpc/grpc-js');

const raw = (value) => value;
const method = (path, requestStream, responseStream) => ({ path, requestStream, responseStream,
	requestSerialize: raw, requestDeserialize: raw, responseSerialize: raw, responseDeserialize: raw });

const service = {
	Echo: method('/test.Echo/Echo', false, false),
	Down: method('/test.Echo/Down', false, true),
	Up: method('/test.Echo/Up', true, false),
	Chat: method('/test.Echo/Chat', true, true),
	Fail: method('/test.Echo/Fail', false, false),
	FailLate: method('/test.Echo/FailLate', false, true),
	Slow: method('/test.Echo/Slow', false, false),
	Told: method('/test.Echo/Told', false, false),
};
const calls = { Fail: 0, cancelled: 0 };

function failure(code) {
	return { code, details: `code ${code}` };
}

const handlers = {
	Echo: (call, done) => {
		const trailers = new grpc.Metadata();
		trailers.set('x-trailer', 'kept');
		done(null, call.request, trailers);
	},
	Down: (call) => {
		const count = Number(call.request.toString());
		for (let i = 0; i < count; i++)
			call.write(Buffer.alloc(1000, i % 251));
		call.end();
	},
	Up: (call, done) => {
		let bytes = 0;
		call.on('data', (data) => { bytes += data.length; });
		call.on('end', () => done(null, Buffer.from(String(bytes))));
	},
	Chat: (call) => {
		call.on('data', (data) => call.write(data));
		call.on('end', () => call.end());
		call.on('cancelled', () => { calls.cancelled++; });
	},
	// "14" fails always, "14:2" the first two times
	Fail: (call, done) => {
		const [code, times] = call.request.toString().split(':').map(Number);
		calls.Fail++;
		if (times !== undefined && calls.Fail > times)
			done(null, Buffer.from('recovered'));
		else
			done(failure(code));
	},
	FailLate: (call) => {
		call.write(Buffer.from('first'));
		setTimeout(() => call.emit('error', failure(Number(call.request.toString()))), 50);
	},
	Slow: (call, done) => {
		const timer = setTimeout(() => done(null, Buffer.from('late')), Number(call.request.toString()));
		call.on('cancelled', () => { calls.cancelled++; clearTimeout(timer); });
	},
	// what the server sees of the call, and what it has seen before
	Told: (call, done) => done(null, Buffer.from(JSON.stringify({ metadata: call.metadata.getMap(), calls,
		deadline: Number(call.getDeadline()) - Date.now() }))),
};

const server = new grpc.Server();
server.addService(service, handlers);
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
	if (error)
		throw error;
	console.log(port);
});
process.on('SIGTERM', () => { server.forceShutdown(); process.exit(0); });
