/*
 * probe.pml - breaker word, half-open permits with leases, kill -9, reaper, operator: as shm/breaker.c has them.
 *
 * One step is one access to a shared word.  The breaker word (state, generation, count) moves as one.
 *
 *   Worker, first part    rhc_breaker_admit(): the load, pass_time() (OPEN whose time is over), take_probe()
 *   take_permit           take_permit(): a free word, or one whose lease is over, becomes mine by one CAS
 *   re-read               still_probe(): "the instant of admission", else drop_permit()
 *   renewal               rhc_breaker_readmit(): renew() of the exact word, then the re-read (-DRENEW)
 *   outcome               verdict() and apply(): only in the generation it was admitted under
 *   drop                  drop_permit(): the exact word, after the verdict
 *   Reaper                free_permits() of shm/reap.c: load, then CAS of the exact word, under the worker's byte
 *   Admin                 rhc_admin_breaker()
 *
 * A lease ends whenever the environment likes (STEALS times): the holder may be stopped, slow or dead.
 *
 * Checked  who is admitted as a probe holds its permit at that instant; never more than K probes whose lease has not been taken over; a word is only freed by who put it there, by a
 *          thief after its lease or by the reaper of the dead; when all is over every permit is back.
 * Wrong    COUNTER  permits are a counter in the word        NOGEN   outcomes are applied without comparing the generation
 *          NOREVAL  admitted without reading the word again  BLINDDROP  a late holder frees whatever word it finds
 *          BLINDRENEW  the renewal stores without comparing      NOLOOK  admitted without reading the permit again
 */
#ifndef NW
#define NW 2
#endif
#ifndef K
#define K 1             /* probe permits */
#endif
#ifndef NR
#define NR 2            /* requests per incarnation */
#endif
#ifndef SUCC
#define SUCC 2          /* successes that close it */
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef RESTARTS
#define RESTARTS 1
#endif
#ifndef ADMIN
#define ADMIN 1         /* number of rhcctl commands */
#endif
#ifndef STEALS
#define STEALS 1        /* leases that end early */
#endif
#define OWNER(word) ((word) & 7)
#define WORD(me) (((serial % 31) + 1) * 8 + (me) + 1)   /* never the same twice: lease end and incarnation in the code */
#define CLOSED 0
#define OPEN 1
#define HALF 2
#define FORCED 3        /* forced open */

/* the breaker word: these three move in one atomic step */
byte bs = CLOSED, bg = 0, bn = 0;
byte permit[K];         /* 0 free, else serial * 8 + owner + 1 */
byte serial;
byte steals = STEALS;
#ifdef COUNTER
byte avail = K;
#endif
bool killed[NW], dead[NW], lockb[NW];
byte state[NW];
byte restarts = RESTARTS;
byte probing[NW];       /* ghost: probes in flight of a live process, their lease not taken over */
bool lost[NW];          /* ghost: its lease was taken over */

inline sum(t) { t = 0; x = 0; do :: x < NW -> t = t + probing[x]; x++ :: else -> break od; x = 0 }

/* The exact word: a late holder frees nothing that somebody took over. */
inline drop() {         /* the ghosts move with it */
    atomic {
#ifdef BLINDDROP
        permit[got] = 0;
#else
        if :: permit[got] == mine -> permit[got] = 0 :: else fi;
#endif
        if :: lost[me] -> lost[me] = false :: !lost[me] && probing[me] > 0 -> probing[me]-- :: else fi
    };
    mine = 0
}

