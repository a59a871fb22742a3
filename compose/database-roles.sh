#!/bin/sh
# Runs once, when the database volume is empty. Creates two logins: the owner
# migrates the schema; the server can only add to the trail and read it. The server's builder of
# the search index becomes quire_indexer.
set -eu

psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv owner_password POSTGRES_OWNER_PASSWORD
\getenv server_password POSTGRES_SERVER_PASSWORD
CREATE ROLE quire_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE quire_server LOGIN PASSWORD :'server_password';
CREATE ROLE quire_indexer NOLOGIN;
GRANT quire_indexer TO quire_server WITH INHERIT FALSE, SET TRUE;
CREATE DATABASE quire OWNER quire_owner;
REVOKE ALL ON DATABASE quire FROM PUBLIC;
GRANT CONNECT ON DATABASE quire TO quire_server;
SQL
