#!/bin/sh
# Runs a command here, in this folder, with the Python of another release of Debian: trixie has 3.13, sid has 3.14.
#
#     tools/in_debian.sh trixie /tmp/trixie make test-python
#
# The release is put into the folder with debootstrap, where it is not there yet (some minutes, 700 MB). The command sees this folder, and
# what tells pip where packages are, and nothing else of this machine's. Needs root, debootstrap and unshare. IN_DEBIAN_PACKAGES: what else
# of the release is installed, once. IN_DEBIAN_BIND: what else of this machine is seen.
#
# Ends with 69 where the release cannot be had or entered here, and with the command's own exit status otherwise.
set -eu
[ $# -ge 3 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | sed '$d' >&2; exit 2; }
suite=$1 root=$2
shift 2
unavailable() {
    echo "Debian $suite cannot be had here: $1" >&2
    exit 69
}

# Only what debootstrap can configure by itself; the rest comes by apt, which resolves what pre-depends on what. The stamp comes last:
# a folder without it is the rest of one that was broken off.
stamp=$root/etc/rocksyd-complete
if [ ! -e "$stamp" ]; then
    for needed in debootstrap unshare; do
        command -v $needed >/dev/null || unavailable "$needed is not installed"
    done
    [ ! -e "$root" ] || [ -e "$root/debootstrap" ] || [ -e "$root/etc/debian_version" ] || unavailable "$root exists, and is no Debian"
    rm -rf "$root"
    {
        debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" &&
            printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" && chmod +x "$root/usr/sbin/policy-rc.d" &&
            echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io" &&
            chroot "$root" env LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
                python3 python3-venv python3-dev gcc libc6-dev make git zsh fish logrotate libmemcached-tools ${IN_DEBIAN_PACKAGES-} &&
            chroot "$root" apt-get clean && touch "$stamp"
    } >"$root.log" 2>&1 </dev/null || unavailable "$(tail -n 3 "$root.log")"
fi

# Where pip looks for packages on this machine, if in folders: an index and, beside it, the files that it names.
sources=$(python3 -m pip config list 2>/dev/null | grep -o "file://[^' ]*" | sed 's,^file://,,; s,/simple/*$,,') || true
[ -z "${PIP_FIND_LINKS-}" ] || sources="$sources $PIP_FIND_LINKS"
export IN_DEBIAN_ROOT="$root" IN_DEBIAN_HERE="$PWD" IN_DEBIAN_SOURCES="$sources"
unshare --mount --propagation private true 2>/dev/null || unavailable "this user may not unshare mounts"
exec unshare --mount --propagation private sh -euc '
    cannot() { echo "Debian cannot be entered here: $1 cannot be mounted" >&2; exit 69; }
    mount --bind "$IN_DEBIAN_ROOT" "$IN_DEBIAN_ROOT" || cannot / # a root that is no mount point cannot be unshared any further
    for folder in proc sys dev; do mount --rbind "/$folder" "$IN_DEBIAN_ROOT/$folder" || cannot "/$folder"; done
    mount -t tmpfs -o mode=1777 tmp "$IN_DEBIAN_ROOT/tmp" || cannot /tmp
    config=$HOME/.config/pip
    for path in "$IN_DEBIAN_HERE" /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/xdg/pip "$config" "${PIP_CERT-}" $IN_DEBIAN_SOURCES ${IN_DEBIAN_BIND-}
    do
        [ -e "$path" ] || continue
        if [ -d "$path" ]; then
            mkdir -p "$IN_DEBIAN_ROOT$path"
        else
            mkdir -p "$IN_DEBIAN_ROOT${path%/*}" && [ -e "$IN_DEBIAN_ROOT$path" ] || : >"$IN_DEBIAN_ROOT$path"
        fi
        mount --bind "$path" "$IN_DEBIAN_ROOT$path" || cannot "$path"
    done
    exec chroot "$IN_DEBIAN_ROOT" env LANG=C.UTF-8 sh -c "cd \"\$IN_DEBIAN_HERE\" && exec \"\$@\"" sh "$@"
' sh "$@"
