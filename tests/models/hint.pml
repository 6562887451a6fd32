/*
 * hint.pml - lazy free-hint bits beside the slot words (the slot word is the truth).
 *
 * In shm/bulkhead.c: claim_in() and put_back(), rhc_bulkhead_freed(); in shm/reap.c: rhc_reap_words() with
 * rhc_bulkhead_fix_hints().  slot.pml has the same bits with waiters; here are more workers and more kills.
 *
 *   acquire of hinted slot:  CAS slot 0->me; the hint stays as it is
 *   a finder that fails:     hint := 0; re-read the slot; if FREE: hint := 1
 *   release:                 CAS slot me->0; if hint == 0: hint := 1
 *   reaper:                  CAS dead's slots -> 0; for EVERY slot: if FREE: hint := 1
 *
 * Checked: when everybody is quiet (or dead and reaped), a FREE slot always has
 * its hint set, that is no capacity is lost, wherever a kill -9 struck.
 * Broken: -DNO_REREAD (finder does not re-read), -DREAP_OWN (reaper repairs only
 *         the hints of slots the dead worker owned)
 */
#ifndef NW
#define NW 3
#endif
#ifndef NS
#define NS 1
#endif
#ifndef NR
#define NR 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
byte slot[NS];
bit hint[NS] = 1;
bool killed[NW], dead[NW], gone[NW];
proctype Worker(byte me)
{
    byte i, got, req; bit b;
    {
    do
    :: req < NR ->
        req++; got = NS; i = 0;
        do
        :: i < NS && got == NS ->
            b = hint[i];
            if
            :: b ->
                atomic { if :: slot[i] == 0 -> slot[i] = me + 1; got = i :: else fi };
                if
                :: got == NS ->
                    hint[i] = 0;                        /* fetch_and */
#ifndef NO_REREAD
                    if
                    :: atomic { slot[i] == 0 -> skip }; hint[i] = 1   /* fetch_or */
                    :: atomic { slot[i] != 0 -> skip }
                    fi
#endif
                :: else
                fi
            :: else
            fi; i++
        :: else -> break
        od; i = 0; b = 0;
        if
        :: got < NS ->
            atomic { assert(slot[got] == me + 1); slot[got] = 0 };
            if
            :: atomic { hint[got] == 0 -> skip }; hint[got] = 1
            :: atomic { hint[got] == 1 -> skip }
            fi
        :: else
        fi
    :: else -> break
    od;
    gone[me] = true
    } unless { atomic { killed[me] -> dead[me] = true } }
}
proctype Reaper()
{
    byte w, s; bool mine;
end: do
    :: if
       :: atomic { dead[0] && !gone[0] -> w = 0 }
       :: atomic { dead[1] && !gone[1] -> w = 1 }
#if NW > 2
       :: atomic { dead[2] && !gone[2] -> w = 2 }
#endif
       fi;
       s = 0;
       do
       :: s < NS ->
            atomic { mine = (slot[s] == w + 1); if :: mine -> slot[s] = 0 :: else fi };
#ifdef REAP_OWN
            if :: mine -> hint[s] = 1 :: else fi;
#else
            if
            :: atomic { slot[s] == 0 -> skip }; hint[s] = 1
            :: atomic { slot[s] != 0 -> skip }
            fi;
#endif
            s++
       :: else -> break
       od; s = 0;
       gone[w] = true
    od
}
#if NW > 2
#define ALLGONE (gone[0] && gone[1] && gone[2])
#else
#define ALLGONE (gone[0] && gone[1])
#endif
init {
    byte w, kills;
    atomic { do :: w < NW -> run Worker(w); w++ :: else -> break od; w = 0; run Reaper() };
    do
    :: kills < KILLS ->
        if
        :: atomic { !gone[0] && !killed[0] -> killed[0] = true; kills++ }
        :: atomic { !gone[1] && !killed[1] -> killed[1] = true; kills++ }
        :: break
        fi
    :: else -> break
    od;
    ALLGONE;
    w = 0; do :: w < NS -> assert(slot[w] == 0); assert(hint[w] == 1); w++ :: else -> break od
}
