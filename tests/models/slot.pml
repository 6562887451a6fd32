/*
 * slot.pml - slots, waiters, wake-ups, kill -9 and the reaper, as shm/bulkhead.c has them.
 *
 * One step is one access to a shared word; between two steps a worker may be killed: its private memory is gone, what it
 * stored stays.  Interleaving is sequentially consistent, as the code's seq_cst is.
 *
 *   try_slot   rhc_bulkhead_try()          poll        rhc_bulkhead_poll()
 *   enqueue    enqueue(), publish()        dequeue     dequeue(), publish()
 *   smallest   rhc_bulkhead_smallest()     take        take(), claim_in(), put_back()
 *   baton      pass_baton()                release     rhc_bulkhead_release(), rhc_bulkhead_freed()
 *   cancel     rhc_bulkhead_cancel()       Reaper      rhc_reap_words() under the worker's byte
 *   flush      the caller's eventfd writes: after the operation, so a kill may lose them
 *
 * A worker is an event loop with Q calls: while one holds a slot the other may wait.  It looks only when it is woken: the
 * 5 ms tick of the code is left out, so nothing here rests on it.  Left out: the private list of slots freed last (it only
 * chooses where to look first), limit changes (limit.pml), max_waiting.
 *
 * Checked  a slot is never held twice; only the dead are reaped; when all is over nothing is left behind and every free
 *          slot has its hint; work conservation: never is a slot free while somebody waits and nobody is on the way.
 * -DSTALL  smallest() may pass over any other worker, as for one without a beat: fairness is lost, nothing else may be.
 * -DREJECT the calls of worker 0 are refused instead of queued.
 * -DCALM   shm/calm.h: a slot may be given back by a plain store.  It stays in the worker's store buffer (one entry, read
 *          by itself alone) until Memory, a locked operation, a system call, a fence of somebody else or its death writes
 *          it out.  The calm begins, again CALMS times, and is ended by whoever looks.
 * Wrong    NO_RECHECK NO_KICK NO_CHAIN NO_CANCEL_BATON HINT_NO_BATON NO_REREAD REAP_OWN NO_FREED_WAKE; with CALM
 *          NO_FENCE (it ends without one), NO_ORDER_AGAIN (the releaser reads the order once), NO_WAIT_END and NO_HINT_END
 *          (a waiter, a finder looks without ending it), NO_REAP_FENCE
 */
#ifndef NW
#define NW 2
#endif
#ifndef NS
#define NS 1
#endif
#ifndef Q
#define Q 1             /* calls of a worker */
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef RESTARTS
#define RESTARTS 0
#endif
#ifndef CANCELS
#define CANCELS 0
#endif
#define IDLE 0
#define WAITING 1
#define HOLDING 2
#define DONE 3
#define BIT(w) (1 << (w))

byte slot[NS];          /* 0, else owner + 1 */
bit hint[NS] = 1;
byte head[NW];          /* oldest ticket waiting there, 0 none */
byte waitmask;
byte ticket;
bool wake[NW];          /* its eventfd is readable */
bool killed[NW], dead[NW], lockb[NW], gone[NW];
byte restarts = RESTARTS, cancels = CANCELS;
#ifdef CALM
#ifndef CALMS
#define CALMS 1
#endif
#define STRICT 0
#define LEAVING 2
#define MODE(x) ((x) & 3)
byte order = 1;         /* epoch * 4 + mode; 1 is calm */
byte buf[NW];           /* its store buffer: slot + 1 that it gave back */
inline write_out(w) { if :: buf[w] != 0 -> slot[buf[w] - 1] = 0; buf[w] = 0 :: else fi }
#define OUT(w) write_out(w)
#define MINE(x) (slot[x] == 0 || buf[me] == (x) + 1)
#else
#define OUT(w) skip
#define MINE(x) (slot[x] == 0)
#endif
/* ghosts */
byte nwait[NW];         /* its waiters */
bool busy[NW];          /* within an operation */
byte held[NS];          /* live holders of a slot */

