#!/usr/bin/env bash
# Lets real programs of a machine and of its peer talk, two network namespaces with a cable between them, and writes into
# testdata/owners, or into the folder given: the machine's sockets before and after something has changed, and a capture
# with the sockets that were recorded beside it. Needs root, ip, ss, tcpdump, curl, python3 and the path of a flowcap in
# FLOWCAP. Every run gives other times, ports and process ids, so it is made once and committed.
set -euo pipefail

flowcap=$(realpath "${FLOWCAP:?}")
out=$(realpath "${1:-$(dirname "$0")/../owners}")
near=fcown-n$$ far=fcown-f$$
work=$(mktemp -d)
children=()
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

cleanup() {
  for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
  ip netns del "$near" 2>/dev/null || true
  ip netns del "$far" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

ip netns add "$near"
ip netns add "$far"
ip -n "$near" link add eth0 address 02:00:00:00:00:0a type veth peer name eth0 address 02:00:00:00:00:0b netns "$far"
for end in "$near 192.0.2.10" "$far 192.0.2.20"; do
  read -r ns address <<<"$end"
  ip -n "$ns" addr add "$address/24" dev eth0
  ip -n "$ns" link set lo up
  ip -n "$ns" link set eth0 up
done

on() { local ns=$1; shift; ip netns exec "$ns" "$@"; }

# In the background, so that $! is the program itself.
start() { local ns=$1; shift; exec ip netns exec "$ns" "$@"; }

# Starts a server and waits until it listens on a port.
serve() {
  local ns=$1 port=$2; shift 2
  start "$ns" "$@" >/dev/null 2>&1 &
  children+=($!)
  until on "$ns" ss -Htln "sport = :$port" | grep -q .; do sleep 0.05; done
}

chmod 755 "$work"
mkdir "$work/site"
cd "$work/site"
seq 2000 >page.txt
serve "$near" 8080 setpriv --reuid www-data --regid www-data --clear-groups python3 -m http.server 8080
serve "$far" 80 python3 -m http.server 80
serve "$far" 5432 python3 -m http.server 5432

rm -f "$out"/*.jsonl "$out"/*.pcap
on "$near" "$flowcap" sockets -o "$out/before.jsonl"
start "$near" curl -s --max-time 9 telnet://192.0.2.20:5432 < <(sleep 9) &
children+=($!)
until on "$near" ss -Htn 'dport = :5432' | grep -q ESTAB; do sleep 0.05; done
serve "$near" 31337 python3 -m http.server 31337
on "$near" "$flowcap" sockets -o "$out/after.jsonl"

start "$near" tcpdump -q -n -U --immediate-mode -i eth0 -w "$work/flows.pcap" 'tcp port 80 or 8080' 2>"$work/log" &
recorder=$!
start "$near" "$flowcap" -q -i eth0 -f 'tcp port 80 or 8080' -o "$work/flows.jsonl" --write-sockets "$out/sockets.jsonl" &
meter=$!
children+=("$recorder" "$meter")
until grep -qs listening "$work/log"; do sleep 0.05; done
sleep 1
on "$near" curl -s -o /dev/null http://192.0.2.20/page.txt
on "$far" curl -s -o /dev/null http://192.0.2.10:8080/page.txt
sleep 0.5
kill -TERM "$recorder" "$meter"
wait "$recorder" "$meter" || true
cp "$work/flows.pcap" "$out/flows.pcap"
