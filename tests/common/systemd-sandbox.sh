#!/usr/bin/env bash
# A real, throw-away systemd: PID 1, logind, journald and a `systemd --user` of a test user, in
# namespaces of this machine and on an overlay of its file system. Nothing outside the state folder
# changes. Needs root, systemd, dbus, dbus-user-session, libpam-systemd, util-linux, and overlayfs
# and cgroup2 in the kernel.
#
#   systemd-sandbox.sh STATE start PROGRAM  boot; PROGRAM is /usr/local/bin/openclaw-node inside
#   systemd-sandbox.sh STATE user CMD…     run CMD as the test user, with its service manager
#   systemd-sandbox.sh STATE root CMD…     run CMD as root inside
#   systemd-sandbox.sh STATE reboot        stop and start again with the same files
#   systemd-sandbox.sh STATE stop          end everything and forget the files
#
# Exits 77 when this machine cannot do it, with the reason on standard error.
set -euo pipefail

STATE=$1 COMMAND=$2
shift 2
readonly USERNAME=tester USER_ID=1500
SELF=$(readlink -f "$0")
MACHINE=$STATE/machine

unable() { echo "systemd-sandbox: $*" >&2; exit 77; }
die() { echo "systemd-sandbox: $*" >&2; exit 1; }

leader() { cat "$STATE/pid1" 2>/dev/null; }
alive() { local pid; pid=$(leader) && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; }
inside() {
    alive || die "not running"
    nsenter -t "$(leader)" -m -u -i -p -C -n -r -w -- env -i "$@"
}
as_root() {
    inside container=systemd-sandbox PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        LANG=C.UTF-8 HOME=/root SYSTEMD_PAGER= SYSTEMD_COLORS=0 "$@"
}
as_user() {
    as_root runuser -u "$USERNAME" -- env -i PATH=/usr/local/bin:/usr/bin:/bin HOME="/home/$USERNAME" \
        USER="$USERNAME" LOGNAME="$USERNAME" LANG=C.UTF-8 SYSTEMD_PAGER= SYSTEMD_COLORS=0 \
        XDG_RUNTIME_DIR="/run/user/$USER_ID" DBUS_SESSION_BUS_ADDRESS="unix:path=/run/user/$USER_ID/bus" \
        sh -c 'cd "$HOME" && exec "$@"' sh "$@"
}

cgroup2() { awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts; }
own_cgroup() { echo "$(cgroup2)/openclaw-sandbox-$(basename "$STATE")"; }

# In a control group of its own, which a cgroup namespace then makes the root.
enter_cgroup() {
    mkdir -p "$(own_cgroup)"
    echo $$ >"$(own_cgroup)/cgroup.procs"
    exec unshare --cgroup "$SELF" "$STATE" --boot
}

# As PID 1 of the new namespaces: build the machine's file system, and become systemd.
boot() {
    local root=$MACHINE/root device
    mount --make-rprivate /
    mkdir -p "$root" "$MACHINE/upper" "$MACHINE/work"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$MACHINE/upper,workdir=$MACHINE/work" "$root"
    mount -t proc proc "$root/proc"
    mount --bind "$root/proc/sys" "$root/proc/sys"
    mount -o remount,bind,ro "$root/proc/sys"
    mount -t sysfs -o ro sysfs "$root/sys" 2>/dev/null || mount --rbind /sys "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=755 tmpfs "$root/dev"
    mkdir -p "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    ln -s /proc/self/fd/0 "$root/dev/stdin"
    ln -s /proc/self/fd/1 "$root/dev/stdout"
    ln -s /proc/self/fd/2 "$root/dev/stderr"
    for device in null:3 zero:5 full:7 random:8 urandom:9; do
        mknod -m 666 "$root/dev/${device%%:*}" c 1 "${device##*:}"
    done
    mknod -m 666 "$root/dev/tty" c 5 0
    mount -t tmpfs -o mode=755 tmpfs "$root/run"
    mkdir -p "$root/run/lock" "$root/run/dbus" "$root/run/systemd"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    touch "$root/usr/local/bin/openclaw-node"
    mount --bind "$(cat "$STATE/program")" "$root/usr/local/bin/openclaw-node"
    mount -o remount,bind,ro "$root/usr/local/bin/openclaw-node"
    describe_machine "$root"
    mkdir -p "$root/.outside"
    cd "$root"
    pivot_root . .outside
    umount -l /.outside
    # In a container systemd leaves this to whoever made it; credentials are passed on by it.
    mount --make-rshared /
    exec env -i container=systemd-sandbox LANG=C.UTF-8 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --system --unit=sandbox.target --log-target=console --log-level=notice \
        --show-status=no
}

