-- Up Migration
--
-- What no request can carry, and what would show in errors: a key of several lines, and credentials in an address. An
-- instance with either was never reached; what surrounded a key was left out when it was sent.

update evolution.instances
   set "apiKey" = regexp_replace("apiKey", '^\s+|\s+$|[\x01-\x1f\x7f]', '', 'g'),
       host = regexp_replace(regexp_replace(host, '[\x01-\x20\x7f]', '', 'g'), '^(https?://)[^/]*@', '\1', 'i')
 where "apiKey" ~ '^\s|\s$|[\x01-\x1f\x7f]' or host ~* '[\x01-\x20\x7f]|^https?://[^/]*@';
alter table evolution.instances
  add constraint api_key_is_one_line check ("apiKey" !~ '[\x01-\x1f\x7f]'),
  add constraint host_has_no_credentials check (host !~* '[\x01-\x20\x7f]|^https?://[^/]*@');