inline smallest() {
    m = waitmask; best = 255; mw = NW; any = 255; aw = NW; j = 0;
    do
    :: j < NW ->
        if
        :: m & BIT(j) ->
            h = head[j];
            if
            :: h != 0 ->
                if :: h < any -> any = h; aw = j :: else fi;
                if
                :: h < best -> best = h; mw = j
#ifdef STALL
                :: h < best && j != me -> skip
#endif
                :: else
                fi
            :: else
            fi
        :: else
        fi; h = 0; j++
    :: else -> break
    od;
    if :: mw == NW -> mw = aw :: else fi;
    j = 0; m = 0; best = 0; any = 0; aw = 0
}
inline baton() {
    if
    :: waitmask != 0 ->
        f = false; j = 0;
        do :: j < NS && !f -> f = hint[j]; j++ :: else -> break od; j = 0;
        if :: f -> smallest(); if :: mw < NW -> pend = pend | BIT(mw) :: else fi; mw = 0 :: else fi;
        f = false
    :: else
    fi
}
#ifdef CALM
inline fence() { j = 0; do :: j < NW -> atomic { write_out(j); j++ } :: else -> break od; j = 0 }
/* rhc_calm_end() */
inline calm_end() {
    do
    :: e = order;
        if
        :: MODE(e) == STRICT -> break
        :: MODE(e) == 1 -> atomic { write_out(me); if :: order == e -> order = e + 1 :: else fi }
        :: MODE(e) == LEAVING ->
#ifndef NO_FENCE
            fence();
#endif
            atomic { if :: order == e -> order = e - LEAVING :: else fi }
        fi
    od; e = 0
}
#endif
inline take() {
    got = NS; i = 0; back = false;
    do
    :: i < NS && got == NS ->
        if
        :: hint[i] == 1 ->
            atomic { if :: MINE(i) -> OUT(me); slot[i] = me + 1; got = i; held[i]++; assert(held[i] == 1) :: else fi };
            if
#ifdef CALM
            :: atomic { got == NS && MODE(order) == 1 -> skip } /* leave_hint() */
#endif
            :: got == NS ->
                atomic { OUT(me); hint[i] = 0 };
#if defined(CALM) && !defined(NO_HINT_END)
                calm_end();
#endif
#ifndef NO_REREAD
                if
                :: atomic { slot[i] == 0 -> skip }; hint[i] = 1; back = true
                :: atomic { slot[i] != 0 -> skip }
                fi
#endif
            :: got < NS -> skip
            fi
        :: else
        fi; i++
    :: else -> break
    od; i = 0;
#ifndef HINT_NO_BATON
    if :: back -> baton() :: else fi;
#endif
    back = false
}
inline publish() {      /* head: the smallest ticket of the local queue */
    d_step { t = 0; k = 0; do :: k < Q -> if :: st[k] == WAITING && (t == 0 || tk[k] < t) -> t = tk[k] :: else fi; k++ :: else -> break od; k = 0 };
    atomic { OUT(me); head[me] = t };
    if :: t == 0 -> waitmask = waitmask & (255 - BIT(me)) :: else fi
}
inline dequeue(x) { st[x] = HOLDING; publish(); t = 0 }
/* The first local waiter, if it is its turn and there is a slot. */
inline poll() {
    d_step { first = Q; t = 255; k = 0; do :: k < Q -> if :: st[k] == WAITING && tk[k] < t -> t = tk[k]; first = k :: else fi; k++ :: else -> break od; k = 0; t = 0 };
    got = NS;
    if
    :: first < Q ->
        smallest();
        if
        :: mw == me ->
            mw = 0; take();
            if
            :: got < NS ->
                sl[first] = got; nwait[me]--; dequeue(first);
#ifndef NO_CHAIN
                baton()
#endif
            :: else
            fi
        :: else -> mw = 0; baton()
        fi
    :: else
    fi
}
inline poll_all() { do :: poll(); if :: got == NS -> break :: else -> got = NS fi od; first = 0 }
inline flush() {
    if :: pend != 0 -> atomic { OUT(me) } :: else fi;           /* a system call */
    if
    :: pend & BIT(me) -> pend = pend & (255 - BIT(me)); wake[me] = true   /* look again before sleeping */
    :: else
    fi;
    j = 0;
    do :: j < NW -> if :: pend & BIT(j) -> wake[j] = true :: else fi; j++ :: else -> break od;
    j = 0; pend = 0
}
inline begin(c) {
    got = NS;
    if :: waitmask == 0 -> take() :: else fi;                   /* rhc_bulkhead_try */
    if
    :: got < NS -> sl[c] = got; st[c] = HOLDING
#ifdef REJECT
    :: got == NS && me == 0 -> st[c] = DONE                     /* a call that may not wait */
    :: got == NS && me != 0 -> 
#else
    :: else -> 
#endif
                                                               /* rhc_bulkhead_wait */
        atomic { OUT(me); ticket++; tk[c] = ticket; st[c] = WAITING; nwait[me]++ };
        publish();
        if :: t == tk[c] -> t = 0; waitmask = waitmask | BIT(me);
#if defined(CALM) && !defined(NO_WAIT_END)
                            calm_end();
#endif
#ifndef NO_RECHECK
                            poll()
#endif
           :: else -> t = 0
        fi
    fi;
    got = NS; first = 0
}
inline release(c) {
#ifdef CALM
    e = order;
    if
    :: MODE(e) == 1 ->
        atomic { assert(slot[sl[c]] == me + 1 && buf[me] != sl[c] + 1); OUT(me); buf[me] = sl[c] + 1; held[sl[c]]-- };
#ifndef NO_ORDER_AGAIN
        if
        :: atomic { order != e -> skip }; atomic { OUT(me); hint[sl[c]] = 1 }
        :: atomic { order == e -> skip }
        fi
#endif
    :: else ->
        atomic { OUT(me); assert(slot[sl[c]] == me + 1); slot[sl[c]] = 0; held[sl[c]]-- }
    fi; e = 0;
#else
    atomic { assert(slot[sl[c]] == me + 1); slot[sl[c]] = 0; held[sl[c]]-- };
#endif
    if
    :: atomic { hint[sl[c]] == 0 -> skip }; atomic { OUT(me); hint[sl[c]] = 1 }
    :: atomic { hint[sl[c]] == 1 -> skip }
    fi;
#ifndef NO_FREED_WAKE
    if :: waitmask != 0 -> smallest(); if :: mw < NW -> pend = pend | BIT(mw) :: else fi; mw = 0 :: else fi;
#endif
    st[c] = DONE; sl[c] = 0; tk[c] = 0
}

