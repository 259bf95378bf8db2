-- Checks expressions of the contract before they are used.
--
--   relay.expression_failure(text, target, table, operation)   why one cannot work on its table
--   relay.try_expression(argument, ...)                        raises the reason
--   relay.gives_array(text, table, operation)                  whether one gives an array

-- Parses the expression with old and new as rows of the table, under the search_path of the trigger function, so that
-- what passes here passes there. It is parsed in a WHERE clause, which allows no aggregates: an aggregate would range
-- over all rows and give the wrong account.
-- A cursor over EXPLAIN that is never fetched parses but does not plan, and Postgres refuses it if the text is more
-- than one statement. Planning would call functions declared immutable, with the rights of migrating superusers and of
-- anyone who calls relay.check().
create or replace function relay.expression_failure(expression text, target text, on_table regclass, operation text) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  parsed refcursor;
  failure text;
begin
  open parsed for execute format('explain select from %s where %s', concat_ws(' cross join ',
    case when operation in ('INSERT', 'UPDATE') then format('%s as new', on_table) end,
    case when operation in ('UPDATE', 'DELETE') then format('%s as old', on_table) end),
    -- A trigger's WHEN does not cast. A text would be accepted as an array, and fail later if it is none.
    format(case target when 'boolean' then '(%s)' when 'text[]' then 'array_ndims((%s)) is not null and (%1$s)::text[] is not null' else '(%s)::%s is not null' end,
      expression, target));
  close parsed;
  return null;
exception when others then
  get stacked diagnostics failure = message_text;
  return failure;
end
$$;
comment on function relay.expression_failure(text, text, regclass, text) is 'Why an expression of the contract cannot work on its table; null if it can. Parses it without running it.';

create or replace function relay.try_expression(argument text, expression text, target text, on_table regclass, operation text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  failure text := relay.expression_failure(expression, target, on_table, operation);
begin
  if failure is not null then
    raise exception 'relay.publish(% => ...): %', argument, failure
      using errcode = 'invalid_parameter_value',
            detail = format('Received: %s', expression),
            hint = format('Expected an SQL expression over %s of %s that %s. Qualify tables and functions with their schema; camelCase columns need double quotes.',
              case operation when 'INSERT' then 'new' when 'DELETE' then 'old' else 'new and old' end, on_table,
              case target when 'text[]' then 'gives an array of topics, such as array[''user:'' || new."assignedTo"]' else format('can be cast to %s', target) end);
  end if;
end
$$;
comment on function relay.try_expression(text, text, text, regclass, text) is 'Raises, naming the argument, if an expression given to relay.publish() cannot work.';

-- The parser decides, since the text of an array would just look like {a,b}.
create or replace function relay.gives_array(expression text, on_table regclass, operation text) returns boolean
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select relay.expression_failure(format('array_ndims((%s)) is not null', expression), 'boolean', on_table, operation) is null
$$;
comment on function relay.gives_array(text, regclass, text) is 'Whether an expression of the contract gives an array. Parses it without running it.';
