#!/bin/sh
# cluster_net.sh - processes that each live in a network namespace of their own, behind a link of a given rate:
#     sh bench/cluster_net.sh RATE PROCESSES COMMAND ...       (as root; RATE as tc has it: 1gbit)
# COMMAND finds in its environment LAUNCH, which starts what follows it as so many processes that talk by TCP. All links
# meet in one bridge; what leaves a namespace waits in a token bucket (tc's tbf) until the rate allows it. No delay is
# added to that of the machine itself.
set -e
rate=$1 n=$2
shift 2
name=scale$$
tmp=$(mktemp -d)

down() {
	for i in $(seq "$n"); do
		ip netns pids "$name-$i" 2>/dev/null | xargs -r kill 2>/dev/null || true
		ip netns del "$name-$i" 2>/dev/null || true
	done
	ip link del "$name" 2>/dev/null || true
	rm -rf "$tmp"
}
trap down EXIT
trap 'exit 1' INT TERM

# What mpirun starts on a host: its address's last number is the namespace's.
cat > "$tmp/agent" <<END
#!/bin/sh
host=\$1
shift
exec ip netns exec $name-\${host##*.} sh -c "\$*"
END
chmod +x "$tmp/agent"

ip link add "$name" type bridge
ip link set "$name" up
for i in $(seq "$n"); do
	ip netns add "$name-$i"
	ip link add "$name.$i" type veth peer name eth0 netns "$name-$i"
	ip link set "$name.$i" master "$name" up
	ip -n "$name-$i" addr add "10.77.0.$i/24" dev eth0
	ip -n "$name-$i" link set lo up
	ip -n "$name-$i" link set eth0 up
	tc -n "$name-$i" qdisc add dev eth0 root tbf rate "$rate" burst 1mb latency 100ms
	echo "10.77.0.$i slots=1" >> "$tmp/hosts"
done
LAUNCH="mpirun --hostfile $tmp/hosts -np $n --map-by node --mca plm rsh --mca plm_rsh_agent $tmp/agent --mca plm_rsh_no_tree_spawn 1"
LAUNCH="$LAUNCH --mca btl self,tcp --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24"
LAUNCH="ip netns exec $name-1 $LAUNCH"
export LAUNCH OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
"$@"
