#include "shm/note.h"

#include <string.h>

void rhc_text_pack(const char *text, uint64_t ret[RHC_REASON_MAX / 8])
{
	size_t len = text ? strnlen(text, RHC_REASON_MAX + 1) : 0;

	if (len > RHC_REASON_MAX) {
		len = RHC_REASON_MAX;
		/* Not inside a character of UTF-8. */
		while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
			len--;
	}
	memset(ret, 0, RHC_REASON_MAX);
	if (len)
		memcpy(ret, text, len);
}

void rhc_text_unpack(const uint64_t words[RHC_REASON_MAX / 8], char ret[RHC_REASON_MAX + 1])
{
	memcpy(ret, words, RHC_REASON_MAX);
	ret[RHC_REASON_MAX] = 0;
	for (char *p = ret; *p; p++) {
		/* The text goes to a terminal: no escape sequences. */
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	}
}

void rhc_note_write(struct rhc_note *note, unsigned verb, uint32_t uid, uint32_t pid,
                    const char *reason, uint64_t now_ms)
{
	uint64_t text[RHC_REASON_MAX / 8];
	/* A predecessor may have died in it: go on from the next even number. */
	uint64_t seq = (atomic_load_explicit(&note->seq, memory_order_relaxed) + 1) & ~UINT64_C(1);

	rhc_text_pack(reason, text);
	/* As in rhc_event_write(): a reader that sees new payload sees the odd seq before it. */
	atomic_store_explicit(&note->seq, seq + 1, memory_order_relaxed);
	RHC_FI("note.odd");
	atomic_store_explicit(&note->who, (uint64_t)uid << 32 | pid, memory_order_release);
	atomic_store_explicit(&note->when, rhc_field(verb, 56, 8) | rhc_field(now_ms, 0, 56),
	                      memory_order_release);
	for (unsigned i = 0; i < RHC_COUNT(text); i++)
		atomic_store_explicit(&note->text[i], text[i], memory_order_release);
	atomic_store_explicit(&note->seq, seq + 2, memory_order_release);
}

void rhc_note_read(const struct rhc_note *note, struct rhc_view_note *ret)
{
	uint64_t seq = atomic_load_explicit(&note->seq, memory_order_acquire), who, when;
	uint64_t text[RHC_REASON_MAX / 8];

	memset(ret, 0, sizeof(*ret));
	who = atomic_load_explicit(&note->who, memory_order_acquire);
	when = atomic_load_explicit(&note->when, memory_order_acquire);
	for (unsigned i = 0; i < RHC_COUNT(text); i++)
		text[i] = atomic_load_explicit(&note->text[i], memory_order_acquire);
	if (seq % 2 || when >> 56 == 0 ||
	    atomic_load_explicit(&note->seq, memory_order_relaxed) != seq)
		return;
	ret->set = true;
	ret->uid = (uint32_t)(who >> 32);
	ret->pid = (uint32_t)who;
	ret->verb = (uint8_t)(when >> 56);
	ret->at_ms = rhc_bits(when, 0, 56);
	rhc_text_unpack(text, ret->reason);
}
