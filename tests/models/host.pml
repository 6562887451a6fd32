/*
 * host.pml - records claimed at run time for hosts, kill -9 and the reaper, as shm/host.c has them.
 *
 * One step is one access to a shared word; between two steps a worker may be killed: its private memory is gone, what it
 * stored stays.  Interleaving is sequentially consistent, as the code's seq_cst is.
 *
 *   finish     finish()          look       look(), same_text()
 *   stays      stays()           evict      evict(), least_recent(), may_go()
 *   Worker     rhc_host_claim(), a call, rhc_host_unpin(); rhc_host_pin() with what it knew before
 *   Reaper     rhc_host_reap() under the worker's byte
 *   Admin      rhc_admin_begin(), rhc_admin_find(), a change, rhc_admin_end()
 *
 * The text of a record is one word here: that a torn one is never believed is the pair of acquire and release argued in
 * same_text().  A worker makes CALLS calls, each to any host; a call's use of the record is two steps, so that anybody can
 * come between.  Which record is evicted is left open: any that nobody pins.
 *
 * Checked  a record in use is its host's as long as anybody uses it; a host never has two records; nobody works on a
 *          record by hand that has become another host's; when all is over no claim and no pin is left.
 * Wrong    NO_FINISH NO_PUB_CAS NO_REREAD NO_KEEP PIN_LATE NO_ADMIN_LOOK
 */
#ifndef NW
#define NW 2
#endif
#ifndef NR
#define NR 2            /* records */
#endif
#ifndef NH
#define NH 3            /* hosts, 1.. */
#endif
#ifndef CALLS
#define CALLS 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#define FREE 0
#define MAKING 1
#define USED 2
#define LEAVING 3
/* id: gen * 16 + owner * 4 + state; pub: the id that was published * 4 + record + 1 */
#define ID(g, o, s) ((g) * 16 + (o) * 4 + (s))
#define GEN(x) ((x) / 16)
#define OWNER(x) (((x) / 4) % 4)
#define STATE(x) ((x) % 4)

short id[NR];
short pub;
byte text[NR];
bit pin[NR * NW];
bool killed[NW], dead[NW], lockb[NW], gone[NW], adminb, admin_done;
/* ghosts */
bit inside[NR * NW];    /* a call is in a record */

/* Two records of one host, both to be found: never. */
inline one_each() {
    d_step {
        a = 0;
        do
        :: a < NR ->
            b = a + 1;
            do
            :: b < NR -> assert(!(STATE(id[a]) >= USED && STATE(id[b]) >= USED && text[a] == text[b])); b++
            :: else -> break
            od; a++
        :: else -> break
        od; a = 0; b = 0
    }
}
inline finish(p) {
    if
    :: p != 0 ->
        atomic {
            if
            :: id[p % 4 - 1] == p / 4 -> id[p % 4 - 1] = ID(GEN(p / 4), 0, USED); one_each()
            :: else
            fi
        }
    :: else
    fi
}
/* ok: in use with this gen; whoever wants to take it is told not to */
inline stays(r, g) {
    ok = false;
    do
    :: atomic { x = id[r]; if :: GEN(x) != g || STATE(x) < USED -> break :: else fi };
        if
        :: STATE(x) == USED -> ok = true; break
        :: else ->
#ifdef NO_KEEP
            ok = true; break
#else
            atomic { if :: id[r] == x -> id[r] = ID(g, 0, USED); ok = true :: else fi };
            if :: ok -> break :: else fi
#endif
        fi
    od; x = 0
}
/* What a call does with a record: it must stay its own. */
inline use(r) {
    atomic { inside[r * NW + me] = 1; assert(STATE(id[r]) >= USED && text[r] == h) };
    atomic { assert(STATE(id[r]) >= USED && text[r] == h); inside[r * NW + me] = 0 }
}
inline make() {
    mine = NR; r = 0;
    do
    :: r < NR && mine == NR ->
        atomic { if :: STATE(id[r]) == FREE -> id[r] = ID(GEN(id[r]) + 1, me + 1, MAKING); mine = r :: else fi }; r++
    :: else -> break
    od; r = 0;
    do
    :: r < NR && mine == NR ->
        if
        :: atomic { STATE(id[r]) == USED -> g = GEN(id[r]); id[r] = ID(g, me + 1, LEAVING) };
            ok = true; k = 0;
            do :: k < NW -> ok = ok && !pin[r * NW + k]; k++ :: else -> break od; k = 0;
#ifndef NO_ADMIN_LOOK
            ok = ok && !adminb;
#endif
            if
            :: ok ->
                atomic {
                    if
                    :: id[r] == ID(g, me + 1, LEAVING) ->
                        k = 0; do :: k < NW -> assert(!inside[r * NW + k]); k++ :: else -> break od; k = 0;
                        id[r] = ID(g + 1, me + 1, MAKING); mine = r
                    :: else
                    fi
                }
            :: else -> atomic { if :: id[r] == ID(g, me + 1, LEAVING) -> id[r] = ID(g, 0, USED) :: else fi }
            fi; ok = false; g = 0
        :: atomic { STATE(id[r]) != USED -> skip }
        :: skip                 /* another is used less recently */
        fi; r++
    :: else -> break
    od; r = 0;
    if
    :: mine < NR ->
        text[mine] = h;
#ifndef PIN_LATE
        pin[mine * NW + me] = 1
#endif
    :: else
    fi
}
inline drop() {
    if
    :: mine < NR -> pin[mine * NW + me] = 0; id[mine] = ID(GEN(id[mine]), 0, FREE); mine = NR
    :: else
    fi
}
inline claim() {
    mine = NR; known = NR; tries = 0;
    do
    :: tries == 3 -> drop(); break                      /* -EAGAIN */
    :: tries < 3 ->
        tries++;
        seen = pub;
#ifndef NO_FINISH
        finish(seen);
#endif
        r = 0; known = NR;
        do
        :: r < NR && known == NR ->
            atomic { x = id[r]; g = GEN(x); ok = STATE(x) >= USED && text[r] == h; x = 0 };
            if :: ok -> stays(r, g); if :: ok -> known = r :: else fi :: else fi;
            if :: known == NR -> r++ :: else fi
        :: else -> break
        od; r = 0; ok = false;
        if
        :: known < NR ->
            pin[known * NW + me] = 1;
#ifdef NO_REREAD
            ok = true;
#else
            stays(known, g);
#endif
            if
            :: ok -> ok = false; drop(); break
            :: else -> pin[known * NW + me] = 0; known = NR
            fi
        :: else ->
            if
            :: mine == NR -> make(); if :: mine == NR -> break :: else fi  /* -ENOSPC */
            :: else ->
                atomic {
#ifdef NO_PUB_CAS
                    ok = true;
#else
                    ok = (pub == seen);
#endif
                    if :: ok -> pub = id[mine] * 4 + mine + 1; seen = pub :: else fi
                };
                if
                :: ok ->
                    finish(seen);
#ifdef PIN_LATE
                    pin[mine * NW + me] = 1;
#endif
                    ok = false; known = mine; g = GEN(seen / 4); mine = NR; break
                :: else
                fi
            fi
        fi
    od; seen = 0; mine = NR; tries = 0
}

