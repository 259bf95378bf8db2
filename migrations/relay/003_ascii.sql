-- Up Migration
--
-- A trigger's definition is kept in ASCII, so that it can be kept in a database of any encoding.

update relay.catalogue set trigger_definition = regexp_replace(trigger_definition, ' ON [^ -~]+ ', ' ON ... ');