proctype Worker(byte me)
{
    byte st[Q], tk[Q], sl[Q];
    byte i, j, k, m, h, t, mw, aw, best, any, got, pend, first, c; bool f, back;
#ifdef CALM
    byte e;
#endif
    {
    do
    :: atomic { st[0] == IDLE -> busy[me] = true; c = 0 }; begin(c); flush(); busy[me] = false
    :: atomic { st[0] == HOLDING -> busy[me] = true; c = 0 }; release(c); flush(); busy[me] = false
#if Q > 1
    :: atomic { st[1] == IDLE && st[0] != IDLE -> busy[me] = true; c = 1 }; begin(c); flush(); busy[me] = false
    :: atomic { st[1] == HOLDING -> busy[me] = true; c = 1 }; release(c); flush(); busy[me] = false
#endif
    :: atomic { wake[me] -> wake[me] = false; busy[me] = true }; poll_all(); flush(); busy[me] = false
    :: atomic { cancels > 0 && st[0] == WAITING -> cancels--; busy[me] = true };
        nwait[me]--; st[0] = DONE; tk[0] = 0; publish(); t = 0;
#ifndef NO_CANCEL_BATON
        baton();
#endif
        flush(); busy[me] = false
#if Q > 1
    :: atomic { st[0] == DONE && st[1] == DONE -> gone[me] = true; break }
#else
    :: atomic { st[0] == DONE -> gone[me] = true; break }
#endif
    od
    } unless { atomic { killed[me] -> OUT(me);
        k = 0; do :: k < NS -> if :: slot[k] == me + 1 -> held[k] = 0 :: else fi; k++ :: else -> break od;
        busy[me] = false; nwait[me] = 0; wake[me] = false; dead[me] = true } }
}

