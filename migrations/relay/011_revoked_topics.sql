-- Up Migration
--
-- A revocation may take one topic away, instead of refusing the token.

alter table relay.revocations add column topic text;
comment on column relay.revocations.topic is 'The tokens are not refused, they only no longer count as holding this topic. Written by relay.revoke_topic().';
comment on table relay.revocations is 'Tokens refused before they expire: those of the account (narrowed to a subject or a token id where given) issued before `before`; or, with a topic, tokens that lost it. Write it with relay.revoke() and relay.revoke_topic().';
