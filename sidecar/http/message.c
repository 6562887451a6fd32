#include "sidecar/http/message.h"

#include <assert.h>

static const char *const texts[] = {
	[MESSAGE_OK] = "no error",
	[MESSAGE_E_RESET] = "connection reset",
	[MESSAGE_E_EOF] = "connection closed before a response",
	[MESSAGE_E_INCOMPLETE] = "message incomplete when the connection closed",
	[MESSAGE_E_PROTOCOL] = "protocol error",
	[MESSAGE_E_HEAD_TOO_LARGE] = "head too large",
	[MESSAGE_E_REFUSED] = "stream refused, not processed",
	[MESSAGE_E_HTTP_1_1_REQUIRED] = "the peer requires HTTP/1.1",
	[MESSAGE_E_TLS] = "TLS failure",
	[MESSAGE_E_OVERLOAD] = "out of buffers",
	[MESSAGE_E_TIMEOUT] = "connection timed out",
};

const char *message_error_text(enum message_error err)
{
	assert(err < sizeof(texts) / sizeof(texts[0]) && texts[err] != NULL);
	return texts[err];
}