proctype Reaper()
{
    byte w, s, j; bool mine;
end: do
    :: if
       :: atomic { dead[0] && !lockb[0] -> lockb[0] = true; w = 0 }
       :: atomic { dead[1] && !lockb[1] -> lockb[1] = true; w = 1 }
#if NW > 2
       :: atomic { dead[2] && !lockb[2] -> lockb[2] = true; w = 2 }
#endif
       fi;
#if defined(CALM) && !defined(NO_REAP_FENCE)
       fence();
#endif
       s = 0;
       do
       :: s < NS ->
            atomic { mine = (slot[s] == w + 1); if :: mine -> assert(dead[w]); slot[s] = 0 :: else fi };
#ifdef REAP_OWN
            if :: mine -> hint[s] = 1 :: else fi;
#endif
            s++
       :: else -> break
       od; s = 0; mine = false;
#ifndef REAP_OWN
       do
       :: s < NS ->
            if
            :: atomic { slot[s] == 0 -> skip }; hint[s] = 1
            :: atomic { slot[s] != 0 -> skip }
            fi; s++
       :: else -> break
       od; s = 0;
#endif
       waitmask = waitmask & (255 - BIT(w));
       head[w] = 0;
#ifndef NO_KICK
       do :: s < NW -> if :: waitmask & BIT(s) -> wake[s] = true :: else fi; s++ :: else -> break od; s = 0;
#endif
       atomic { dead[w] = false; lockb[w] = false; killed[w] = false;
                if :: restarts > 0 -> restarts--; run Worker(w) :: else -> gone[w] = true fi; w = 0 }
    od
}

#ifdef CALM
proctype Memory()
{
end: do
    :: atomic { buf[0] != 0 -> write_out(0) }
    :: atomic { buf[1] != 0 -> write_out(1) }
#if NW > 2
    :: atomic { buf[2] != 0 -> write_out(2) }
#endif
    od
}
/* rhc_calm_begin() */
proctype Calmer()
{
    byte n, e;
    do
    :: n < CALMS ->
        n++; e = order;
        if
        :: waitmask == 0 -> atomic { if :: order == e && MODE(e) == STRICT -> order = e + 5 :: else fi }
        :: else
        fi
    :: break
    od
}
#endif

#if NW > 2
#define ALLSTILL (!busy[0] && !busy[1] && !busy[2] && !wake[0] && !wake[1] && !wake[2] && !dead[0] && !dead[1] && !dead[2])
#define SOMEWAIT (nwait[0] + nwait[1] + nwait[2] > 0)
#define ALLGONE (gone[0] && gone[1] && gone[2])
#else
#define ALLSTILL (!busy[0] && !busy[1] && !wake[0] && !wake[1] && !dead[0] && !dead[1])
#define SOMEWAIT (nwait[0] + nwait[1] > 0)
#define ALLGONE (gone[0] && gone[1])
#endif
#if NS > 1
#define SOMEFREE (slot[0] == 0 || slot[1] == 0)
#else
#define SOMEFREE (slot[0] == 0)
#endif
active proctype WorkConserving()
{
end: atomic { ALLSTILL && SOMEWAIT && SOMEFREE -> assert(false) }
}
init {
    byte w, kills;
    atomic { do :: w < NW -> run Worker(w); w++ :: else -> break od; w = 0; run Reaper();
#ifdef CALM
        run Memory(); run Calmer()
#endif
    };
    do
    :: kills < KILLS ->
        if
        :: atomic { !gone[0] && !killed[0] && !dead[0] -> killed[0] = true; kills++ }
        :: atomic { !gone[1] && !killed[1] && !dead[1] -> killed[1] = true; kills++ }
#if NW > 2
        :: atomic { !gone[2] && !killed[2] && !dead[2] -> killed[2] = true; kills++ }
#endif
        :: break
        fi
    :: else -> break
    od;
    ALLGONE;
#ifdef CALM
    w = 0; do :: w < NW -> buf[w] == 0; w++ :: else -> break od;
#endif
    assert(waitmask == 0);
    w = 0; do :: w < NS -> assert(slot[w] == 0 && hint[w] == 1); w++ :: else -> break od;
    w = 0; do :: w < NW -> assert(head[w] == 0); w++ :: else -> break od
}
