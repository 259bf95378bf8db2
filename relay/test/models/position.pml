/* What a feed and a client have seen, while Postgres crashes and gives out transaction ids again.
 *
 * Postgres: a transaction takes the next id, may write an event, then commits or rolls back. A commit is on disk before
 * it is visible, with everything written until then. A crash ends what is in progress and forgets the ids of
 * transactions that nothing on disk names: they are given out again. The feed reads what its snapshot sees and what it
 * remembers does not; then it remembers the snapshot, cut (relay/outbox/position.ts). The client hears the feed, goes
 * away with the feed's position, and comes back: it reads from the table what it has missed, and is live in one step.
 *
 * Claims: nobody hears an event twice; nobody heard what a crash undid; in the end everybody has heard what committed.
 * Not here: paging, retention, restores.
 *
 * scripts/check-models.sh also plants one error after the other and expects each claim to break.
 */
#define IDS 4
#define bit(x) (1 << (x))

byte next = 1;         /* the id that is given out next */
byte completed = 0;    /* the largest that has ended: a snapshot's xmax is one more */
byte known = 0;        /* the largest that is on disk */
byte crashes = 2;

/* Sets of ids. */
short running = 0, committed = 0, events = 0, written = 0, onDisk = 0;
short heardByFeed = 0, heardByClient = 0;

/* What the feed and the client remember: xmax and the transactions in progress below it. */
byte feedMax = 1, clientMax = 1;
short feedXip = 0, clientXip = 0;
bool live = true;

byte crashed = 0;      /* how often: a writer notices that its session is gone */
byte writing = 2;      /* writers that are not done */

#define sees(xmax, xip, x) ((x) < (xmax) && !((xip) & bit(x)))

inline largest(set, result) {
  result = IDS;
  do
  :: result > 0 && !((set) & bit(result)) -> result--
  :: else -> break
  od
}

inline flush() {
  largest(written, i);
  known = (i > known -> i : known);
  i = 0
}

/* One statement, and what follows in one tick. */
inline readFeed() {
  d_step {
    x = 1; news = 0;
    do
    :: x <= IDS ->
       if
       :: (committed & events & bit(x)) && x <= completed && !sees(feedMax, feedXip, x) -> news = news | bit(x)
       :: else
       fi;
       x++
    :: else -> break
    od;
    assert(!(heardByFeed & news));
    heardByFeed = heardByFeed | news;
    if
    :: live -> assert(!(heardByClient & news)); heardByClient = heardByClient | news
    :: else
    fi;
#ifdef UNCUT
    feedMax = completed + 1;
#else
    largest(news, x);
    feedMax = (x >= feedMax -> x + 1 : feedMax);
#endif
#ifdef FORGETS_XIP
    feedXip = 0;
#else
    feedXip = running & (bit(feedMax) - 1);
#endif
    if
    :: live -> clientMax = feedMax; clientXip = feedXip
    :: else
    fi;
    x = 0; news = 0
  }
}

proctype Writer() {
  byte own = 0, i = 0, transactions = 2, session;
  do
  :: transactions > 0 && next <= IDS ->
     transactions--;
     atomic { own = next; next++; session = crashed; running = running | bit(own); written = written & ~bit(own); events = events & ~bit(own) }
     /* Whether it writes an event, or its id is all that there is of it. */
     if
     :: atomic { session == crashed -> events = events | bit(own); written = written | bit(own) }
     :: skip
     fi;
     if
     :: atomic { session == crashed ->
#ifndef ASYNCHRONOUS
          if
          :: written & bit(own) -> flush(); onDisk = onDisk | bit(own)
          :: else
          fi;
#endif
          skip }
        /* Visible only after it is on disk. */
        atomic { session == crashed -> committed = committed | bit(own); running = running & ~bit(own);
          completed = (own > completed -> own : completed) }
     :: atomic { session == crashed -> running = running & ~bit(own);
          completed = (own > completed -> own : completed) }
     :: session != crashed
     fi
  :: else -> break
  od;
  writing--
}

/* What the disk has is committed, also where the writer was not told; the rest never was. */
proctype Crashes() {
  byte i = 0;
  do
  :: atomic { crashes > 0 && writing > 0 ->
       crashes--; crashed++;
       assert(!((heardByFeed | heardByClient) & ~onDisk));
       committed = onDisk; running = 0; written = onDisk;
       next = known + 1; completed = known;
       /* Ids that nothing on disk names have never been. */
       events = events & onDisk;
     }
  :: writing == 0 -> break
  od
}

proctype Feed() {
  byte x = 0; short news = 0;
  do
  :: writing > 0 -> readFeed()
  :: writing == 0 -> break
  od;
  readFeed();
  live;
  readFeed();
  assert((committed & events) == heardByFeed);
  assert((committed & events) == heardByClient)
}

proctype Client() {
  byte x = 0; short news = 0;
  byte times = 1;
  do
  :: times > 0 ->
     times--;
     live = false;
     /* Back: what the feed has seen and it has not, and in the same tick it is live. */
     d_step {
       x = 1;
       do
       :: x <= IDS ->
          if
          :: (committed & events & bit(x)) && sees(feedMax, feedXip, x) && !sees(clientMax, clientXip, x) -> news = news | bit(x)
          :: else
          fi;
          x++
       :: else -> break
       od;
       assert(!(heardByClient & news));
       heardByClient = heardByClient | news;
       news = 0; x = 0;
#ifdef JOINS_LATER
     }
     /* Between the two the feed may read. */
     d_step {
#endif
       clientMax = feedMax; clientXip = feedXip; live = true
     }
  :: times == 0 -> break
  od
}

init {
  atomic { run Writer(); run Writer(); run Crashes(); run Feed(); run Client() }
}
