#include <assert.h>
#include <string.h>
#include <time.h>

#include "sidecar/io/tls_policy.h"

static bool expired(const SSL_SESSION *s)
{
	long age = (long)time(NULL) - SSL_SESSION_get_time(s);
	long life = SSL_SESSION_get_timeout(s);
	long hint = (long)SSL_SESSION_get_ticket_lifetime_hint(s);
	if (hint > 0 && hint < life)
		life = hint;
	return age < 0 || age >= life;
}

static void forget_oldest(struct tls_server *row)
{
	SSL_SESSION_free(row->ticket[0]);
	memmove(row->ticket, row->ticket + 1, sizeof(row->ticket[0]) * --row->n);
}

void tls_cache_drop(struct tls_policy *p, uint16_t row)
{
	struct tls_server *r = &p->server[row];
	while (r->n > 0)
		SSL_SESSION_free(r->ticket[--r->n]);
}

uint16_t tls_cache_row(struct tls_policy *p, const char *clean)
{
	uint16_t lru = 0;
	for (uint16_t i = 0; i < TLS_SERVERS_MAX; i++) {
		struct tls_server *r = &p->server[i];
		if (r->gen != 0 && strcmp(r->name, clean) == 0) {
			r->used = ++p->tick;
			return i;
		}
		if (r->used < p->server[lru].used)
			lru = i;
	}
	struct tls_server *r = &p->server[lru];
	tls_cache_drop(p, lru);
	r->gen++;
	r->used = ++p->tick;
	memcpy(r->name, clean, strlen(clean) + 1);
	return lru;
}

SSL_SESSION *tls_cache_take(struct tls_policy *p, uint16_t row)
{
	struct tls_server *r = &p->server[row];
	while (r->n > 0 && expired(r->ticket[0]))
		forget_oldest(r);
	if (r->n == 0)
		return NULL;
	SSL_SESSION *s = r->ticket[r->n - 1];
	/* Using a TLS 1.3 ticket twice would let a listener link the connections. */
	if (SSL_SESSION_get_protocol_version(s) >= TLS1_3_VERSION)
		r->n--;
	else
		SSL_SESSION_up_ref(s);
	return s;
}

bool tls_cache_put(struct tls_policy *p, uint16_t row, uint32_t gen, SSL_SESSION *s)
{
	struct tls_server *r = &p->server[row];
	if (r->gen != gen || !SSL_SESSION_is_resumable(s))
		return false;
	if (r->n == TLS_TICKETS_MAX)
		forget_oldest(r);
	r->ticket[r->n++] = s;
	p->counts.tickets++;
	return true;
}
