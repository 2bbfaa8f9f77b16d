# shellcheck shell=bash disable=SC2034,SC2154
# Finds or starts a PostgreSQL server, and exports OFFLOAD_TEST_DATABASE_URL. Sourced by scripts/test.

postgres_origin=    # where it comes from, for people
postgres_data=      # the data folder of an own instance
postgres_container= # its container, if it runs in one

postgres_provide() {
    local given="${OFFLOAD_TEST_DATABASE_URL:-}" host="${PGHOST:-127.0.0.1}" port="${PGPORT:-5432}"
    if [[ -z ${OFFLOAD_TEST_OWN_SERVICES:-} ]]; then
        if [[ -n $given ]]; then
            if postgres_usable "$given"; then
                postgres_origin="the server that OFFLOAD_TEST_DATABASE_URL names"
                return
            fi
            say "the server that OFFLOAD_TEST_DATABASE_URL names is not usable ($postgres_why)"
        elif [[ $host == /* ]] || listens "$host" "$port"; then
            local user="${PGUSER:-postgres}" address="@$host:$port"
            [[ $host != /* ]] || address="@:$port"
            local url="postgres://$user${PGPASSWORD:+:$PGPASSWORD}$address/postgres"
            [[ $host != /* ]] || url="$url?host=$host"
            if postgres_usable "$url"; then
                export OFFLOAD_TEST_DATABASE_URL=$url
                postgres_origin="the server at $host:$port"
                return
            fi
            say "the PostgreSQL at $host:$port is not usable ($postgres_why)"
        fi
    fi
    postgres_start
}

# Whether databases can be created at a URL; says why not in $postgres_why.
postgres_usable() {
    command -v psql >/dev/null || install "the PostgreSQL client" postgresql-client libpq || {
        postgres_why="psql is not installed"
        return 1
    }
    local answer
    answer=$(PGCONNECT_TIMEOUT=5 psql -XAtqw "$1" -c "SELECT current_setting('server_version_num')::int >= 150000,
        rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user" 2>&1 </dev/null) || {
        postgres_why=${answer//$'\n'/ }
        return 1
    }
    case $answer in
        t\|t) return ;;
        f\|*) postgres_why="it is older than version 15" ;;
        *) postgres_why="its role may not create databases" ;;
    esac
    return 1
}

# The folder of the newest installed server programs, at least version 15.
postgres_programs() {
    local folder version
    for folder in $(printf '%s\n' /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql@*/bin \
        /usr/local/opt/postgresql@*/bin | sort -rV) "$(pg_config --bindir 2>/dev/null)"; do
        [[ -x $folder/initdb && -x $folder/postgres ]] || continue
        version=$("$folder/postgres" --version | sed -E 's/[^0-9]*([0-9]+).*/\1/')
        if ((version >= 15)); then
            echo "$folder"
            return
        fi
    done
    return 1
}

postgres_start() {
    local programs
    if ! programs=$(postgres_programs); then
        local engine
        if install PostgreSQL postgresql postgresql@17; then
            programs=$(postgres_programs) || die "the PostgreSQL that was installed is older than version 15"
        elif engine=$(container_engine); then
            postgres_start_container "$engine"
            return
        else
            die "PostgreSQL 15+ is needed: install it, set OFFLOAD_TEST_DATABASE_URL, or allow apt-get (root or sudo)," \
                "Homebrew or a container engine"
        fi
    fi
    # PostgreSQL refuses to run as root; any other user will do.
    postgres_run=()
    if ((EUID == 0)); then
        local user=postgres
        id -u "$user" >/dev/null 2>&1 || user=nobody
        postgres_run=(setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups env HOME="$scratch")
    fi
    postgres_pg_ctl=$programs/pg_ctl
    local data=$scratch/postgres port
    mkdir "$data"
    ((EUID != 0)) || chown "$user" "$data"
    chmod 700 "$data"
    postgres_ "$programs/initdb" -D "$data" -U postgres --auth=trust --encoding=UTF8 --locale=C --no-sync \
        >"$scratch/postgres.log" 2>&1 || postgres_failed
    port=$(free_port)
    # It holds nothing of value, so it need not wait for the disk.
    postgres_data=$data
    postgres_ "$postgres_pg_ctl" -D "$data" -w -t 60 -l "$data/server.log" -o "-c port=$port \
        -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=300 -c fsync=off" \
        start >>"$scratch/postgres.log" 2>&1 </dev/null || postgres_failed
    export OFFLOAD_TEST_DATABASE_URL="postgres://postgres@127.0.0.1:$port/postgres"
    postgres_origin="an instance of its own ($programs, port $port)"
}

# Runs a server program as the user that the instance belongs to.
postgres_() { (cd / && "${postgres_run[@]}" "$@"); }

postgres_failed() {
    cat "$scratch/postgres.log" "$postgres_data/server.log" 2>/dev/null | tail -n 20 >&2
    die "PostgreSQL did not start; its last lines are above"
}

postgres_start_container() {
    postgres_container=offload-test-postgres-$OFFLOAD_TEST_RUN
    say "starting PostgreSQL in a container ($1)"
    "$1" run --rm -d --name "$postgres_container" -p 127.0.0.1::5432 -e POSTGRES_HOST_AUTH_METHOD=trust \
        docker.io/library/postgres:17 -c max_connections=300 -c fsync=off >/dev/null ||
        die "the PostgreSQL container did not start"
    postgres_engine=$1
    within 120 "$1" exec "$postgres_container" pg_isready -h 127.0.0.1 -U postgres ||
        die "PostgreSQL in its container did not become ready"
    local port
    port=$("$1" port "$postgres_container" 5432/tcp | head -n 1)
    export OFFLOAD_TEST_DATABASE_URL="postgres://postgres@127.0.0.1:${port##*:}/postgres"
    postgres_origin="a container of its own (port ${port##*:})"
}

postgres_cleanup() {
    if [[ -n $postgres_container ]]; then
        "$postgres_engine" rm -f "$postgres_container" >/dev/null 2>&1
    elif [[ -n $postgres_data ]]; then
        postgres_ "$postgres_pg_ctl" -D "$postgres_data" -m immediate -w stop >/dev/null 2>&1
    elif [[ -n $postgres_origin ]]; then
        # What tests that were killed could not drop themselves.
        psql -XAtqw "$OFFLOAD_TEST_DATABASE_URL" -c "SELECT format('DROP DATABASE %I WITH (FORCE);', datname)
            FROM pg_database WHERE starts_with(datname, 'offload_test_${OFFLOAD_TEST_RUN}_')" |
            psql -Xqw "$OFFLOAD_TEST_DATABASE_URL"
    fi
}
