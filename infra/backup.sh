#!/bin/sh
# Backs a farm up, and restores it. It may run meanwhile; what is restored is the farm as it was when the backup began.
#   sh infra/backup.sh backup FOLDER
#   sh infra/backup.sh restore FOLDER     into an empty database and an empty store
# The farm is that of STENOPOOL_DATABASE (or STENOPOOL_DATABASE_FILE) and STENOPOOL_STORE. Needed: pg_dump and pg_restore
# of the server's version or a later one; for a store in S3, the aws command with its credentials.
set -eu

usage() {
    echo "usage: backup.sh backup|restore FOLDER" >&2
    exit 2
}
[ $# -eq 2 ] || usage
folder=$2

database=${STENOPOOL_DATABASE:-$(cat "${STENOPOOL_DATABASE_FILE:?STENOPOOL_DATABASE is not set}")}
# What SQLAlchemy is told of its driver, libpq does not know.
database=$(echo "$database" | sed 's,^postgresql+[a-z0-9]*://,postgresql://,')
store=${STENOPOOL_STORE:?STENOPOOL_STORE is not set}

# Everything below one place, to another; what is there already is not copied again.
copy() {
    case "$1 $2" in
    *s3://*)
        endpoint=$(echo "$1 $2" | sed -n 's,.*[?&]endpoint=\([^& ]*\).*,\1,p')
        from=$(echo "$1" | sed 's,?.*,,') to=$(echo "$2" | sed 's,?.*,,')
        aws ${endpoint:+--endpoint-url "$endpoint"} s3 sync --only-show-errors "$from" "$to"
        ;;
    *)
        mkdir -p "$2"
        (cd "$1" && tar -cf - .) | (cd "$2" && tar -xf - --skip-old-files)
        ;;
    esac
}

case $1 in
backup)
    umask 077
    mkdir -p "$folder/objects"
    # The ledger first: what it names was put before, and what is removed meanwhile is mended (transcripts' files are put
    # anew from the ledger, samples are decoded again).
    pg_dump --dbname="$database" --format=custom --no-owner --no-privileges --file="$folder/ledger.new"
    mv "$folder/ledger.new" "$folder/ledger.dump"
    copy "$store" "$folder/objects"
    ;;
restore)
    [ -e "$folder/ledger.dump" ] || { echo "$folder: there is no backup in it" >&2; exit 1; }
    # The objects first: no process may find a row without what it names.
    copy "$folder/objects" "$store"
    pg_restore --dbname="$database" --no-owner --no-privileges --exit-on-error --single-transaction "$folder/ledger.dump"
    ;;
*) usage ;;
esac
