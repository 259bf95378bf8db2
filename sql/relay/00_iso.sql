-- Instants as JavaScript writes them: 2025-01-23T09:15:00.000Z. For payloads: to_jsonb() of an instant depends on
-- the session's time zone, and leaves out the Z of a timestamp without one.
--
--   relay.iso(timestamptz)
--   relay.iso(timestamp)     read as UTC, as Prisma and others store it
--   relay.iso(date)          midnight UTC
--
-- infinity and -infinity stay as they are. STABLE, because to_char() is.

create or replace function relay.iso(at timestamptz) returns text
language sql stable parallel safe
as $$ select case when isfinite(at) then to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') else at::text end $$;
comment on function relay.iso(timestamptz) is 'The instant as JavaScript writes it: 2025-01-23T09:15:00.000Z.';

create or replace function relay.iso(at timestamp) returns text
language sql stable parallel safe
as $$ select case when isfinite(at) then to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') else at::text end $$;
comment on function relay.iso(timestamp) is 'The instant, taken as UTC, as JavaScript writes it.';

create or replace function relay.iso(at date) returns text
language sql stable parallel safe
as $$ select case when isfinite(at) then to_char(at, 'YYYY-MM-DD"T00:00:00.000Z"') else at::text end $$;
comment on function relay.iso(date) is 'Midnight UTC of the day as JavaScript writes it: 2025-01-23T00:00:00.000Z.';
