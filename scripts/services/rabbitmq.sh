# shellcheck shell=bash disable=SC2034,SC2154
# Finds or starts a RabbitMQ server with a virtual host for this run, and exports OFFLOAD_TEST_AMQP_URL. Sourced by
# scripts/test.

rabbitmq_origin=    # where it comes from, for people
rabbitmq_vhost=     # the virtual host to remove at the end
rabbitmq_node=      # the node to reach it by with rabbitmqctl
rabbitmq_api=       # or the management API to reach it by
rabbitmq_pid=       # the process of an own instance
rabbitmq_container= # its container, if it runs in one

rabbitmq_provide() {
    local url="${OFFLOAD_TEST_AMQP_URL:-amqp://guest:guest@127.0.0.1:5672}"
    if [[ -z ${OFFLOAD_TEST_OWN_SERVICES:-} ]]; then
        local user password host port
        rabbitmq_parse "$url"
        if listens "$host" "$port"; then
            if rabbitmq_vhost_by_ctl || rabbitmq_vhost_by_api; then
                export OFFLOAD_TEST_AMQP_URL="${url%%://*}://$user:$password@$host:$port/$rabbitmq_vhost"
                rabbitmq_origin="the server at $host:$port, virtual host $rabbitmq_vhost"
                return
            fi
            say "no virtual host can be created on the RabbitMQ at $host:$port"
        elif [[ -n ${OFFLOAD_TEST_AMQP_URL:-} ]]; then
            say "the RabbitMQ that OFFLOAD_TEST_AMQP_URL names does not answer"
        fi
    fi
    rabbitmq_start
}

