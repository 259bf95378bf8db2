#!/usr/bin/env bash
# Runs a command with TEST_DATABASE_URL on a Postgres 15 of Debian's, made for it and gone afterwards. With --servers,
# TEST_DATABASE_URL names several of them, with commas in between: one for each worker of jest.
#
#   scripts/with-postgres15.sh [--servers N] npm test
set -euo pipefail

servers=1
if [ "$1" = --servers ]; then
  servers=$2
  shift 2
fi

bin=/usr/lib/postgresql/15/bin
if [ ! -x "$bin/postgres" ]; then
  echo "There is no Postgres 15 in $bin: apt-get install postgresql-15" >&2
  exit 1
fi

# Postgres refuses to run as root.
as_owner() { if [ "$(id -u)" = 0 ]; then (cd / && setpriv --reuid=postgres --regid=postgres --clear-groups "$@"); else "$@"; fi; }
own() { if [ "$(id -u)" = 0 ]; then chown postgres "$1"; fi; }

directories=()
stop() {
  for data in "${directories[@]}"; do
    as_owner "$bin/pg_ctl" --pgdata="$data" --mode=immediate --silent stop || true
    rm -rf "$data"
  done
  rm -f "$secret"
}
secret=$(mktemp)
trap stop EXIT
password=$(node -p 'require("crypto").randomBytes(16).toString("hex")')
echo "$password" >"$secret"
own "$secret"

start() {
  local data port
  data=$(mktemp -d)
  directories+=("$data")
  own "$data"
  as_owner "$bin/initdb" --pgdata="$data" --username=postgres --auth=scram-sha-256 --pwfile="$secret" \
    --encoding=UTF8 --locale=C.UTF-8 --no-sync >/dev/null
  port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')
  as_owner "$bin/pg_ctl" --pgdata="$data" --silent --wait --log="$data/log" \
    --options="-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c max_connections=300 -c max_prepared_transactions=20" start
  urls+=("postgres://postgres:$password@127.0.0.1:$port/postgres")
}
urls=()
for ((n = 0; n < servers; n += 1)); do start; done

TEST_DATABASE_URL=$(IFS=,; echo "${urls[*]}") "$@"
