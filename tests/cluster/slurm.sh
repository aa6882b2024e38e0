#!/bin/sh
# slurm.sh up|down DIR - a Slurm of one node on this machine, for tests: everything that it keeps lies below DIR.
# `up` installs Slurm where it is missing (Debian, as root), starts munged, slurmctld and slurmd, and returns once
# the node is idle; `export SLURM_CONF=DIR/slurm.conf` then leads there. Status 77: not on this machine. `down` cancels the jobs and ends the three.
# Memory is the machine's, and so are the CPUs, of which there are two at least: tests start two processes. The ports follow from the process, so that two can be up at a time.
set -eu
action=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
port=$((20000 + $$ % 10000 * 2))
PATH=$PATH:/usr/sbin:/sbin
export SLURM_CONF="$dir/slurm.conf"
node=$(hostname -s)
cpus=$(nproc)
[ "$cpus" -ge 2 ] || cpus=2

fail() { echo "slurm.sh: error: $*" >&2; exit 1; }
cannot() { echo "no Slurm on this machine: $*" >&2; exit 77; }

# The process of DIR/NAME.pid, if it is one of ours still.
alive() {
    pid=$(cat "$dir/$1.pid" 2>/dev/null) && [ -r "/proc/$pid/cmdline" ] || return 1
    tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$dir/"
}

write_conf() {
    # cred_expire: how long a job that was put back waits; the default of 2 min would be most of a test. But where the
    # machine stalls for longer than this while srun starts a step, that fails: "Job credential expired".
    # SchedulerParameters: else there would be a minute between two looks at the queue, and up to 3 s behind each
    # submission.
    cat <<END
ClusterName=test
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$dir/munge.sock,cred_expire=15
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmdParameters=config_overrides
MailProg=/bin/true
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=15
NodeName=$node NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$(slurmd -C | sed -n 's/.*RealMemory=\([0-9]*\).*/\1/p') State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=1:00:00 State=UP
PartitionName=closed Nodes=ALL Default=NO MaxTime=INFINITE State=DOWN
END
}

up() {
    if ! command -v slurmctld >/dev/null || ! command -v slurmd >/dev/null || ! command -v munged >/dev/null ||
        ! command -v sbatch >/dev/null; then
        [ "$(id -u)" = 0 ] || cannot "it is not installed, and only root could"
        sh "$(dirname "$0")/../packages.sh" slurm-wlm slurm-client munge
    fi
    [ "$(getent ahostsv4 "$node" | awk 'NR == 1 { print $1 }')" = 127.0.0.1 ] ||
        cannot "its name must lead to 127.0.0.1: put '127.0.0.1 $node' into /etc/hosts"
    mkdir -p "$dir/state" "$dir/spool"
    chmod 711 "$dir" # munge wants its socket to be within everybody's reach
    [ -s "$dir/munge.key" ] || (umask 077 && head -c 128 /dev/urandom >"$dir/munge.key")
    alive munged || munged --origin=127.0.0.1 --key-file="$dir/munge.key" --socket="$dir/munge.sock" \
        --pid-file="$dir/munged.pid" --log-file="$dir/munged.log" --seed-file="$dir/munge.seed"
    alive slurmctld || write_conf >"$SLURM_CONF"
    alive slurmctld || slurmctld -f "$SLURM_CONF"
    alive slurmd || slurmd -f "$SLURM_CONF" -N "$node"
    tries=120
    until timeout 5 sinfo -h -p test -o %T 2>/dev/null | grep -q '^idle$'; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "the node is not idle after 60 s: see $dir/slurmctld.log and $dir/slurmd.log"
        sleep 0.5
    done
}

down() {
    if alive slurmctld; then
        timeout 5 scontrol update nodename="$node" state=resume >/dev/null 2>&1 || true
        tries=120
        while [ -n "$(timeout 5 squeue -h -o %A 2>/dev/null)" ] && [ $tries -gt 0 ]; do
            timeout 5 squeue -h -t PD,R,S -o %A | xargs -r timeout 5 scancel || true
            tries=$((tries - 1))
            sleep 0.5
        done
    fi
    for daemon in slurmd slurmctld munged; do
        alive $daemon || continue
        kill "$pid"
        tries=40
        while alive $daemon; do
            tries=$((tries - 1))
            [ $tries -gt 0 ] || fail "$daemon (process $pid) has not ended 10 s after SIGTERM"
            sleep 0.25
        done
    done
}

case $action in
up) up ;;
down) down ;;
*) fail "$action: up or down is needed" ;;
esac
