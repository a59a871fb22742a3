#!/bin/sh
# Runs once, when the database volume is empty. Creates the logins: the owner migrates the schema;
# the server can only add to the trail and read it; the signer writes what it signs; retention seals and drops months. The server's
# builder of the search index becomes quire_indexer.
set -eu

psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv owner_password POSTGRES_OWNER_PASSWORD
\getenv server_password POSTGRES_SERVER_PASSWORD
\getenv signer_password POSTGRES_SIGNER_PASSWORD
\getenv retention_password POSTGRES_RETENTION_PASSWORD
CREATE ROLE quire_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE quire_server LOGIN PASSWORD :'server_password';
CREATE ROLE quire_signer LOGIN PASSWORD :'signer_password';
CREATE ROLE quire_retention LOGIN PASSWORD :'retention_password';
CREATE ROLE quire_indexer NOLOGIN;
GRANT quire_indexer TO quire_server WITH INHERIT FALSE, SET TRUE;
CREATE DATABASE quire OWNER quire_owner;
REVOKE ALL ON DATABASE quire FROM PUBLIC;
GRANT CONNECT ON DATABASE quire TO quire_server, quire_signer, quire_retention;
SQL
