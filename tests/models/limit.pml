/*
 * limit.pml - max_concurrency changed at run time, as shm/bulkhead.c has it.
 *
 * ctl is one word (limit, hw, epoch): indices < limit may be claimed; hw > limit means draining.
 *
 *   claim        take(): ctl, then claim_in() below that limit          admitted   admitted(): every branch of it
 *   give back    give_back(), which wakes as a release does             lower      lower_hw(), by anybody at any time
 *   Admin        rhc_admin_limit() and rhc_bulkhead_reconcile()         Reaper     free_slots() and the wake of everybody
 *
 * The instant of admission: not draining, the load of ctl itself (all holders are below the limit, so they are not more);
 * draining, the second load that finds the word unchanged after the holders were counted.  The code lets only the oldest
 * waiter claim while it drains; here everybody may, which is harder.
 *
 * Checked  no admission makes the admitted holders more than the limit of that instant; when all is over nothing is left
 *          behind.  -DWAIT: who was refused sleeps until it is woken, and nobody sleeps for ever.
 * Wrong    NO_COUNT  index bound only       NO_EPOCH  admitted without reading ctl again
 *          -DWAIT NO_UNDO_KICK  a claim is given back without waking
 */
#ifndef NW
#define NW 3
#endif
#ifndef CAP
#define CAP 2
#endif
#ifndef NR
#define NR 1
#endif
#ifndef CHANGES
#define CHANGES 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
byte slot[CAP];
byte lim = CAP, hw = CAP, ep = 0;       /* one word */
byte adm;                               /* ghost: admitted, live holders */
bool admitted[NW];
bool killed[NW], dead[NW], gone[NW], wake[NW];
inline kick() { i = 0; do :: i < NW -> wake[i] = true; i++ :: else -> break od; i = 0 }

proctype Worker(byte me)
{
    byte l, h, e, i, got, cnt, req; bool ok, again;
    {
    do
    :: req < NR ->
        again = false; got = CAP; ok = false;
        wake[me] = false;
        atomic { l = lim; h = hw; e = ep };
        i = 0;
        do
        :: i < l && got == CAP -> atomic { if :: slot[i] == 0 -> slot[i] = me + 1; got = i :: else fi; i++ }
        :: else -> break
        od; i = 0;
        do
        :: got < CAP && !ok ->
            atomic { l = lim; h = hw; e = ep;               /* admitted(): load_ctl() */
                if
                :: got < l && h <= l -> ok = true; admitted[me] = true; adm++; assert(adm <= lim)
                :: else
                fi };
            if
            :: ok -> skip
            :: !ok && got >= l -> break                     /* my index was cut off */
            :: else ->
#ifndef NO_COUNT
                if
                :: h > l ->                                 /* draining: count after claiming */
                    cnt = 0; i = 0;
                    do
                    :: i < h -> d_step { if :: slot[i] != 0 -> cnt++ :: else fi; i++ }
                    :: else -> break
                    od; i = 0
                :: else -> cnt = 0
                fi;
                if :: cnt > l -> cnt = 0; break :: else -> cnt = 0 fi;
#endif
                atomic {                                    /* admission instant */
                    if
#ifdef NO_EPOCH
                    :: true ->
#else
                    :: ep == e ->
#endif
                        ok = true; admitted[me] = true; adm++; assert(adm <= lim)
                    :: else
                    fi
                }
            fi
        :: else -> break
        od;
        if
        :: got < CAP ->
            atomic { assert(slot[got] == me + 1); slot[got] = 0; if :: ok -> adm--; admitted[me] = false :: else fi };
#ifdef WAIT
#ifdef NO_UNDO_KICK
            if :: ok -> kick() :: else fi
#else
            kick()
#endif
#endif
        :: else
        fi;
#ifdef WAIT
        if :: !ok -> again = true; wake[me] -> skip :: else fi;
#endif
        if :: again -> skip :: else -> req++ fi;
        /* housekeeping anyone may do: lower hw once nobody holds an index >= limit */
        atomic { l = lim; h = hw; e = ep };
        if
        :: h > l ->
            i = l; cnt = 0;
            do
            :: i < h -> d_step { if :: slot[i] != 0 -> cnt++ :: else fi; i++ }
            :: else -> break
            od; i = 0;
            if
            :: cnt == 0 -> atomic { if :: lim == l && hw == h && ep == e -> hw = l; ep++ :: else fi }
            :: else
            fi; cnt = 0
        :: else
        fi
    :: else -> break
    od;
    gone[me] = true
    } unless { atomic { killed[me] -> if :: admitted[me] -> adm--; admitted[me] = false :: else fi; dead[me] = true } }
}
proctype Admin()
{
    byte c, nl, e, i; byte l, h;
    do
    :: c < CHANGES ->
        c++;
        if :: nl = 1 :: nl = CAP
#if CAP > 2
        :: nl = 2
#endif
        fi;
        do
        :: atomic { l = lim; h = hw; e = ep };
           atomic { if :: ep == e -> lim = nl; hw = (h > nl -> h : nl); ep++; break :: else fi }
        od;
#ifdef WAIT
        kick()
#endif
    :: else -> break
    od
}
proctype Reaper()
{
    byte w, s, i;
end: do
    :: if
       :: atomic { dead[0] && !gone[0] -> w = 0 }
       :: atomic { dead[1] && !gone[1] -> w = 1 }
#if NW > 2
       :: atomic { dead[2] && !gone[2] -> w = 2 }
#endif
       fi;
       s = 0;
       do :: s < CAP -> atomic { if :: slot[s] == w + 1 -> slot[s] = 0 :: else fi; s++ } :: else -> break od; s = 0;
#ifdef WAIT
       i = 0; do :: i < NW -> wake[i] = true; i++ :: else -> break od; i = 0;
#endif
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
    atomic { do :: w < NW -> run Worker(w); w++ :: else -> break od; w = 0; run Admin(); run Reaper() };
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
    w = 0; do :: w < CAP -> assert(slot[w] == 0); w++ :: else -> break od;
    assert(adm == 0)
}
