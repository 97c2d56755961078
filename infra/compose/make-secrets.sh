#!/bin/sh
# Makes the passwords of a farm, at random, below infra/compose/secrets/. Those that are there stay as they are.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
cd secrets

random() { od -An -N 24 -tx1 /dev/urandom | tr -d ' \n'; }

# Each is read by one user of one container, whose number this host does not know: the folder keeps others away.
keep() {
    [ -e "$1" ] && return
    cat > "$1.new"
    chmod 0444 "$1.new"
    mv "$1.new" "$1"
}

random | keep database_password
random | keep s3_password
random | keep grafana_password
echo stenopool | keep s3_user
printf 'requirepass %s\n' "$(random)" | keep redis_conf
printf 'postgresql://stenopool:%s@postgres/stenopool\n' "$(cat database_password)" | keep database_url
printf 'redis://:%s@redis:6379/0\n' "$(sed -n 's/^requirepass //p' redis_conf)" | keep broker_url
printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$(cat s3_user)" "$(cat s3_password)" | keep s3_credentials
echo "the passwords are in $(pwd)"
