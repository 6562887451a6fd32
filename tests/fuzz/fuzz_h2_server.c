/* An HTTP/2 session as server; see h2_target.h. */
#include "tests/fuzz/h2_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return h2f_one(true, data, size);
}