# One target with what is wanted; what belongs to a physical boot is masked. A second boot keeps
# the units that were installed meanwhile.
describe_machine() {
    local root=$1 units=$1/etc/systemd/system unit
    if [ ! -e "$units/sandbox.target" ]; then
        rm -rf "$units"
        mkdir -p "$units" "$root/var/lib/systemd/linger" "$root/var/log/journal"
        for unit in systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service \
            systemd-tmpfiles-clean.timer systemd-udevd.service systemd-udev-trigger.service \
            systemd-udevd-kernel.socket systemd-udevd-control.socket systemd-sysctl.service \
            systemd-sysusers.service systemd-random-seed.service systemd-update-utmp.service \
            systemd-binfmt.service systemd-modules-load.service kmod-static-nodes.service \
            modprobe@.service proc-sys-fs-binfmt_misc.automount sys-fs-fuse-connections.mount \
            sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
            dev-hugepages.mount dev-mqueue.mount systemd-repart.service systemd-firstboot.service \
            systemd-machine-id-commit.service systemd-remount-fs.service systemd-pcrphase.service \
            systemd-pcrphase-sysinit.service systemd-pstore.service systemd-hwdb-update.service \
            systemd-ask-password-console.path systemd-initctl.socket getty.target \
            console-getty.service; do
            ln -s /dev/null "$units/$unit"
        done
        mkdir -p "$units/sandbox.target.wants"
        cat >"$units/sandbox.target" <<-'TARGET'
			[Unit]
			Description=Throw-away machine
			Requires=basic.target
			Wants=dbus.socket dbus.service systemd-logind.service systemd-journald.service
			Wants=network-online.target multi-user.target
			After=basic.target systemd-logind.service
			AllowIsolate=yes
		TARGET
        # What starts at boot is what the test installs.
        rm -rf "$root/lib/systemd/system/multi-user.target.wants"
        [ -s "$root/etc/machine-id" ] || dbus-uuidgen >"$root/etc/machine-id"
        echo systemd-sandbox >"$root/etc/hostname"
        echo "$USERNAME:x:$USER_ID:$USER_ID::/home/$USERNAME:/bin/bash" >>"$root/etc/passwd"
        echo "$USERNAME:x:$USER_ID:" >>"$root/etc/group"
        echo "$USERNAME:*:19000:0:99999:7:::" >>"$root/etc/shadow"
        mkdir -p "$root/home/$USERNAME"
        chown "$USER_ID:$USER_ID" "$root/home/$USERNAME"
        chmod 700 "$root/home/$USERNAME"
    fi
    hostname systemd-sandbox
}

start() {
    local tool supervisor pid
    [ "$(id -u)" = 0 ] || unable "only root can do this"
    for tool in unshare nsenter runuser pivot_root dbus-daemon dbus-uuidgen loginctl; do
        command -v "$tool" >/dev/null || unable "$tool is missing"
    done
    [ -x /lib/systemd/systemd ] || unable "systemd is missing"
    grep -qw overlay /proc/filesystems || unable "the kernel has no overlayfs"
    if [ -z "$(cgroup2)" ]; then
        mkdir -p "$STATE/cgroup2"
        mount -t cgroup2 cgroup2 "$STATE/cgroup2" || unable "cgroup2 cannot be mounted"
    fi
    mkdir -p "$(own_cgroup)" 2>/dev/null || unable "no control group can be made"
    mkdir -p "$MACHINE"
    if ! mountpoint -q "$MACHINE"; then
        # The upper folder of an overlay cannot be on an overlay.
        mount -t tmpfs -o mode=755 tmpfs "$MACHINE" || unable "tmpfs cannot be mounted"
    fi
    setsid unshare --mount --pid --fork --uts --ipc --kill-child=SIGKILL --propagation private \
        "$SELF" "$STATE" --enter-cgroup </dev/null >"$STATE/console.log" 2>&1 &
    supervisor=$!
    echo "$supervisor" >"$STATE/supervisor"
    for _ in $(seq 400); do
        pid=$(awk '{ print $1 }' "/proc/$supervisor/task/$supervisor/children" 2>/dev/null || true)
        if [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = systemd ]; then break; fi
        kill -0 "$supervisor" 2>/dev/null || unable "no boot: $(cat "$STATE/console.log")"
        sleep 0.05
    done
    echo "$pid" >"$STATE/pid1"
    await as_root systemctl is-system-running
    as_root loginctl enable-linger "$USERNAME"
    await as_user systemctl --user is-system-running
}

# Waits until a manager says that it is up.
await() {
    for _ in $(seq 600); do
        case $("$@" 2>/dev/null || true) in running | degraded) return ;; esac
        sleep 0.1
    done
    cat "$STATE/console.log" >&2
    die "not up: $*"
}

halt() {
    local supervisor
    if alive; then kill -KILL "$(leader)" 2>/dev/null || true; fi
    supervisor=$(cat "$STATE/supervisor" 2>/dev/null || true)
    for _ in $(seq 200); do
        if [ -z "$supervisor" ] || ! kill -0 "$supervisor" 2>/dev/null; then break; fi
        sleep 0.05
    done
    rm -f "$STATE/pid1" "$STATE/supervisor"
    if [ -d "$(own_cgroup)" ]; then
        find "$(own_cgroup)" -depth -type d -exec rmdir {} + 2>/dev/null || true
    fi
}

case $COMMAND in
    start)
        readlink -f "$1" >"$STATE/program"
        start
        ;;
    user) as_user "$@" ;;
    root) as_root "$@" ;;
    reboot)
        as_root systemctl stop "user@$USER_ID.service" || true
        halt
        start
        ;;
    stop)
        halt
        for folder in "$MACHINE" "$STATE/cgroup2"; do
            if mountpoint -q "$folder"; then umount -l "$folder"; fi
        done
        ;;
    --enter-cgroup) enter_cgroup ;;
    --boot) boot ;;
    *) die "unknown command $COMMAND" ;;
esac
