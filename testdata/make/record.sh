#!/usr/bin/env bash
# Records real programs that talk to each other: two network namespaces, a cable between them, nothing outside.
# Writes http, http_ipv6, dns, tls, ssh and ping .pcap into the folder given, testdata/captures if none is.
# Needs root, ip, tcpdump, python3, curl, openssl, ssh and ping. A recording differs from the one before it in its times,
# ports and random bytes, so it is made once and committed; the golden outputs then change with it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../captures}
client=fcrec-c$$ server=fcrec-s$$
work=$(mktemp -d)
children=()

cleanup() {
  for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
  ip netns del "$client" 2>/dev/null || true
  ip netns del "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

ip netns add "$client"
ip netns add "$server"
ip -n "$client" link add eth0 address 02:00:00:00:00:0a type veth peer name eth0 address 02:00:00:00:00:0b netns "$server"
for end in "$client 10.0.0.1 fd00::1" "$server 10.0.0.2 fd00::2"; do
  read -r ns v4 v6 <<<"$end"
  ip -n "$ns" addr add "$v4/24" dev eth0
  ip -n "$ns" addr add "$v6/64" dev eth0 nodad
  ip -n "$ns" link set lo up
  ip -n "$ns" link set eth0 up
done

on() { local ns=$1; shift; ip netns exec "$ns" "$@"; }

# In the background, so that $! is the program itself.
start() { local ns=$1; shift; exec ip netns exec "$ns" "$@"; }

# record NAME FILTER: starts the recorder; finish NAME: stops it.
record() {
  start "$client" tcpdump -q -n -U --immediate-mode -i eth0 -w "$work/$1.pcap" "$2" 2>"$work/$1.log" &
  recorder=$!
  children+=("$recorder")
  until grep -qs listening "$work/$1.log"; do sleep 0.05; done
}
finish() {
  sleep 0.5
  kill -TERM "$recorder"
  wait "$recorder" || true
  cp "$work/$1.pcap" "$out/$1.pcap"
}

# A server that listens on a port, in the background, until it answers.
serve() {
  local port=$1; shift
  start "$server" "$@" >/dev/null 2>&1 &
  children+=($!)
  until on "$server" ss -Htln "sport = :$port" | grep -q .; do sleep 0.05; done
}

mkdir "$work/site"
python3 -c 'print("".join(f"line {i} of a page\n" for i in range(200)))' >"$work/site/page.txt"
serve 80 python3 -m http.server --directory "$work/site" --bind :: 80
record http 'tcp port 80'
on "$client" curl -s -o /dev/null http://10.0.0.2/page.txt
on "$client" curl -s -o /dev/null http://10.0.0.2/missing.txt
finish http
record http_ipv6 'tcp port 80'
on "$client" curl -s -o /dev/null 'http://[fd00::2]/page.txt'
finish http_ipv6

record dns 'udp port 53'
start "$server" python3 "$here/talk.py" dns-server 10.0.0.2 3 >"$work/dns" &
children+=($!)
until grep -q ready "$work/dns"; do sleep 0.05; done
on "$client" python3 "$here/talk.py" dns-client 10.0.0.2 www.example.com
on "$client" python3 "$here/talk.py" dns-client 10.0.0.2 mail.example.com example.org
finish dns

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=www.example.com \
  -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
serve 443 openssl s_server -accept 443 -key "$work/key.pem" -cert "$work/cert.pem" -www
record tls 'tcp port 443'
on "$client" curl -s -k -o /dev/null --resolve www.example.com:443:10.0.0.2 https://www.example.com/
on "$client" curl -s -k -o /dev/null --tls-max 1.2 --resolve www.example.com:443:10.0.0.2 https://www.example.com/
finish tls

# The client is real; the server says its banner and hangs up.
serve 22 python3 -c 'import socket
with socket.create_server(("10.0.0.2", 22)) as listener:
    connection, _ = listener.accept()
    connection.sendall(b"SSH-2.0-example\r\n")
    connection.recv(4096)
    connection.close()'
record ssh 'tcp port 22'
on "$client" ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -F none 10.0.0.2 2>/dev/null || true
finish ssh

record ping 'icmp or icmp6'
on "$client" ping -q -c 3 -i 0.2 10.0.0.2 >/dev/null
on "$client" ping -q -c 2 -i 0.2 fd00::2 >/dev/null
finish ping
