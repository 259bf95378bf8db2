#!/usr/bin/env bash
# plpgsql_check over every function of ours, and over every trigger function as its trigger calls it. Prints what it
# finds, and ends with 1 if that is anything. Needs the build, and a server that has the extension (Debian's
# postgresql-15-plpgsql-check):
#
#   scripts/with-postgres15.sh scripts/check-sql.sh
set -euo pipefail
cd "$(dirname "$0")/.."

database="check_sql_$$"
psql=(psql --no-psqlrc --quiet --no-align --tuples-only --set ON_ERROR_STOP=1)
"${psql[@]}" "$TEST_DATABASE_URL" --command "create database $database"
trap '"${psql[@]}" "$TEST_DATABASE_URL" --command "drop database $database with (force)"' EXIT
url="${TEST_DATABASE_URL%/*}/$database"
DATABASE_URL="$url" JWT_SECRET="nothing is signed or verified here" node dist/relay/main.js migrate --clinic --whatsapp >/dev/null

# Let go:
# - an initial value written as a literal ('{}'), which Postgres reads as the variable's type anyway
# - tables of pg_temp, which exist only while their function runs, and what functions of evolution read beside them
# - "not sanitized" where text is put together with expressions of the contract, which relay.expression_failure() has
#   found to be one expression each, and where relay.secure() names objects it has just read from the catalogs
findings=$("${psql[@]}" "$url" <<'SQL'
create extension plpgsql_check;
with ours as (
  select p.oid, p.prorettype = 'trigger'::regtype as is_trigger
    from pg_proc as p join pg_language as l on l.oid = p.prolang
   where l.lanname = 'plpgsql' and p.pronamespace::regnamespace::text in ('relay', 'relay_capture', 'relay_clinic', 'evolution')
),
checked as (
  select ours.oid::regprocedure::text as routine, found.*
    from ours, plpgsql_check_function_tb(ours.oid, 0, fatal_errors => false, extra_warnings => true, security_warnings => true) as found
   where not ours.is_trigger
  union all
  select format('%s on %s', t.tgname, t.tgrelid::regclass), found.*
    from ours join pg_trigger as t on t.tgfoid = ours.oid and t.tgparentid = 0,
         plpgsql_check_function_tb(ours.oid, t.tgrelid, fatal_errors => false, extra_warnings => true, security_warnings => true,
                                   oldtable => t.tgoldtable, newtable => t.tgnewtable) as found
)
select concat_ws(' ', routine, 'line ' || lineno || ':', level || ':', message, detail)
  from checked
 where level <> 'performance'
   and not (message = 'target type is different type than source type' and detail like 'cast "text" value to %[]" type')
   and message not like 'relation "pg_temp.%" does not exist'
   and not (message ~ '^(never read variable|unused parameter) ' and routine ~ '^evolution\.(open_chats|take_changes|count_unread)\(')
   and not (level = 'security' and routine ~ '^relay\.(create_trigger|install|lock_table|preview|secure|become_owner)\(');
SQL
)
if [ -n "$findings" ]; then
  printf '%s\n' "$findings"
  exit 1
fi
