/*
 * shm/note.h - who overrode what and why: the text beside an override.
 *
 * Writers  the holder of the ADMIN byte.  Readers any; torn or void reads as "not set".
 * Order    as an event record: seq odd, payload release, seq even.
 */
#ifndef RHC_SHM_NOTE_H
#define RHC_SHM_NOTE_H

#include "shm/view.h"

enum { RHC_NOTE_BREAKER, RHC_NOTE_LIMIT };

/* verb 0 clears it. */
void rhc_note_write(struct rhc_note *note, unsigned verb, uint32_t uid, uint32_t pid,
                    const char *reason, uint64_t now_ms);
void rhc_note_read(const struct rhc_note *note, struct rhc_view_note *ret);

/* Up to RHC_REASON_MAX bytes of text, cut before a character, padded with zeros. */
void rhc_text_pack(const char *text, uint64_t ret[RHC_REASON_MAX / 8]);
/* The reverse, without control bytes. */
void rhc_text_unpack(const uint64_t words[RHC_REASON_MAX / 8], char ret[RHC_REASON_MAX + 1]);

#endif