# Splits an AMQP URL into the caller's $user, $password, $host and $port.
rabbitmq_parse() {
    local rest=${1#*://} login=guest:guest
    rest=${rest%%[/?]*}
    [[ $rest != *@* ]] || login=${rest%@*} rest=${rest##*@}
    user=${login%%:*} password=${login#*:} host=${rest%%:*} port=5672
    [[ $1 != amqps://* ]] || port=5671
    [[ $rest != *:* ]] || port=${rest##*:}
}

rabbitmq_ctl() { timeout 60 rabbitmqctl -q ${rabbitmq_node:+-n "$rabbitmq_node"} "$@" </dev/null; }

# Creates the virtual host on a node of this machine: the one that listens on that port.
rabbitmq_vhost_by_ctl() {
    command -v rabbitmqctl >/dev/null && [[ $host =~ ^(127\..*|localhost)$ ]] || return
    local name vhost=offload-test-$OFFLOAD_TEST_RUN
    for name in ${RABBITMQ_NODENAME:-} $(epmd -names 2>/dev/null | sed -nE 's/^name (\S+) at .*/\1/p' | sort -u); do
        for rabbitmq_node in "$name@localhost" "$name@$(hostname -s 2>/dev/null)" "$name"; do
            [[ $name != *@* ]] || rabbitmq_node=$name
            rabbitmq_listens_on "$port" || continue
            rabbitmq_ctl add_vhost "$vhost" >/dev/null 2>&1 || continue
            rabbitmq_vhost=$vhost
            if rabbitmq_ctl set_permissions -p "$vhost" "$user" '.*' '.*' '.*' >/dev/null 2>&1; then return; fi
            rabbitmq_ctl delete_vhost "$vhost" >/dev/null 2>&1
            rabbitmq_vhost=
        done
    done
    rabbitmq_node=
    return 1
}

# Whether the node of $rabbitmq_node is the one that listens on this port.
rabbitmq_listens_on() {
    timeout 60 rabbitmqctl -q -n "$rabbitmq_node" eval \
        '[io:format("port ~p~n", [P]) || {listener, _, amqp, _, _, P, _} <- rabbit_networking:active_listeners()].' \
        2>/dev/null </dev/null | grep -qx "port $1"
}

rabbitmq_vhost_by_api() {
    command -v curl >/dev/null || return
    local api="${OFFLOAD_TEST_RABBITMQ_API:-http://$host:15672}" vhost=offload-test-$OFFLOAD_TEST_RUN
    rabbitmq_api_call() { curl -sf -m 10 -u "$user:$password" -H 'content-type: application/json' "$@"; }
    rabbitmq_api_call -X PUT "$api/api/vhosts/$vhost" >/dev/null 2>&1 || return
    rabbitmq_vhost=$vhost rabbitmq_api=$api
    rabbitmq_api_call -X PUT "$api/api/permissions/$vhost/$user" -d '{"configure":".*","write":".*","read":".*"}' \
        >/dev/null
}

# The folder of the server's own scripts: the ones in PATH on Debian insist on the user `rabbitmq`.
rabbitmq_programs() {
    local folder
    for folder in /usr/lib/rabbitmq/bin /opt/homebrew/opt/rabbitmq/sbin /usr/local/opt/rabbitmq/sbin \
        "$(dirname "$(command -v rabbitmq-server 2>/dev/null || echo /none/none)")"; do
        if [[ -x $folder/rabbitmq-server && -x $folder/rabbitmqctl ]]; then
            echo "$folder"
            return
        fi
    done
    return 1
}

rabbitmq_start() {
    if ! rabbitmq_bin=$(rabbitmq_programs); then
        local engine
        if install RabbitMQ rabbitmq-server rabbitmq; then
            rabbitmq_bin=$(rabbitmq_programs) || die "RabbitMQ was installed, but its programs were not found"
        elif engine=$(container_engine); then
            rabbitmq_start_container "$engine"
            return
        else
            die "RabbitMQ 3.10+ is needed: install it, set OFFLOAD_TEST_AMQP_URL, or allow apt-get (root or sudo)," \
                "Homebrew or a container engine"
        fi
    fi
    rabbitmq_home=$scratch/rabbitmq
    mkdir "$rabbitmq_home"
    local port
    port=$(free_port)
    printf 'listeners.tcp.1 = 127.0.0.1:%s\nlog.file.level = warning\n' "$port" >"$rabbitmq_home/rabbitmq.conf"
    echo '[].' >"$rabbitmq_home/plugins"
    # Left to themselves, the server and the first tool would each make up a cookie, and one of them would lose.
    printf '%s%s%s' "$RANDOM" "$RANDOM" "$RANDOM" >"$rabbitmq_home/.erlang.cookie"
    chmod 400 "$rabbitmq_home/.erlang.cookie"
    # An environment of its own, so that nothing of an installed server is read, written or joined: its port mapper too.
    rabbitmq_environment=(
        HOME="$rabbitmq_home" ERL_EPMD_PORT="$(free_port)" ERL_EPMD_ADDRESS=127.0.0.1
        RABBITMQ_NODENAME="offload-test-$OFFLOAD_TEST_RUN@localhost" RABBITMQ_DIST_PORT="$(free_port)"
        RABBITMQ_CONF_ENV_FILE="$rabbitmq_home/none" RABBITMQ_CONFIG_FILE="$rabbitmq_home/rabbitmq.conf"
        RABBITMQ_ADVANCED_CONFIG_FILE="$rabbitmq_home/none" RABBITMQ_ENABLED_PLUGINS_FILE="$rabbitmq_home/plugins"
        RABBITMQ_MNESIA_BASE="$rabbitmq_home/data" RABBITMQ_LOG_BASE="$rabbitmq_home/log"
        RABBITMQ_PID_FILE="$rabbitmq_home/pid"
    )
    # In a session of its own: Ctrl-C is for this script, which then stops it in good order.
    (cd "$rabbitmq_home" && exec setsid env "${rabbitmq_environment[@]}" "$rabbitmq_bin/rabbitmq-server" \
        >"$rabbitmq_home/out" 2>&1 </dev/null) &
    rabbitmq_pid=$!
    if ! within 90 rabbitmq_started || ! listens 127.0.0.1 "$port"; then
        tail -n 20 "$rabbitmq_home/out" "$rabbitmq_home/startup" >&2
        die "RabbitMQ did not start; its last lines are above"
    fi
    export OFFLOAD_TEST_AMQP_URL="amqp://guest:guest@127.0.0.1:$port/%2f"
    rabbitmq_origin="an instance of its own ($rabbitmq_bin, port $port)"
}

# Whether the own instance has finished booting.
rabbitmq_started() {
    kill -0 "$rabbitmq_pid" && rabbitmq_own ctl await_startup --timeout 60 >"$rabbitmq_home/startup" 2>&1
}

# Runs a command-line tool of the own instance.
rabbitmq_own() {
    local tool=$1
    shift
    timeout 90 env "${rabbitmq_environment[@]}" "$rabbitmq_bin/rabbitmq$tool" -q "$@" </dev/null
}

rabbitmq_start_container() {
    rabbitmq_container=offload-test-rabbitmq-$OFFLOAD_TEST_RUN
    say "starting RabbitMQ in a container ($1)"
    "$1" run --rm -d --name "$rabbitmq_container" -p 127.0.0.1::5672 docker.io/library/rabbitmq:4 >/dev/null ||
        die "the RabbitMQ container did not start"
    rabbitmq_engine=$1
    within 120 "$1" exec "$rabbitmq_container" rabbitmq-diagnostics -q check_port_connectivity ||
        die "RabbitMQ in its container did not become ready"
    local port
    port=$("$1" port "$rabbitmq_container" 5672/tcp | head -n 1)
    export OFFLOAD_TEST_AMQP_URL="amqp://guest:guest@127.0.0.1:${port##*:}/%2f"
    rabbitmq_origin="a container of its own (port ${port##*:})"
}

rabbitmq_cleanup() {
    if [[ -n $rabbitmq_container ]]; then
        "$rabbitmq_engine" rm -f "$rabbitmq_container" >/dev/null 2>&1
    elif [[ -n $rabbitmq_pid ]]; then
        # Its data is thrown away, so it need not take its time.
        rabbitmq_own ctl stop >/dev/null 2>&1 || kill -KILL -- "-$rabbitmq_pid" 2>/dev/null
        wait "$rabbitmq_pid" 2>/dev/null
        env "${rabbitmq_environment[@]}" epmd -kill >/dev/null 2>&1
    elif [[ -n $rabbitmq_api ]]; then
        rabbitmq_api_call -X DELETE "$rabbitmq_api/api/vhosts/$rabbitmq_vhost" >/dev/null
    elif [[ -n $rabbitmq_vhost ]]; then
        rabbitmq_ctl delete_vhost "$rabbitmq_vhost" >/dev/null
    fi
}
