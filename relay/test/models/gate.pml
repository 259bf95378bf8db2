/* The gate of NOTIFY, while it is closed and opened again: no event waits for a notification that never comes.
 *
 * A writer takes its transaction id, writes an event, and tries the gate's lock, shared and without waiting: with it, its
 * commit will notify; without it, the writer is silent. It keeps the lock until it ends. The relay asks for the lock
 * exclusively; from then on nobody gets it shared. While the gate is closed or settling the relay reads on a pace of
 * its own; while it is open only when it was notified. Opening: it gives up the lock, takes a transaction id N, and
 * keeps the pace until a read's snapshot has no transaction in progress at or below N. Its session may also be ended by
 * another node: the lock is gone then, and it goes on as after an unlock.
 *
 * Claim: when everybody has ended and the gate is open, everything that committed was read.
 * Not here: the safety read, which would hide an error for a second, and the time after which settling is given up.
 *
 * scripts/check-models.sh also plants one error after the other and expects the claim to break.
 */
#define WRITERS 3
#define IDS 7
#define bit(x) (1 << (x))

mtype = { open, closed, settling };
mtype gate = open;

byte next = 1, completed = 0;
short running = 0, unread = 0;
byte shared = 0;         /* writers that hold the lock */
bool exclusive = false;  /* asked for, or held */
bool rung = false;
byte mark = 0;
byte writing = WRITERS;
byte closings = 2;

#define end(x) running = running & ~bit(x); completed = ((x) > completed -> (x) : completed)

proctype Writer() {
  byte own = 0; bool mine = false;
#ifndef ID_AFTER_LOOK
  atomic { own = next; next++; running = running | bit(own) }
#endif
  atomic {
    if
    :: !exclusive -> shared++; mine = true
    :: exclusive
    fi
  }
#ifdef ID_AFTER_LOOK
  atomic { own = next; next++; running = running | bit(own) }
#endif
  if
  :: atomic { true -> end(own);
       unread = unread | bit(own) }
     /* The notification is sent after the commit is visible, the lock released after that. */
     if
     :: mine -> rung = true
     :: else
     fi
  :: atomic { true -> end(own) }
  fi;
  atomic { shared = (mine -> shared - 1 : shared); writing-- }
}

/* One read: everything visible, and what its snapshot says of the gate. */
inline read() {
  d_step {
    unread = 0;
    if
    :: gate == settling ->
#ifdef MARK_FROM_XMAX
       oldest = completed + 1;
#else
       oldest = 1;
       do
       :: oldest <= completed && !(running & bit(oldest)) -> oldest++
       :: else -> break
       od;
#endif
       if
       :: oldest > mark -> gate = open
       :: else
       fi
    :: else
    fi;
    oldest = 0
  }
}

inline takeMark() {
  atomic { mark = next; next++; running = running | bit(mark) }
  /* In a transaction of its own, which ends at once. */
  d_step { end(mark); gate = settling }
}

proctype Relay() {
  byte oldest = 0;
  do
  :: atomic { rung -> rung = false }; read()
  :: gate != open -> read()
  :: gate == open && closings > 0 -> atomic { closings--; exclusive = true; gate = closed }
     /* Opened again, or its session is ended: the lock is gone either way, and only then is the mark taken. */
  :: gate == closed ->
#ifdef MARK_BEFORE_UNLOCK
     takeMark();
     exclusive = false
#else
     exclusive = false;
#ifdef OPEN_AT_ONCE
     gate = open
#else
     takeMark()
#endif
#endif
  :: writing == 0 && gate == open && !rung && closings == 0 -> break
  od;
  assert(unread == 0)
}

init {
  byte i = 0;
  atomic {
    do
    :: i < WRITERS -> run Writer(); i++
    :: else -> break
    od;
    run Relay()
  }
}