proctype Worker(byte me)
{
    byte s, g, n, p, got, req, t, x, mine, seen; bool ok, fail;
    {
    do
    :: req < NR ->
        req++; got = K; ok = false;
        atomic { s = bs; g = bg; n = bn };                      /* one 64-bit load */
        if
        :: s == OPEN ->
            if
            :: atomic { bs == OPEN && bg == g -> bs = HALF; bg = g + 1; bn = 0 }   /* timer ran out: CAS */
                s = HALF; g = g + 1
            :: skip                                             /* not yet, or CAS lost: reject */
            fi
        :: else
        fi;
        if
        :: s == CLOSED -> ok = true
        :: s == HALF ->
#ifdef COUNTER
            atomic { if :: bs == HALF && bg == g && avail > 0 -> avail--; got = 0; ok = true; probing[me]++ :: else fi }
#else
            p = 0;
            do
            :: p < K && got == K ->
                seen = permit[p];
                if
                :: seen == 0 ->
                    atomic { if :: permit[p] == 0 -> mine = WORD(me); serial++; permit[p] = mine; got = p :: else fi }
                :: seen != 0 && steals > 0 ->               /* its lease is over: taken over, if it is still that word */
                    atomic { if :: permit[p] == seen && steals > 0 ->
                                steals--; mine = WORD(me); serial++; permit[p] = mine; got = p;
                                if :: probing[OWNER(seen) - 1] > 0 -> probing[OWNER(seen) - 1]-- :: else fi;
                                if :: !dead[OWNER(seen) - 1] -> lost[OWNER(seen) - 1] = true :: else fi
                             :: else fi }
                :: seen != 0 -> skip
                fi; seen = 0; p++
            :: else -> break
            od; p = 0;
            if
            :: got < K ->
#ifndef NOREVAL
                if
                :: atomic { bs == HALF && bg == g -> skip };    /* still_probe(): the breaker ... */
#endif
                atomic {                                        /* ... and the permit: admission instant */
                    if
#ifdef NOLOOK
                    :: true ->
#else
                    :: permit[got] == mine ->
#endif
                        ok = true; assert(!lost[me]); probing[me]++; sum(t); assert(t <= K); t = 0;
#ifdef NOREVAL
                        assert(bs == HALF)
#endif
                    :: else
                    fi
                };
#ifndef NOREVAL
                :: atomic { !(bs == HALF && bg == g) -> skip }
                fi;
#endif
                if
                :: !ok -> drop(); got = K
                :: else ->
#ifdef RENEW
#ifdef BLINDRENEW
                    atomic { mine = WORD(me); serial++; permit[got] = mine };
#else
                    atomic { if :: permit[got] == mine -> mine = WORD(me); serial++; permit[got] = mine
                                :: else -> ok = false; skip fi };
#endif
                    if
                    :: !ok -> got = K; mine = 0; lost[me] = false                  /* taken over: admit anew, here: refused */
                    :: else ->
                        if
                        :: atomic { bs == HALF && bg == g -> skip };
                            if
                            :: atomic { permit[got] == mine -> assert(!lost[me]) }
                            :: atomic { permit[got] != mine -> ok = false }; drop(); got = K
                            fi
                        :: atomic { !(bs == HALF && bg == g) -> ok = false };
                            drop(); got = K
                        fi
                    fi
#else
                    skip
#endif
                fi
            :: else
            fi
#endif
        :: else                                                 /* OPEN, FORCED: reject */
        fi;
        if
        :: ok ->
            if :: fail = false :: fail = true fi;               /* the upstream answers */
            /* report: CAS, only if the generation is still the one we were admitted under */
            do
            :: atomic {
                if
#ifdef NOGEN
                :: bs == FORCED -> skip
                :: bs != FORCED && fail && bs == CLOSED ->
                        assert(bg == g);                        /* a stale failure trips it */
                        bs = OPEN; bg++; bn = 0
#else
                :: bg != g -> skip                              /* stale: dropped */
                :: bg == g && bs == CLOSED && fail -> bs = OPEN; bg++; bn = 0
#endif
                :: bg == g && bs == HALF && fail -> bs = OPEN; bg++; bn = 0
                :: bg == g && bs == HALF && !fail ->
                        if
                        :: bn + 1 >= SUCC -> bs = CLOSED; bg++; bn = 0
                        :: else -> bn++
                        fi
                :: else -> skip
                fi } ; break
            od;
#ifdef COUNTER
            if :: got < K -> atomic { avail++; probing[me]-- } :: else fi
#else
            if
            :: got < K -> drop()
            :: else
            fi
#endif
        :: else
        fi
    :: else -> break
    od;
    state[me] = 1
    } unless { atomic { killed[me] -> probing[me] = 0; lost[me] = false; dead[me] = true } }
}

proctype Reaper()
{
    byte w, p, word;
end:
    do
    :: if
       :: atomic { dead[0] && !lockb[0] -> lockb[0] = true; w = 0 }
       :: atomic { dead[1] && !lockb[1] -> lockb[1] = true; w = 1 }
#if NW > 2
       :: atomic { dead[2] && !lockb[2] -> lockb[2] = true; w = 2 }
#endif
       fi;
       p = 0;
       do
       :: p < K ->
            word = permit[p];
            if
            :: word != 0 && OWNER(word) == w + 1 -> atomic { if :: permit[p] == word -> permit[p] = 0 :: else fi }
            :: else
            fi; p++
       :: else -> break
       od; p = 0;
       atomic { dead[w] = false; lockb[w] = false;
                if :: restarts > 0 -> restarts--; killed[w] = false; run Worker(w)
                   :: else -> state[w] = 2 fi }
    od
}

proctype Admin()        /* rhcctl: force-open / reset, at any time, workers may hang */
{
    byte c;
    do
    :: c < ADMIN ->
        c++;
        if
        :: atomic { bs = FORCED; bg++; bn = 0 }
        :: atomic { bs = CLOSED; bg++; bn = 0 }
        fi
    :: else -> break
    od
}

#if NW > 2
#define ALLQUIET (state[0] != 0 && !dead[0] && state[1] != 0 && !dead[1] && state[2] != 0 && !dead[2])
#else
#define ALLQUIET (state[0] != 0 && !dead[0] && state[1] != 0 && !dead[1])
#endif
init {
    byte w, kills;
    atomic {
        w = 0; do :: w < NW -> run Worker(w); w++ :: else -> break od; w = 0;
        run Reaper(); run Admin()
    };
    do
    :: kills < KILLS ->
        if
        :: atomic { state[0] == 0 && !killed[0] -> killed[0] = true; kills++ }
        :: atomic { state[1] == 0 && !killed[1] -> killed[1] = true; kills++ }
#if NW > 2
        :: atomic { state[2] == 0 && !killed[2] -> killed[2] = true; kills++ }
#endif
        :: break
        fi
    :: else -> break
    od;
    ALLQUIET;
    /* nobody is left: every permit must be back, or HALF_OPEN is for ever */
    w = 0; do :: w < K -> assert(permit[w] == 0); w++ :: else -> break od;
#ifdef COUNTER
    assert(avail == K)
#endif
}
