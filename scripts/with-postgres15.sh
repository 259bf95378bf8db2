#!/usr/bin/env bash
# Runs a command with TEST_DATABASE_URL on a Postgres 15 of Debian's, made for it and gone afterwards.
#
#   scripts/with-postgres15.sh npm test
set -euo pipefail

bin=/usr/lib/postgresql/15/bin
if [ ! -x "$bin/postgres" ]; then
  echo "There is no Postgres 15 in $bin: apt-get install postgresql-15" >&2
  exit 1
fi
data=$(mktemp -d)
port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')

# Postgres refuses to run as root.
as_owner() { if [ "$(id -u)" = 0 ]; then (cd / && setpriv --reuid=postgres --regid=postgres --clear-groups "$@"); else "$@"; fi; }
if [ "$(id -u)" = 0 ]; then chown postgres "$data"; fi

stop() {
  as_owner "$bin/pg_ctl" --pgdata="$data" --mode=immediate --silent stop || true
  rm -rf "$data" "$secret"
}

secret=$(mktemp)
password=$(node -p 'require("crypto").randomBytes(16).toString("hex")')
echo "$password" >"$secret"
if [ "$(id -u)" = 0 ]; then chown postgres "$secret"; fi
as_owner "$bin/initdb" --pgdata="$data" --username=postgres --auth=scram-sha-256 --pwfile="$secret" \
  --encoding=UTF8 --locale=C.UTF-8 --no-sync >/dev/null

trap stop EXIT
as_owner "$bin/pg_ctl" --pgdata="$data" --silent --wait --log="$data/log" \
  --options="-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c max_connections=300 -c max_prepared_transactions=20" start

TEST_DATABASE_URL="postgres://postgres:$password@127.0.0.1:$port/postgres" "$@"
