#!/bin/sh
# Makes the role that the gateway signs in as, when the database is first made: `migrate` gives it its rights, and it owns nothing.
set -eu
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
  --set password="$GATEWAY_APP_PASSWORD" <<'SQL'
CREATE ROLE gateway_app LOGIN PASSWORD :'password';
SQL
