/* The gate of NOTIFY, while it is closed and opened again: no event waits for a notification that never comes.
 *
 * A writer tries the gate's lock, shared and without waiting: with it, its commit will notify; without it, the writer is
 * silent. The relay asks for the lock exclusively; from then on nobody gets it shared. While the gate is closed the
 * relay reads on a pace of its own; while it is open only when it was notified. Opening: it gives up the lock, and keeps
 * the pace for some seconds. Its session may also be ended by another node: the lock is gone then, and it goes on as
 * after an unlock.
 *
 * Claim: when everybody has ended and the pace is over, everything that committed was read.
 * Taken for granted: who saw the gate closed has ended before the pace does. Who takes longer waits for the safety read,
 * which is not here: it would hide an error for a second.
 *
 * scripts/check-models.sh also plants one error after the other and expects the claim to break.
 */
#define WRITERS 3

bool exclusive = false;  /* asked for, or held */
bool closed = false;
bool paced = false;      /* after the gate was opened */
bool rung = false;
bool unread = false;
byte silent = 0;         /* writers that saw the gate closed */
byte writing = WRITERS;
byte closings = 2;

proctype Writer() {
  bool mine = false;
  atomic {
    if
    :: !exclusive -> mine = true
    :: exclusive -> silent++
    fi
  }
  if
  :: true ->
#ifdef NOTIFIES_BEFORE_VISIBLE
     rung = rung || mine;
     unread = true
#else
     unread = true;
     rung = rung || mine
#endif
  :: true
  fi;
  atomic { silent = (mine -> silent : silent - 1); writing-- }
}

proctype Relay() {
  do
  :: atomic { rung -> rung = false }; unread = false
  :: closed || paced -> unread = false
  :: !closed && closings > 0 -> atomic { closings--; exclusive = true; closed = true; paced = false }
     /* Opened again, or its session is ended: the lock is gone either way, and only then the seconds begin. */
  :: closed ->
#ifdef PACE_BEFORE_UNLOCK
     silent == 0;
     unread = false;
     exclusive = false;
     closed = false
#else
     exclusive = false;
     atomic { closed = false; paced = true }
#ifdef NO_PACE_AFTERWARDS
     paced = false
#endif
#endif
  :: paced && silent == 0 -> unread = false; paced = false
  :: writing == 0 && !closed && !paced && !rung && closings == 0 -> break
  od;
  assert(!unread)
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
