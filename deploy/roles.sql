-- The logins of docker-compose.yml: each may do what its program needs, and none is a superuser. Run by psql after every
-- recado migrate; it may be repeated, and takes over a password that was changed in .env.
--
--   recado_relay     the relays                       RELAY_DB_PASSWORD
--   recado_worker    the Evolution worker             WORKER_DB_PASSWORD      after recado migrate --whatsapp
--   evolution_api    the Evolution server, with a     EVOLUTION_DB_PASSWORD
--                    database of its own
\set ON_ERROR_STOP on
set client_min_messages = warning;
\set relay_password ''
\set worker_password ''
\set evolution_password ''
\getenv relay_password RELAY_DB_PASSWORD
\getenv worker_password WORKER_DB_PASSWORD
\getenv evolution_password EVOLUTION_DB_PASSWORD
select to_regrole('recado_relay') is null as no_relay,
       to_regrole('recado_worker') is null as no_worker,
       to_regrole('evolution_api') is null as no_evolution,
       to_regrole('recado_evolution') is not null and :'worker_password' <> '' as has_worker,
       :'evolution_password' <> '' as has_evolution
\gset

\if :no_relay
  create role recado_relay login;
\endif
alter role recado_relay password :'relay_password';
grant relay_reader to recado_relay;

\if :has_worker
  \if :no_worker
    create role recado_worker login;
  \endif
  alter role recado_worker password :'worker_password';
  grant recado_evolution to recado_worker;
\endif

\if :has_evolution
  \if :no_evolution
    create role evolution_api login;
    create database evolution_api owner evolution_api;
    revoke connect on database evolution_api from public;
  \endif
  alter role evolution_api password :'evolution_password';
\endif