proctype Worker(byte me)
{
    byte h, r, k, mine, known, tries, a, b, left = CALLS, g;
    short x, seen; bool ok;
    {
    do
    :: left > 0 ->
        left--;
        if :: h = 1 :: h = 2
#if NH > 2
           :: h = 3
#endif
        fi;
        claim();
        if
        :: known < NR ->
            use(known);
            pin[known * NW + me] = 0;
            if                                          /* once more, with what it knew */
            :: pin[known * NW + me] = 1; stays(known, g);
                if :: ok -> ok = false; use(known) :: else fi;
                pin[known * NW + me] = 0
            :: skip
            fi
        :: else
        fi; known = 0; g = 0; h = 0
    :: else -> atomic { gone[me] = true; break }
    od
    } unless { atomic { killed[me] -> dead[me] = true;
        k = 0; do :: k < NR -> inside[k * NW + me] = 0; k++ :: else -> break od } }
}

proctype Reaper()
{
    byte w, r, a, b; short x, p;
end: do
    :: if
       :: atomic { dead[0] && !lockb[0] -> lockb[0] = true; w = 0 }
       :: atomic { dead[1] && !lockb[1] -> lockb[1] = true; w = 1 }
       fi;
       p = pub; finish(p); p = 0;
       r = 0;
       do
       :: r < NR ->
            x = id[r];
            if
            :: OWNER(x) == w + 1 && STATE(x) == MAKING ->
                atomic { if :: id[r] == x -> id[r] = ID(GEN(x), 0, FREE) :: else fi }
            :: OWNER(x) == w + 1 && STATE(x) == LEAVING ->
                atomic { if :: id[r] == x -> id[r] = ID(GEN(x), 0, USED) :: else fi }
            :: else
            fi; x = 0;
            pin[r * NW + w] = 0; r++
       :: else -> break
       od; r = 0;
       atomic { dead[w] = false; killed[w] = false; lockb[w] = false; gone[w] = true; w = 0 }
    od
}

/* rhcctl by name: found with the byte held, kept, looked at again, changed. */
proctype Admin()
{
    byte r, g, t; short x; bool ok;
    adminb = true;
    do
    :: r < NR ->
        atomic { x = id[r]; ok = STATE(x) >= USED; g = GEN(x); t = text[r]; x = 0 };
        if
        :: ok ->
            stays(r, g);
            if
            :: ok -> atomic { assert(STATE(id[r]) >= USED && text[r] == t) }   /* the change */
            :: else
            fi
        :: else
        fi; ok = false; r++
    :: else -> break
    od;
    atomic { adminb = false; admin_done = true; r = 0; g = 0; t = 0 }
}

init {
    byte w, r, kills;
    atomic {
        do :: w < NW -> run Worker(w); w++ :: else -> break od; w = 0; run Reaper();
#ifdef ADMIN
        run Admin()
#else
        admin_done = true
#endif
    };
    do
    :: kills < KILLS ->
        if
        :: atomic { !gone[0] && !killed[0] && !dead[0] -> killed[0] = true; kills++ }
        :: atomic { !gone[1] && !killed[1] && !dead[1] -> killed[1] = true; kills++ }
        :: break
        fi
    :: else -> break
    od;
    gone[0] && gone[1] && admin_done;
    r = 0;
    do
    :: r < NR ->
        assert(STATE(id[r]) == FREE || STATE(id[r]) == USED);
        w = 0; do :: w < NW -> assert(pin[r * NW + w] == 0); w++ :: else -> break od; r++
    :: else -> break
    od
}
