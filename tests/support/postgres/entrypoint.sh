#!/bin/sh
# As the public image does it: on an empty folder a database of one's own, with a password, for connections by network.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  umask 077
  printf '%s' "$POSTGRES_PASSWORD" > /tmp/password
  initdb --no-sync --encoding=UTF8 --locale=C --auth-local=trust --auth-host=scram-sha-256 \
    --username="$POSTGRES_USER" --pwfile=/tmp/password -D "$PGDATA"
  rm /tmp/password
  echo "CREATE DATABASE \"$POSTGRES_DB\"" | postgres --single -D "$PGDATA" postgres
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql
