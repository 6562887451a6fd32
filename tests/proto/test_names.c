/* Texts of the codecs: each is there, and could stand where it goes. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "proto/h1.h"
#include "tests/proto/h2_peer.h"

static struct http_field fields[4];

/* Also that it is written and read as the reason it is, for every status there can be. */
Test(names, every_reason_may_stand_in_a_status_line)
{
	static const struct h1_limits limits = { 8192, 1 };
	unsigned                      known = 0;

	for (uint16_t status = 200; status <= 599; status++) {
		struct http_head h = { .status = status, .version = HTTP_1_1, .fields = fields, .fields_max = 4 };
		struct http_head got = { .fields = fields, .fields_max = 4 };
		struct h1_scan   scan = { 0 };
		const char      *reason = http_reason(status);
		uint8_t          out[512];
		int              n = h1_encode(out, sizeof(out), &h, H1_FRAME_NONE, H1_CONN_NOTHING);

		cr_assert_gt(n, 0, "%u", status);
		cr_assert_eq(h1_parse_response(&scan, out, (uint32_t)n, &limits, HTTP_METHOD_GET, &got), n, "%u", status);
		cr_assert_eq(got.status, status);
		cr_assert_eq(got.reason.n, strlen(reason), "%u: %s", status, reason);
		cr_assert_eq(memcmp(got.reason.p, reason, got.reason.n), 0, "%u: %s", status, reason);
		known += *reason != 0;
	}
	cr_assert_geq(known, 50);
	cr_assert_str_eq(http_reason(100), "Continue");
	cr_assert_str_eq(http_reason(102), "Processing");
	cr_assert_str_eq(http_reason(103), "Early Hints");
	cr_assert_str_eq(http_reason(299), "");
}

Test(names, every_way_a_session_can_end_has_a_text_of_its_own)
{
	struct peer *p = peer_new(true);
	const char  *seen[16];
	unsigned     n = 0;

	cr_assert_null(h2_failure(&p->h));
	p->h.goaway_error = true;
	for (uint32_t code = 1; code <= 13; code++) {
		const char *text;

		p->h.goaway_code = code;
		text = h2_failure(&p->h);
		cr_assert_not_null(text, "code %u", code);
		cr_assert_eq(strncmp(text, "HTTP/2 ", 7), 0, "%s", text);
		for (unsigned i = 0; i < n; i++)
			cr_assert(strcmp(seen[i], text) != 0 || strcmp(text, "HTTP/2 error") == 0, "%s twice", text);
		seen[n++] = text;
	}
	p->h.goaway_error = false;
	peer_free(p);
}
