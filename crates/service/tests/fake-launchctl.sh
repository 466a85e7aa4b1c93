#!/bin/sh
# A launchctl that remembers: which agent is loaded, whether it is enabled, and every call. Files in
# `state` beside it make it misbehave: `leaving` holds how many questions a booted-out agent still
# answers, `daemon` puts the label into the system domain, `no-session` takes the desktop away.
set -eu
state=$(dirname "$0")/state
echo "$*" >>"$state/calls"

missing() {
    echo "Could not find service \"ai.openclaw.node\" in domain" >&2
    exit 113
}
refuse() {
    echo "$2" >&2
    exit "$1"
}

case $1 in
    version) echo "a launchctl of the tests" ;;
    print)
        case $2 in
            system/*) if [ ! -e "$state/daemon" ]; then missing; fi ;;
            *)
                if [ -e "$state/leaving" ]; then
                    left=$(cat "$state/leaving")
                    if [ "$left" -gt 0 ]; then
                        echo $((left - 1)) >"$state/leaving"
                        exit 0
                    fi
                    rm "$state/leaving" "$state/loaded"
                fi
                if [ ! -e "$state/loaded" ]; then missing; fi
                printf '%s = {\n\tactive count = 1\n\tpath = %s\n' "$2" "$(cat "$state/loaded")"
                if [ -e "$state/exited" ]; then
                    printf '\tstate = not running\n\tlast exit code = %s\n}\n' "$(cat "$state/exited")"
                else
                    printf '\tstate = running\n\tpid = 4242\n\tlast exit code = (never exited)\n}\n'
                fi
                ;;
        esac
        ;;
    enable) rm -f "$state/disabled" ;;
    disable) : >"$state/disabled" ;;
    bootstrap)
        if [ -e "$state/no-session" ]; then refuse 125 "Domain does not support specified action"; fi
        if [ -e "$state/loaded" ]; then refuse 5 "Bootstrap failed: 5: Input/output error"; fi
        if [ -e "$state/disabled" ]; then refuse 119 "Service is disabled"; fi
        echo "$3" >"$state/loaded"
        ;;
    bootout)
        if [ ! -e "$state/loaded" ]; then refuse 3 "Boot-out failed: 3: No such process"; fi
        if [ ! -e "$state/leaving" ]; then rm "$state/loaded"; fi
        ;;
    kickstart)
        if [ ! -e "$state/loaded" ]; then missing; fi
        rm -f "$state/exited"
        ;;
    *) refuse 64 "unknown subcommand" ;;
esac
