#include "sidecar/run/versions.h"

#include "shm/layout.h"

void versions_print(FILE *out, bool json)
{
	fprintf(out,
		json ? "{\"version\":\"%s\",\"segment\":\"%d.%d\",\"compiler\":\"%s\"}\n"
		     : "rhc-sidecar %s (segment %d.%d, compiler %s)\n",
		RHC_VERSION, RHC_ABI_MAJOR, RHC_ABI_MINOR, __VERSION__);
}
